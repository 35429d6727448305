"""A deadlock that needs one preemption at the right place: a writer that reads, and another writer that waits.

    python examples/30_reader_in_writer.py

A lock for many readers or one writer, on a Condition, as people write it. Writers should not starve, so a reader gives
way to writers that wait. And a writer may read what it has just written, so it may take the read lock, too. Each of the
two rules is right, and together they deadlock: the writer that reads gives way to the writer that waits for it.

`explore(..., threads=True)` runs a test that uses `threading` under one schedule after another, until one fails, and
`shrink=True` makes that schedule as simple as it gets. A release of a well-known package had this bug:
docs/real-bugs.md.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lkl_green.testing import explore, schedule_table

if TYPE_CHECKING:
    from collections.abc import Iterator


class ReadWriteLock:
    """Many readers, or one writer, who may read."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.readers = 0
        self.writer: threading.Thread | None = None
        self.waiting_writers = 0

    def may_read(self) -> bool:
        return self.writer in (None, threading.current_thread()) and not self.waiting_writers

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(self.may_read)
            self.readers += 1
        try:
            yield
        finally:
            with self.changed:
                self.readers -= 1
                self.changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self.changed:
            self.waiting_writers += 1
            self.changed.wait_for(lambda: self.writer is None and not self.readers)
            self.waiting_writers -= 1
            self.writer = threading.current_thread()
        try:
            yield
        finally:
            with self.changed:
                self.writer = None
                self.changed.notify_all()


class FixedLock(ReadWriteLock):
    """The writer gives way to nobody."""

    def may_read(self) -> bool:
        return self.writer is threading.current_thread() or super().may_read()


def check(lock_type: type[ReadWriteLock]) -> None:
    lock = lock_type()

    def write_and_read() -> None:
        with lock.writing(), lock.reading():
            pass

    def write() -> None:
        with lock.writing():
            pass

    threads = [threading.Thread(target=write_and_read, name="checker"), threading.Thread(target=write, name="other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_as_written() -> None:
    check(ReadWriteLock)


def test_fixed() -> None:
    check(FixedLock)


def main() -> None:
    failure = explore(test_as_written, threads=True, shrink=True).failure
    assert failure is not None, "some schedule fails"
    print(f"as written: {failure.headline()}")
    print(schedule_table(failure.steps, width=100))
    report = explore(test_fixed, threads=True)
    print(f"fixed: {report.outcome.value}, {report.schedules} schedules")


if __name__ == "__main__":
    main()
