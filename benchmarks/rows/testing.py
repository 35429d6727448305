"""A campaign shared by two processes, against one process of the same moment."""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.row import Figure, Row
from lkl_green.linux import Mutex
from lkl_green.testing import Shared, explore, spawn

if TYPE_CHECKING:
    from benchmarks.configurations import Configuration

ROUNDS = 9
JOBS = 2


def locked_counter() -> None:
    """Two threads, five times each."""
    counter, lock = Shared(0, "counter"), Mutex(name="lock")

    def add() -> None:
        for _ in range(5):
            with lock:
                counter.value += 1

    for thread in [spawn(add), spawn(add)]:
        thread.join()
    assert counter.peek() == 10


def seconds(jobs: int, schedules: int) -> float:
    """A whole campaign, with the start of its processes and their end."""
    begin = perf_counter()
    report = explore(locked_counter, schedules=schedules, jobs=jobs)
    elapsed = perf_counter() - begin
    report.assert_passed()
    return elapsed


def with_two_processes(configuration: Configuration, n: int) -> Figure:
    """How much sooner n schedules are done; turn and turn about, or the machine's mood would be measured."""
    seconds(1, n // 10)
    seconds(JOBS, n // 10)
    ratio = median(seconds(1, n) / seconds(JOBS, n) for _ in range(ROUNDS))
    return Figure(1 / ratio, f"{ratio:.2f}x")


ROWS = (
    Row("explore_jobs", "10,000 schedules of one test with two processes: speed of one's", with_two_processes, 10_000,
        alone=True, whole=True, full_only=True, target=1 / 1.8, target_text="1.8x", only=("direct",)),
)  # fmt: skip
