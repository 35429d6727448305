"""What a pass says of itself: how many schedules differ, where decisions were, and which threads never met."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from lkl_green.testing import Outcome, Shared, explore, spawn

if TYPE_CHECKING:
    from collections.abc import Callable


def alone() -> None:
    x = Shared(0, "x")
    x.value += 1


def two_writers() -> None:
    x = Shared(0, "x")

    def write(value: int) -> None:
        x.value = value

    for thread in [spawn(write, 1, name="ann"), spawn(write, 2, name="bob")]:
        thread.join()


def one_after_the_other() -> None:
    for name in ("ann", "bob"):
        thread = threading.Thread(target=int, name=name)
        thread.start()
        thread.join()


def two_adders() -> None:
    count = [0]

    def add() -> None:
        count[0] += 1

    threads = [threading.Thread(target=add, name=name) for name in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("options", [{}, {"jobs": 2}, {"threads": True}], ids=str)
def test_where_nothing_is_decided_one_schedule_is_all(options: dict[str, object]) -> None:
    report = explore(alone, **options)  # type: ignore[arg-type]
    assert (report.outcome, report.schedules, report.runs) == (Outcome.EXHAUSTED, 1, 1000)
    assert report.passed
    told = "exhausted (nothing to decide: at each point there was one way to go on): 1 schedule, run 1000 times"
    assert told in report.text()


def test_a_single_schedule_is_run_as_often_as_was_asked_for() -> None:
    """What fails now and then shows only so."""
    runs: list[int] = []

    def fails_late() -> None:
        runs.append(1)
        assert len(runs) < 500

    assert explore(fails_late).outcome is Outcome.FAILED


def test_schedules_that_differ_are_counted() -> None:
    report = explore(two_writers, schedules=1000)
    every = explore(two_writers, schedules=100_000, policy="dfs", after_points=False)
    assert every.outcome is Outcome.EXHAUSTED
    assert 1 < len(report.coverage.trails) < 1000
    assert f"different schedules: {len(report.coverage.trails)}; the others took the same decisions" in report.text()
    assert len(every.coverage.trails) == every.schedules
    assert "different schedules" not in every.text(), "a search runs none twice"


@pytest.mark.parametrize("jobs", [1, 2])
def test_processes_share_what_they_have_seen(jobs: int) -> None:
    report = explore(two_writers, schedules=200, jobs=jobs)
    alone = explore(two_writers, schedules=200)
    assert report.coverage.trails == alone.coverage.trails
    assert report.coverage.recorded == alone.coverage.recorded


def test_the_report_says_at_which_kinds_of_points_decisions_were() -> None:
    report = explore(two_writers, schedules=100)
    assert report.coverage.decided["write"] > 0
    assert f"decisions in {report.coverage.recorded} recorded schedules, by what came next: " in report.text()
    assert f"write {report.coverage.decided['write']}" in report.text()


STRANGERS: list[tuple[Callable[[], None], str]] = [
    (one_after_the_other, "never able to run at the same time: ann and bob"),
    (two_writers, ""),
]


@pytest.mark.parametrize(("test", "told"), STRANGERS, ids=["in turn", "together"])
def test_threads_that_never_meet_are_named(test: Callable[[], None], told: str) -> None:
    text = explore(test, schedules=100, threads=True).text()
    assert told in text
    assert bool(told) == ("never able to run" in text)


EXHAUSTED: list[tuple[Callable[[], None], dict[str, object], str]] = [
    (
        two_writers,
        {"policy": "dfs"},
        "exhausted: every order of the operations ({}); points were operations of the kernel and of Shared",
    ),
    (
        two_writers,
        {"policy": "dpor"},
        "exhausted: each order of the operations that conflict ({}); points were operations of",
    ),
    (
        two_writers,
        {"policy": "preemption-bound:1"},
        "exhausted: {} orders, all that there are within 1 preemptions; points were operations of the kernel",
    ),
    (
        two_adders,
        {"policy": "preemption-bound:0", "threads": True},
        "all that there are within 0 preemptions; points were operations of threading and of the kernel, and accesses",
    ),
    (alone, {}, "points were operations of the kernel and of Shared: whenever one was reached, no other task could"),
]


@pytest.mark.parametrize(("test", "options", "told"), EXHAUSTED, ids=["all", "dpor", "bounded", "accesses", "alone"])
def test_exhausted_says_of_what(test: Callable[[], None], options: dict[str, object], told: str) -> None:
    report = explore(test, schedules=10_000, **options)  # type: ignore[arg-type]
    assert report.outcome is Outcome.EXHAUSTED, report.text()
    assert told.format(report.schedules) in report.text()


def test_a_campaign_that_could_go_on_is_not_called_exhausted() -> None:
    assert "exhausted" not in explore(two_writers, schedules=20).text()
