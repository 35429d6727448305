"""Kernel threads for tests: `spawn()` and `join()`.

`kthread_run()` goes through kthreadd, as Linux's does, which makes a schedule of two threads one of three. A test that
is not about kthreads wants its threads and nothing else, and wants them cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.kthread import KThread
from lkl_green.kernel.task import TASK_UNINTERRUPTIBLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.task import Task


class Spawned(KThread):
    """A kernel thread that somebody may join.

    A `Completion` would do for the end; making one for each thread is a tenth of what a small schedule costs.

    Attributes:
        task: its task.
        result: what its function returned, once it has ended.
    """

    __slots__ = ("_done", "_sched", "_waiters", "task")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], name: str) -> None:
        kernel = current_kernel()
        self._sched = kernel.sched
        self.fn = fn
        self.args = args
        self.should_stop = self.should_park = False
        self.parked = self.result = None
        self._done = False
        self._waiters: list[Task] | None = None
        self.task: Task = kernel.fork.do_fork(0, None, Spawned._run, self, name)
        self.task.kthread = self

    def _run(self) -> Any:
        assert self.fn is not None
        return self.fn(*self.args)

    def thread_exits(self, task: Task, code: Any) -> None:
        """The thread ends; its function returned `code`."""
        self.result = code
        self._done = True
        for waiter in self._waiters or ():
            self._sched.try_to_wake_up(waiter)

    def join(self) -> Any:
        """Sleep until the thread has ended; what its function returned."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("join", self)
        if not self._done:
            self.wait_exited()
        return self.result

    def wait_exited(self) -> None:
        """Sleep until the thread has ended."""
        sched = self._sched
        task = sched.current
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(task)
        task.waiting_for = self
        while not self._done:
            task.state = TASK_UNINTERRUPTIBLE
            sched.schedule()
        task.waiting_for = None

    def __repr__(self) -> str:
        return f"<Spawned {self.task!r}>"


def spawn(fn: Callable[..., Any], *args: Any, name: str = "") -> Spawned:
    """Start a kernel thread that calls `fn(*args)`.

    Args:
        fn: an exception that leaves it fails the schedule.
        args: its arguments.
        name: the task's name; the function's if left out.

    Raises:
        NoCurrentKernel: outside a test that is run by `explore()`.
    """
    return Spawned(fn, args, name or getattr(fn, "__name__", "task"))
