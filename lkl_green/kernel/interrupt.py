"""Ctrl-C while a kernel runs.

Python raises KeyboardInterrupt wherever the main thread happens to be: in the middle of a kernel thread, or of
`schedule()`. While a kernel runs on the main thread, the first Ctrl-C is therefore put off until the current task gives
up the CPU, and `lkl_run()` raises it. A task that does not give up the CPU is reported after a second. A second Ctrl-C
is raised at once, wherever the main thread is.

An `lkl_run()` that finds Python's own handler installs this one in its place. It is removed when the kernel has halted.
Between two calls of `lkl_run()` it does what Python's handler does. All kernels share it: it looks up which one runs.
Dropped: installing it at the start of each `lkl_run()` and removing it at the end, which costs half as much as an idle
`lkl_run()`.
"""

from __future__ import annotations

import signal
import threading
from _signal import getsignal  # type: ignore[import-not-found]  # signal.getsignal() takes longer than lkl_run()
from signal import SIGINT, default_int_handler
from typing import TYPE_CHECKING

from lkl_green.host.native import allocate_lock, start_new_thread
from lkl_green.host.stacks import os_thread_frame
from lkl_green.kernel.current import running_here
from lkl_green.kernel.printk import KERN_ERR
from lkl_green.kernel.stacktext import told_line

if TYPE_CHECKING:
    from types import FrameType

    from lkl_green.host.native import LockType
    from lkl_green.kernel.kernel import Kernel

_PATIENCE_S = 1.0


def sigint_leaves_lkl_run(signum: int, frame: FrameType | None) -> None:
    """Handler of SIGINT: the first one makes a running `lkl_run()` raise KeyboardInterrupt; others raise it here."""
    kernel = running_here.kernel
    if kernel is None:
        default_int_handler(signum, frame)
    elif kernel.loop.fatal is None:
        kernel.loop.interrupted(KeyboardInterrupt())
        kernel.loop.left = left = allocate_lock()
        left.acquire()
        start_new_thread(_report_busy_task, (kernel, left))
    else:
        error = KeyboardInterrupt()
        error.add_note(kernel.report())  # now, while the thread that does not give up the CPU has its stack
        raise error


def defer_sigint() -> None:
    """Install the handler if Python's own is installed. Call it in the main thread."""
    if getsignal(SIGINT) is default_int_handler:
        signal.signal(SIGINT, sigint_leaves_lkl_run)


def restore_sigint() -> None:
    """Install Python's handler again if ours is installed. Call it in the main thread."""
    if getsignal(SIGINT) is sigint_leaves_lkl_run:
        signal.signal(SIGINT, default_int_handler)


def _report_busy_task(kernel: Kernel, left: LockType) -> None:
    """Print which task keeps the CPU, where, and what helps, unless `lkl_run()` ends within a second.

    Runs in an OS thread of its own.
    """
    if left.acquire(timeout=_PATIENCE_S):
        left.release()
        return
    task = kernel.sched.current
    if kernel.loop.fatal is None or task is kernel.sched.swapper:
        return
    ident = kernel.arch.os_thread_of(task)
    if ident == threading.main_thread().ident:
        advice = "press Ctrl-C again to raise KeyboardInterrupt there"
    else:  # Python raises it in the main thread only
        advice = "its OS thread gets no Ctrl-C; the watchdog ends it, if there is one"
    kernel.printk.printk(
        f"interrupted, but {task.comm}-{task.pid} has not reached a scheduling point since, at "
        f"{told_line(os_thread_frame(ident))}; {advice}",
        KERN_ERR,
    )
