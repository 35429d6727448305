"""An assertion that fails in few schedules: a cache whose lock is free while the value is computed.

    python examples/32_computed_twice.py

The cache looks under its lock, computes without it, which is right, because computing may take long, and stores under
it again. Two threads that both looked before either stored both compute, and each keeps its own object; the cache knows
the one that came last. For numbers that is waste. For sessions, connections or locks it is one too many.

The schedule can be written to a file, which replays on other versions of Python: each decision in it is named by task,
operation and object. A release of a well-known package behaved like this: docs/real-bugs.md.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from lkl_green.testing import explore, schedule_table

if TYPE_CHECKING:
    from collections.abc import Callable


class Cache:
    """Objects by name, each made when it is first asked for."""

    def __init__(self, make: Callable[[], object]) -> None:
        self.make = make
        self.lock = threading.Lock()
        self.made: dict[str, object] = {}

    def get(self, name: str) -> object:
        with self.lock:
            if name in self.made:
                return self.made[name]
        value = self.make()
        with self.lock:
            return self.store(name, value)

    def store(self, name: str, value: object) -> object:
        self.made[name] = value
        return value


class FixedCache(Cache):
    """What is there already wins."""

    def store(self, name: str, value: object) -> object:
        return self.made.setdefault(name, value)


def check(cache_type: type[Cache]) -> None:
    cache = cache_type(object)
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(cache.get("ada")), name=name) for name in ("laptop", "phone")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] is got[1], "two objects under one name"


def test_as_written() -> None:
    check(Cache)


def test_fixed() -> None:
    check(FixedCache)


def main() -> None:
    failure = explore(test_as_written, threads=True, shrink=True).failure
    assert failure is not None, "some schedule fails"
    print(f"as written: {failure.headline()}")
    print(schedule_table(failure.steps, width=100))
    report = explore(test_fixed, threads=True)
    print(f"fixed: {report.outcome.value}, {report.schedules} schedules")


if __name__ == "__main__":
    main()
