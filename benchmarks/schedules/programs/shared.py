"""What several programs need: joining threads, arrays, and a condition variable of kernel primitives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.linux import Mutex, Semaphore
from lkl_green.testing import Shared

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lkl_green.testing import Spawned


def join(tasks: Iterable[Spawned]) -> None:
    """Wait for all of them, in order."""
    for task in tasks:
        task.join()


def array(name: str, values: Iterable[Any]) -> list[Shared[Any]]:
    """An array whose every element is a variable of its own."""
    return [Shared(value, f"{name}[{index}]") for index, value in enumerate(values)]


class Condition:
    """pthread_cond_t: `wait()` and `signal()` are called with the mutex held.

    Args:
        mutex: it.
        name: what schedules call it.
    """

    def __init__(self, mutex: Mutex, name: str) -> None:
        self._mutex = mutex
        self._waiters = 0
        self._signals = Semaphore(0, name=name)

    def wait(self) -> None:
        """Give the mutex back, sleep until there is a signal, and take it again."""
        self._waiters += 1
        self._mutex.unlock()
        self._signals.down()
        self._mutex.lock()

    def signal(self) -> None:
        """Wake one, if there is one."""
        if self._waiters:
            self._waiters -= 1
            self._signals.up()
