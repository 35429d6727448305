"""Threads whose names count from schedule to schedule, or are long, are the same threads in each schedule."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import pytest

from lkl_green.testing import Outcome, Schedule, explore, replay
from lkl_green.testing.counted import CountedNames
from lkl_green.testing.run import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable


def run_pool(name: str, work: Callable[[int], object], numbers: range = range(3)) -> None:
    threads = [threading.Thread(target=work, args=(number,), name=name.format(number)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def wrong_order() -> Callable[[int], Callable[[], None]]:
    """wrong_order(first): a test that fails in some schedules; its pools are numbered from `first` on."""

    def make(first: int) -> Callable[[], None]:
        pools = itertools.count(first)

        def test() -> None:
            order: list[int] = []
            run_pool(f"pool-{next(pools)}-w{{}}", order.append)
            assert order == [0, 1, 2]

        return test

    return make


def test_a_failure_of_threads_that_count_is_the_programs_own(wrong_order: Callable[[int], Callable[[], None]]) -> None:
    failure = explore(wrong_order(1), schedules=100, threads=True).failure
    assert failure is not None
    assert failure.verdict is Verdict.FAILED
    assert {step.actor for step in failure.steps} == {"main", "pool-1-w0", "pool-1-w1", "pool-1-w2"}


def test_a_schedule_replays_in_a_process_that_has_counted_less(
    wrong_order: Callable[[int], Callable[[], None]],
) -> None:
    failure = explore(wrong_order(57), schedules=100, threads=True).failure
    assert failure is not None
    again = replay(wrong_order(1), Schedule.loads(failure.schedule.dumps()))
    assert again is not None
    assert again.verdict is Verdict.FAILED


def test_long_names_that_count_keep_no_state() -> None:
    pools, lock = itertools.count(95), threading.Lock()

    def test() -> None:
        def work(_number: int) -> None:
            with lock:
                pass

        run_pool(f"pool-{next(pools)}-worker-{{}}", work)

    report = explore(test, schedules=40, threads=True)
    assert report.outcome is Outcome.PASSED, report


def test_long_names_are_told_in_full_and_do_not_collide() -> None:
    def test() -> None:
        order: list[int] = []
        run_pool("reader-of-the-journal-{}", order.append, range(2))
        assert order == [0, 1]

    failure = explore(test, schedules=100, threads=True).failure
    assert failure is not None
    assert {step.actor for step in failure.steps} == {"main", "reader-of-the-journal-0", "reader-of-the-journal-1"}


def test_a_schedule_with_names_of_15_characters_still_replays() -> None:
    def test() -> None:
        order: list[int] = []
        run_pool("{}-reader-of-the-journal", order.append, range(2))
        assert order == [0, 1]

    failure = explore(test, schedules=100, threads=True).failure
    assert failure is not None
    decisions = failure.schedule.decisions
    failure.schedule.decisions = [decision._replace(actor=decision.actor[:15]) for decision in decisions]
    again = replay(test, failure.schedule)
    assert again is not None
    assert again.verdict is Verdict.FAILED, again.detail


def settle(names: CountedNames, *schedule: str) -> list[str]:
    names.begin()
    return [names.settled(name) for name in schedule]


def test_numbers_that_count_begin_anew_and_others_stay() -> None:
    names = CountedNames()
    assert settle(names, "pool-7-w0", "pool-7-w1", "pool-8-w0") == ["pool-7-w0", "pool-7-w1", "pool-8-w0"]
    assert settle(names, "pool-9-w1", "pool-9-w0", "pool-10-w0") == ["pool-7-w1", "pool-7-w0", "pool-8-w0"]
    assert settle(names, "main", "w01", "w02") == ["main", "w01", "w02"]
    assert settle(names, "w02", "w03") == ["w02", "w03"]
