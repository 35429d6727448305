"""`multiprocessing.pool.ThreadPool` (`multiprocessing.dummy.Pool`): a pool of threads with the interface of processes.

Its threads and queues are those of `threading` and `queue`. Only the thread that looks after the workers waits on a
pipe, to which it is told when the pool has nothing more to do. In a kernel that pipe is a SimpleQueue.
"""

from __future__ import annotations

import multiprocessing.pool
from typing import TYPE_CHECKING, Any

from lkl_green.green.simplequeue import SimpleQueue
from lkl_green.kernel.current import running_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Notifier(SimpleQueue):
    """What wakes the thread that looks after the workers."""

    __slots__ = ()

    _reader = None  # the end of the pipe, by which _wait_for_updates() of processes waits


class _Context:
    """The context of a pool of threads, of which no processes are made."""

    SimpleQueue = Notifier


def table() -> Iterator[tuple[type, str, Any]]:
    """(class, name, replacement)."""
    pool: Any = multiprocessing.pool.Pool
    thread_pool: Any = multiprocessing.pool.ThreadPool
    set_up: Callable[[Any], None] = thread_pool._setup_queues
    wait: Callable[..., None] = pool._wait_for_updates

    def setup_queues(self: Any) -> None:
        set_up(self)
        if running_here.kernel is not None:
            self._ctx = _Context  # the next thing that is taken from it is the notifier

    def wait_for_updates(sentinels: Any, notifier: Any, timeout: float | None = None) -> None:
        if type(notifier) is not Notifier:
            wait(sentinels, notifier, timeout)
            return
        notifier.get(timeout=timeout)
        while not notifier.empty():
            notifier.get()

    yield thread_pool, "_setup_queues", setup_queues
    yield pool, "_wait_for_updates", staticmethod(wait_for_updates)
