"""Exploring ordinary code: points before accesses, and the order of asyncio tasks."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING

from benchmarks.exploring.contenders.ours import Exploring, explore_sync
from benchmarks.exploring.ordinary import alone, any_count, no_lost_update, three_tasks
from benchmarks.row import Figure, Row
from benchmarks.rows.exploring import rate_of
from lkl_green.testing import explore

if TYPE_CHECKING:
    from benchmarks.configurations import Configuration

# A campaign that needs more schedules than this has not found it.
_MOST = 1_000

# How often the lone thread adds, and how many accesses that makes.
_TIMES = 500
_ACCESSES = 2 * _TIMES
_WARM_UP = 5


def schedules_to_failure(configuration: Configuration, n: int) -> Figure:
    """With the default settings, the mean of n seeds."""
    taken = []
    for seed in range(n):
        failure = explore(no_lost_update, threads=True, schedules=_MOST, seed=seed).failure
        taken.append(_MOST if failure is None else failure.number + 1)
    return Figure(mean(taken), f"{mean(taken):.1f}, at most {max(taken)}")


def idle_point(configuration: Configuration, n: int) -> float:
    """What an access costs more than without a point; with and without in turns."""
    times = {"memory": 0, "sync": 0}
    for points in list(times) * 2:
        with closing(Exploring(alone(_TIMES), threads=True, points=points)) as run:
            run(_WARM_UP)
            begin = configuration.now_ns()
            run(n)
            times[points] += configuration.now_ns() - begin
    return (times["memory"] - times["sync"]) / (2 * n * _ACCESSES)


ROWS = (
    Row("explore_increment", "`x += 1` in two threads: schedules to the failure", schedules_to_failure, 100,
        alone=True, whole=True, target=4, target_text="4", only=("direct",)),
    Row("explore_ordinary", "a schedule of `x += 1` in two threads",
        rate_of(partial(Exploring, any_count, threads=True)), 2000, n_least=100, target=400, only=("direct",)),
    Row("explore_idle_point", "an access in ordinary code at which nothing can be decided", idle_point, 100,
        n_least=20, target=0.6, only=("direct",)),
    Row("explore_asyncio", "a schedule of 3 asyncio tasks with an await each",
        rate_of(partial(Exploring, three_tasks, threads=True)), 500, n_least=100, only=("direct",)),
    Row("explore_sync", "2 threads and a locked counter, points as before those in ordinary code",
        rate_of(explore_sync), 2000, n_least=100, target=385, only=("direct",)),
)  # fmt: skip
