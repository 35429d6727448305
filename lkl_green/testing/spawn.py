"""Kernel threads for tests: `spawn()` and `join()`.

`kthread_run()` goes through kthreadd, as Linux's does, which makes a schedule of two threads one of three. A test that
is not about kthreads wants its threads and nothing else, and wants them cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.errors import TaskExit
from lkl_green.kernel.completion import Completion
from lkl_green.kernel.current import current_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.task import Task


class Spawned:
    """A kernel thread that somebody may join.

    Attributes:
        task: its task.
        result: what its function returned, once it has ended.
    """

    __slots__ = ("_args", "_fn", "_over", "result", "task")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], name: str) -> None:
        kernel = current_kernel()
        self._fn = fn
        self._args = args
        self._over = Completion(kernel, name)
        self.result: Any = None
        self.task: Task = kernel.fork.do_fork(0, None, Spawned._run, self, name)

    def _run(self) -> None:
        self.result = self._fn(*self._args)
        self._over.complete_all()
        raise TaskExit(0)

    def join(self) -> Any:
        """Sleep until the thread has ended; what its function returned."""
        self._over.wait_for_completion()
        return self.result

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
