"""Race reversal: a race that was seen is turned round next, whatever the number of tasks; and the portfolio over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lkl_green.linux import Mutex
from lkl_green.testing import Shared, explore, spawn
from lkl_green.testing.policies import Portfolio, Reversal
from lkl_green.testing.settings import ScheduleSettings
from lkl_green.testing.testbed import Testbed

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.testing.policies.races import Passing


def half_done(setters: int) -> Callable[[], None]:
    """A checker that sees what the first of many setters has done so far."""

    def test() -> None:
        a, b = Shared(0, "a"), Shared(0, "b")

        def set_both() -> None:
            a.value = 1
            b.value = -1

        def check() -> None:
            assert (a.value == 0 and b.value == 0) or (a.value == 1 and b.value == -1)

        for task in [*(spawn(set_both) for _ in range(setters)), spawn(check)]:
            task.join()

    return test


@pytest.mark.parametrize("setters", [1, 5, 40])
@pytest.mark.parametrize("seed", range(5))
def test_the_number_of_equal_tasks_does_not_matter(setters: int, seed: int) -> None:
    report = explore(half_done(setters), policy="reversal", schedules=10, seed=seed)
    assert report.failure is not None


def races_of(test: Callable[[], None], schedules: int = 2) -> set[Passing]:
    policy = Reversal()
    turned = set()
    with Testbed(ScheduleSettings()) as testbed:
        for number in range(schedules):
            policy.begin(0, number)
            testbed.run(test, policy)
            turned |= {race.turned() for race in policy._execution.races()}
    return turned


def test_what_a_lock_orders_is_no_race_but_the_lock_is() -> None:
    def locked() -> None:
        lock, x = Mutex(name="lock"), Shared(0, "x")

        def increment() -> None:
            with lock:
                x.value += 1

        for task in [spawn(increment), spawn(increment)]:
            task.join()

    assert {race.pending.obj for race in races_of(locked)} == {"lock"}


def test_two_reads_are_no_race() -> None:
    def reading() -> None:
        x = Shared(0, "x")
        for task in [spawn(lambda: x.value, name="a"), spawn(lambda: x.value, name="b")]:
            task.join()

    assert not races_of(reading)


def test_when_no_race_is_left_it_samples() -> None:
    def little() -> None:
        x = Shared(0, "x")

        def write() -> None:
            x.value = 1

        spawn(write)
        spawn(write)

    report = explore(little, policy="reversal", schedules=100)
    assert report.schedules == 100
    assert report.passed


def test_the_portfolio_says_who_found_it() -> None:
    report = explore(half_done(3), policy="portfolio", schedules=20)
    assert report.failure is not None
    assert report.failure.schedule.policy == "portfolio (reversal)"


def test_every_member_of_the_portfolio_gets_its_turn() -> None:
    policy = Portfolio()
    makers = set()
    with Testbed(ScheduleSettings()) as testbed:
        for number in range(40):
            policy.begin(0, number)
            testbed.run(half_done(2), policy)
            makers.add(policy.maker)
    assert makers == {f"portfolio ({member.name})" for member in (policy.reversal, *policy.members)}
