"""What every policy does: it finds a plain race, draws and faults are part of its schedules, and it is a function of
its seed."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from lkl_green.linux import Mutex
from lkl_green.testing import Outcome, Shared, Verdict, explore, fault_point, random, spawn
from lkl_green.testing.campaign import Campaign
from lkl_green.testing.policies import PCT, PreemptionBound, make_policy, policy_makers
from lkl_green.testing.settings import Settings

ALL = sorted(policy_makers())
# The two that never let chance or search decide find what they find.
FIXED = {"fifo", "round-robin"}
EXPLORING = [name for name in ALL if name not in FIXED]


def lost_update() -> None:
    counter = Shared(0, "counter")

    def increment() -> None:
        counter.value += 1

    tasks = [spawn(increment) for _ in range(2)]
    for task in tasks:
        task.join()
    assert counter.peek() == 2


def abba() -> None:
    a, b = Mutex(name="a"), Mutex(name="b")

    def both(first: Mutex, second: Mutex) -> None:
        with first, second:
            pass

    tasks = [spawn(both, a, b), spawn(both, b, a)]
    for task in tasks:
        task.join()


def spinning() -> None:
    flag, data = Shared(False, "flag"), Shared(0, "data")

    def wait() -> None:
        while not flag.value:
            pass
        assert data.value == 1

    tasks = [spawn(wait) for _ in range(2)]
    data.value = 1
    flag.value = True
    for task in tasks:
        task.join()


def unlucky() -> None:
    """Fails for one of three draws and a fault, whatever the schedule."""
    if fault_point("disk") and random.randrange(4) == 3:
        raise OSError("the disk is broken")


@pytest.mark.parametrize("policy", EXPLORING)
def test_a_lost_update_is_found(policy: str) -> None:
    report = explore(lost_update, policy=policy, schedules=200)
    assert report.outcome is Outcome.FAILED
    assert report.failure is not None
    assert report.failure.verdict is Verdict.FAILED


@pytest.mark.parametrize("policy", EXPLORING)
def test_a_deadlock_is_found(policy: str) -> None:
    report = explore(abba, policy=policy, schedules=300)
    assert report.failure is not None
    assert report.failure.verdict is Verdict.DEADLOCK


@pytest.mark.parametrize("policy", [name for name in ALL if name != "fifo"])
def test_spinning_ends(policy: str) -> None:
    report = explore(spinning, policy=policy, schedules=50, max_steps=5000)
    assert report.failure is None, report.text()


@pytest.mark.parametrize("policy", EXPLORING)
def test_draws_and_faults_are_decisions(policy: str) -> None:
    report = explore(unlucky, policy=policy, schedules=1000)
    assert report.failure is not None
    assert report.failure.error == "OSError: the disk is broken"


def trails(policy: str, seed: int, count: int = 40) -> list[list[int]]:
    with closing(Campaign(abba_and_draw, Settings(policy=policy, seed=seed, lockdep=False))) as campaign:
        return [run.trail for number in range(count) if (run := campaign.run(number)) is not None]


def abba_and_draw() -> None:
    random.random()
    abba()


@pytest.mark.parametrize("policy", ALL)
def test_the_same_seed_gives_the_same_schedules(policy: str) -> None:
    assert trails(policy, 7) == trails(policy, 7)


@pytest.mark.parametrize("policy", ["pos", "surw", "urw", "pct", "random", "random-delays", "portfolio"])
def test_another_seed_gives_others(policy: str) -> None:
    assert trails(policy, 7) != trails(policy, 8)


@pytest.mark.parametrize(
    ("text", "kind", "attribute", "value"),
    [("pct:5", PCT, "depth", 5), ("preemption-bound:1", PreemptionBound, "bound", 1), ("pct", PCT, "depth", 3)],
)
def test_a_name_may_carry_a_number(text: str, kind: type, attribute: str, value: int) -> None:
    policy = make_policy(text)
    assert isinstance(policy, kind)
    assert getattr(policy, attribute) == value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("best", "use 'default', 'pos', 'surw'"),
        ("pos:3", "'pos' takes no number"),
        ("pct:", "a whole number, as in 'pct:2'"),
        ("pct:-1", "a whole number"),
        ("pct:0", "a depth of 1 or more"),
        ("round-robin:0", "lets nobody run"),
    ],
)
def test_a_name_that_makes_no_sense_is_explained(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make_policy(text)


def test_a_policy_object_is_taken_as_it_is() -> None:
    policy: Any = PCT(2, fair=False)
    assert make_policy(policy) is policy
