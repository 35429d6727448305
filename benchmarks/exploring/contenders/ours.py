"""lkl_green.testing: with points of its own, and on `threading`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from lkl_green.linux import Mutex
from lkl_green.testing import Shared, spawn
from lkl_green.testing.campaign import Campaign
from lkl_green.testing.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable


def explicit() -> None:
    """Ten operations: the counter's read and write are scheduling points, too."""
    lock, counter = Mutex(), Shared(0)

    def add() -> None:
        with lock:
            counter.value += 1

    threads = [spawn(add), spawn(add)]
    for thread in threads:
        thread.join()
    assert counter.peek() == 2


def on_threading() -> None:
    """Eight operations: start, lock, unlock and join."""
    lock, counter = threading.Lock(), [0]

    def add() -> None:
        with lock:
            counter[0] += 1

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter[0] == 2


class Exploring:
    """A campaign that goes on where it stopped.

    Args:
        test: the program.
        threads: whether it uses `threading`.
        options: further settings.
    """

    def __init__(self, test: Callable[[], object], *, threads: bool, **options: Any) -> None:
        settings = Settings(policy="pos", threads=threads, lockdep=False, watchdog_s=None, **options)
        self._campaign = Campaign(test, settings)
        self._next = 0

    def __call__(self, n: int) -> None:
        """Run n schedules."""
        chunk = self._campaign.run_chunk(self._next, n)
        assert chunk.schedules == n
        assert not chunk.failing
        self._next += n

    def close(self) -> None:
        """Put everything back."""
        self._campaign.close()


def explore_explicit() -> Exploring:
    return Exploring(explicit, threads=False)


def explore_threading() -> Exploring:
    return Exploring(on_threading, threads=True)


def explore_sync() -> Exploring:
    """As `threading` was explored before ordinary code had points, and operations points after them."""
    return Exploring(on_threading, threads=True, points="sync", after_points=False)


CONTENDERS = {"explicit points": explore_explicit, "threading": explore_threading}
