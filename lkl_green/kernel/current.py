"""Which kernel the calling code runs in.

In-kernel code is written as if there were one kernel: `schedule()`, `current()`, `printk()`. On one OS thread at most
one kernel runs at any moment, from `lkl_run()` to its return; what runs meanwhile (its tasks, interrupt handlers and
callbacks) is its code. So the kernel is a property of the OS thread: set on entry to `lkl_run()` and restored on exit,
and set for good on the OS threads that a thread host makes for kernel threads. Two kernels in two threads do not see
each other, nor do two in one thread.

Dropped: a plain global, wrong with two kernels in two threads; and a context variable, which each greenlet would have
to inherit: `ContextVar.get()` takes 7 ns as long as its cache holds, but every greenlet switch empties that cache, and
setting and resetting one on each `lkl_run()` costs more than a switch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.errors import NoCurrentKernel
from lkl_green.host.native import local

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel


class _RunningHere(local):
    """The kernel that runs on this OS thread; None while the application does."""

    kernel: Kernel | None = None


running_here = _RunningHere()


def current_kernel() -> Kernel:
    """The kernel whose code the caller is. Raises NoCurrentKernel elsewhere."""
    kernel = running_here.kernel
    if kernel is None:
        raise NoCurrentKernel(
            "no kernel runs here: in-kernel functions work in kernel threads, interrupt handlers and callbacks; "
            "the application uses the methods of its Kernel object, or passes kernel=... where a class takes it. "
            "A module that is imported earlier calls them later, in a kernel thread; only locks, completions, wait "
            "queues, kfifos, timers, works and tasklets can be made before there is a kernel"
        )
    return kernel
