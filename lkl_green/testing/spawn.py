"""Kernel threads for tests: `spawn()` and `join()`.

`kthread_run()` goes through kthreadd, as Linux's does, which makes a schedule of two threads one of three. A test that
is not about kthreads wants its threads and nothing else, and wants them cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.task import TASK_UNINTERRUPTIBLE
from lkl_green.kernel.taskend import Stoppable

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.task import Task


class Spawned(Stoppable):
    """A kernel thread that can be joined.

    A `Completion` would do for the end; making one for each thread is a tenth of what a small schedule costs.

    Attributes:
        task: its task.
        result: what its function returned, once it has ended.
    """

    __slots__ = ("_args", "_done", "_fn", "_sched", "_waiters", "result", "task")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], name: str) -> None:
        kernel = current_kernel()
        self._sched = kernel.sched
        self._fn = fn
        self._args = args
        self.kthread = None
        self.result: Any = None
        self._done = False
        self._waiters: list[Task] | None = None
        self.task: Task = kernel.fork.create_thread(self, Spawned._run, self, name)
        kernel.sched.wake_up_new_task(self.task)
        if kernel.sched.after is not None:
            kernel.sched.after()

    def _run(self) -> Any:
        return self._fn(*self._args)

    def thread_exits(self, task: Task, code: Any) -> None:
        """The thread ends; its function returned `code`."""
        self.result = code
        self._done = True
        if self.kthread is not None:
            self.kthread.thread_exits(task, code)
        for waiter in self._waiters or ():
            self._sched.try_to_wake_up(waiter)

    def join(self) -> Any:
        """Sleep until the thread has ended; what its function returned."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("join", self)
        if not self._done:
            self._wait_exited()
        return self.result

    def _wait_exited(self) -> None:
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
