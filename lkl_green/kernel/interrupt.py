"""Ctrl-C while a kernel runs.

Python raises KeyboardInterrupt wherever the main thread happens to be: in the middle of a kernel thread, or of
`schedule()`. While `Kernel.run()` is in charge, the first Ctrl-C therefore makes the kernel give up the CPU and is
raised out of `run()`. A kernel thread that does not give it up is named after a second. Another Ctrl-C is raised on the
spot, in whatever the main thread does.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lkl_green.host.native import allocate_lock, get_ident, start_new_thread
from lkl_green.host.stacks import os_thread_frame
from lkl_green.kernel.printk import KERN_ERR
from lkl_green.kernel.stacktext import told_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from lkl_green.host.native import LockType
    from lkl_green.kernel.kernel import Kernel

_PATIENCE_S = 1.0


@contextmanager
def sigint_leaves(kernel: Kernel) -> Iterator[None]:
    """Turn the first SIGINT into a KeyboardInterrupt raised by `lkl_run()`; only where Python's own handler is set."""
    in_main_thread = get_ident() == threading.main_thread().ident
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    loop = kernel.loop
    over = allocate_lock()
    over.acquire()

    def handler(_signum: int, _frame: FrameType | None) -> None:
        if loop.fatal is None and loop.running:
            loop.interrupted(KeyboardInterrupt())
            start_new_thread(_name_who_goes_on, (kernel, over))
            return
        error = KeyboardInterrupt()
        if loop.running:
            error.add_note(kernel.report())  # now, while the thread that does not give up the CPU has its stack
        raise error

    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        over.release()


def _name_who_goes_on(kernel: Kernel, over: LockType) -> None:
    """In an OS thread of its own: say why nothing happens, and what to do."""
    if over.acquire(timeout=_PATIENCE_S):
        over.release()
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
