"""A test with a race between plain statements, for the self-check."""

from __future__ import annotations

from lkl_green.testing.spawn import spawn


class Counter:
    """Counts, and loses counts."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> None:
        """A load, and a store."""
        self.count += 1


def lost_update() -> None:
    """Raises AssertionError if the second thread reads before the first one writes."""
    counter = Counter()
    threads = [spawn(counter.add), spawn(counter.add)]
    for thread in threads:
        thread.join()
    assert counter.count == len(threads)
