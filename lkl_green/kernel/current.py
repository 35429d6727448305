"""Which kernel the calling code runs in.

In-kernel code is written as if there were one kernel: `schedule()`, `current()`, `printk()`. Its kernel is found
through a context variable: each kernel thread starts in a copy of its creator's context, so that the answer is right in
every greenlet and every OS thread, and two kernels in one process do not see each other. Dropped: a plain global, wrong
with two kernels in two threads; and a `threading.local`, shared by all greenlets of a thread and three times as dear.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from lkl_green.errors import NoCurrentKernel

if TYPE_CHECKING:
    from lkl_green.kernel.boot import Kernel

current_kernel_var: ContextVar[Kernel] = ContextVar("lkl_green.current_kernel")


def current_kernel() -> Kernel:
    """The kernel whose code the caller is. Raises NoCurrentKernel elsewhere."""
    try:
        return current_kernel_var.get()
    except LookupError:
        raise NoCurrentKernel(
            "no kernel runs here: in-kernel functions work in kernel threads, interrupt handlers and callbacks; "
            "the application uses the methods of its Kernel object, or passes kernel=... where a class takes it"
        ) from None
