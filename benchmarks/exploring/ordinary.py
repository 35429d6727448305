"""Programs in ordinary code, without locks: threads that add to an attribute, and tasks of an asyncio loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Counter:
    def __init__(self) -> None:
        self.count = 0


def increments() -> int:
    """`x += 1` in two threads; what came of it."""
    counter = Counter()

    def add() -> None:
        counter.count += 1

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counter.count


def no_lost_update() -> None:
    """Fails in some schedules."""
    assert increments() == 2


def any_count() -> None:
    """Passes in all."""
    assert increments() in (1, 2)


def alone(times: int) -> Callable[[], None]:
    """One thread that reads and writes an attribute: nothing can be decided at its accesses."""

    def add() -> None:
        counter = Counter()
        for _ in range(times):
            counter.count += 1

    return add


def three_tasks() -> None:
    """Three tasks, each with an `await` between a read and a write."""
    counter = Counter()

    async def add() -> None:
        seen = counter.count
        await asyncio.sleep(0)
        counter.count = seen + 1

    async def main() -> None:
        await asyncio.gather(add(), add(), add())

    asyncio.run(main())
    assert counter.count in (1, 2, 3)
