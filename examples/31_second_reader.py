"""A result that only one of two readers gets: each looks whether it is there, then both fetch it.

    python examples/31_second_reader.py

The result of a computation travels through a queue of one item. The first reader fetches it and keeps it for those that
come later. But two readers that look before either has fetched both go to the queue, and there is one item. With one
reader, or with readers who come one after the other, it works; tests seldom do anything else.

The reader who is left waits for ever for a result that is there. No timer runs and nobody else is left, so this is a
deadlock, and is called one at once. A release of a well-known package had this bug: docs/real-bugs.md.
"""

from __future__ import annotations

import queue
import threading

from lkl_green.testing import explore, schedule_table


class Result:
    """A value that will be there."""

    def __init__(self) -> None:
        self.arriving: queue.Queue[str] = queue.Queue(maxsize=1)
        self.value: str | None = None

    def put(self, value: str) -> None:
        self.arriving.put(value)

    def get(self) -> str:
        if self.value is None:
            self.value = self.arriving.get()
        return self.value


class FixedResult(Result):
    """Looking and fetching are one step for everybody else."""

    def __init__(self) -> None:
        super().__init__()
        self.fetching = threading.Lock()

    def get(self) -> str:
        with self.fetching:
            return super().get()


def check(result_type: type[Result]) -> None:
    result = result_type()
    got: list[str] = []
    readers = [threading.Thread(target=lambda: got.append(result.get()), name=name) for name in ("ann", "bob")]
    result.put("42")
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert got == ["42", "42"]


def test_as_written() -> None:
    check(Result)


def test_fixed() -> None:
    check(FixedResult)


def main() -> None:
    failure = explore(test_as_written, threads=True, shrink=True).failure
    assert failure is not None, "some schedule fails"
    print(f"as written: {failure.headline()}")
    print(schedule_table(failure.steps, width=100))
    report = explore(test_fixed, threads=True)
    print(f"fixed: {report.outcome.value}, {report.schedules} schedules")


if __name__ == "__main__":
    main()
