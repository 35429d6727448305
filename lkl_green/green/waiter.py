"""One sleeping thread.

`threading.Condition` keeps a deque of locks, one for each waiter, and wakes a waiter by releasing its lock. A `Waiter`
has a `release()`, too, so that kernel threads and OS threads outside the kernel can wait for the same object: whoever
wakes them need not know which is which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.errors import Escape
from lkl_green.kernel.current import running_here
from lkl_green.kernel.task import TASK_RUNNING, TASK_UNINTERRUPTIBLE

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel

NS_PER_S = 1_000_000_000
SLICE = 256
NS_PER_POINT = 1000


class Waiter:
    """The current kernel thread, about to wait.

    Args:
        kernel: the kernel it is a thread of.
        obj: what it waits for; shown in deadlock reports.

    Attributes:
        task: the thread.
        released: somebody has let it go on.
    """

    __slots__ = ("kernel", "obj", "released", "task")

    def __init__(self, kernel: Kernel, obj: object) -> None:
        self.kernel = kernel
        self.task = kernel.sched.current
        self.obj = obj
        self.released = False

    def wait(self, timeout_ns: int | None = None) -> bool:
        """Sleep until released, for at most `timeout_ns`; whether it was."""
        kernel = self.kernel
        task = self.task
        try:
            while not self.released:
                if timeout_ns is not None and timeout_ns <= 0:
                    return False
                task.waiting_for = self.obj
                task.state = TASK_UNINTERRUPTIBLE
                if timeout_ns is None:
                    kernel.sched.schedule()
                else:
                    timeout_ns = kernel.timers.schedule_timeout(timeout_ns)
        finally:
            task.state = TASK_RUNNING
            task.waiting_for = None
        return True

    def release(self) -> None:
        """Let it go on. Raises Escape from an OS thread that does not own its kernel."""
        self.released = True
        kernel = self.kernel
        if running_here.kernel is not kernel:
            if kernel.halted:
                return
            if kernel.is_foreign():
                self.released = False
                raise Escape(
                    f"an OS thread outside the kernel wakes kernel thread {self.task.comm}-{self.task.pid}, which "
                    f"waits for {self.obj!r}: when is not the kernel's decision; start the other thread inside"
                )
        kernel.sched.try_to_wake_up(self.task)


def limit_ns(timeout: float | None) -> int | None:
    """A timeout in seconds as `threading` takes it, in ns; None is no limit."""
    return None if timeout is None else max(int(timeout * NS_PER_S), 0)


def rest(kernel: Kernel) -> None:
    """The end of an operation that did not sleep, with nobody listening: let others run if it is time.

    A loop of nothing but such operations may wait for a thread that sleeps. Under a virtual clock, where code takes no
    time, it would wait for ever, so that each operation takes a microsecond, counted by the slice.
    """
    sched = kernel.sched
    sched.cond_resched()
    if not sched.points % SLICE and kernel.clock.is_virtual and not sched.current.preempt_count:
        kernel.timers.delay(SLICE * NS_PER_POINT)


def look(kernel: Kernel, obj: object) -> None:
    """Looking at shared state without waiting is a scheduling point, too; loops that do nothing else must not hang."""
    sched = kernel.sched
    if sched.listener is not None:
        sched.listener("read", obj)
    else:
        rest(kernel)
