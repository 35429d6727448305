"""Thread pools that outlast a kernel: made when a module was imported, or kept in a cache.

The worker threads of a pool are threads of the kernel in which it is used, and end with that; those that it has outside
cannot work inside. A pool knows nothing of that, and would count on workers that are not there. So it begins without
workers in each kernel, and has those it had before when the kernel has ended. A pool that the program itself has shut
down stays shut.
"""

from __future__ import annotations

import concurrent.futures.thread as futures_thread
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from lkl_green.green.simplequeue import forget_items
from lkl_green.green.thread import Handle
from lkl_green.kernel.current import running_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lkl_green.kernel.kernel import Kernel


class _Use(NamedTuple):
    """One pool in one kernel, and what it had before."""

    kernel: Kernel
    threads: set[Any]
    idle: int


class Pools:
    """The pools that are used in kernels."""

    def __init__(self) -> None:
        self._uses: WeakKeyDictionary[Any, _Use] = WeakKeyDictionary()

    def table(self) -> Iterator[tuple[type, str, Any]]:
        """(class, name, replacement)."""
        original: Callable[..., Any] = futures_thread.ThreadPoolExecutor.submit

        def submit(pool: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            kernel = running_here.kernel
            if kernel is not None:
                enter(pool, kernel)
            return original(pool, fn, *args, **kwargs)

        enter = self._enter
        yield futures_thread.ThreadPoolExecutor, "submit", submit

    def _enter(self, pool: Any, kernel: Kernel) -> None:
        use = self._uses.get(pool)
        if use is not None and use.kernel is kernel:
            return
        if use is not None:
            self._leave(pool, use)
        self._uses[pool] = _Use(kernel, pool._threads, pool._idle_semaphore._value)
        pool._threads = set()
        pool._idle_semaphore._value = 0

    def leave_all(self) -> None:
        """The threads of the kernels so far have ended: another schedule begins, or the time after."""
        for pool, use in list(self._uses.items()):
            self._leave(pool, use)
        self._uses.clear()

    def _leave(self, pool: Any, use: _Use) -> None:
        """Go back to the workers that a pool had before, without the tasks that were not done in the kernel."""
        pool._threads = use.threads
        pool._idle_semaphore._value = use.idle
        forget_items(pool._work_queue)


def workers(kernel: Kernel) -> Iterator[tuple[Any, Any, Any]]:
    """The workers of pools that are alive in a kernel: the thread, its pool (None if that is gone), and its queue."""
    for thread, work_queue in list(futures_thread._threads_queues.items()):
        handle = vars(thread).get("_green")
        if type(handle) is Handle and handle.kernel is kernel and not handle.done:
            yield thread, thread._args[0](), work_queue
