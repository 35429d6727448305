"""A limit in real time for a run: `lkl_run()` raises TimeLimit when it is over."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lkl_green.errors import TimeLimit
from lkl_green.host.native import allocate_lock, start_new_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lkl_green.kernel.kernel import Kernel

# How long a kernel thread may take to the next scheduling point, and then the halt.
_GRACE_S = 1.0
_HALT_S = 10.0


@contextmanager
def time_limit(kernel: Kernel, limit_s: float, give_up: Callable[[TimeLimit], object]) -> Iterator[None]:
    """Have `lkl_run()` raise TimeLimit if the context lasts for too long.

    Args:
        kernel: the kernel that is run inside.
        limit_s: after how many seconds of real time.
        give_up: called in another OS thread if the kernel cannot be stopped: a kernel thread does not give up the CPU.
    """
    over = allocate_lock()
    over.acquire()

    def watch() -> None:
        if over.acquire(timeout=limit_s):
            return
        error = TimeLimit(f"time limit: the kernel has run for {limit_s:g} s")
        kernel.loop.interrupted(error)
        kernel.host.idle_wake()
        if over.acquire(timeout=_GRACE_S):
            return
        if kernel.loop.fatal is None and over.acquire(timeout=_HALT_S):  # it was raised: the kernel halts
            return
        give_up(error)

    start_new_thread(watch, ())
    try:
        yield
    finally:
        over.release()
