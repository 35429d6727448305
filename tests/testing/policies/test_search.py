"""Systematic searches: they count every schedule once, say what their end means, and take choices for branches."""

from __future__ import annotations

from contextlib import closing
from itertools import pairwise
from math import comb
from typing import TYPE_CHECKING

import pytest

from lkl_green.testing import Outcome, Shared, explore, fault_point, random, spawn
from lkl_green.testing.campaign import Campaign
from lkl_green.testing.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable


def independent(*lengths: int) -> Callable[[], None]:
    """Tasks that do so many operations each, none of which concerns another task; main does none."""

    def test() -> None:
        for number, length in enumerate(lengths):
            spawn(read_often, Shared(0, f"x{number}"), length)

    return test


def read_often(variable: Shared[int], times: int) -> None:
    for _ in range(times):
        assert variable.value == 0


def interleavings(*lengths: int) -> int:
    """How many there are; starting is an operation, too."""
    total, ways = 0, 1
    for length in lengths:
        total += length + 1
        ways *= comb(total, length + 1)
    return ways


@pytest.mark.parametrize("lengths", [(1, 1), (3, 2), (4, 4), (0, 5), (1, 2, 1), (1, 1, 1, 0)])
def test_depth_first_search_counts_every_interleaving_once(lengths: tuple[int, ...]) -> None:
    trails = set()
    with closing(Campaign(independent(*lengths), Settings(policy="dfs", seed=0, lockdep=False))) as campaign:
        number = 0
        while (run := campaign.run(number)) is not None:
            trails.add(tuple(run.trail))
            number += 1
    assert number == len(trails) == interleavings(*lengths)


def test_the_end_of_the_search_is_told() -> None:
    report = explore(independent(3, 2), policy="dfs", schedules=1000)
    assert (report.outcome, report.reason) == (Outcome.EXHAUSTED, "every order of the operations")
    assert report.schedules == interleavings(3, 2)


def test_a_limit_that_is_just_large_enough_is_no_limit() -> None:
    report = explore(independent(3, 2), policy="dfs", schedules=interleavings(3, 2))
    assert report.outcome is Outcome.EXHAUSTED


def test_a_search_that_a_limit_ends_is_incomplete() -> None:
    report = explore(independent(3, 2), policy="dfs", schedules=interleavings(3, 2) - 1)
    assert report.outcome is Outcome.INCOMPLETE
    assert not report.passed


@pytest.mark.parametrize("bound", [0, 1, 2, 3])
def test_preemptions_are_counted(bound: int) -> None:
    # Two tasks of m and n operations: an interleaving with p preemptions has p + 2 runs of one task, or p + 1 where the
    # last switch is forced by an end. Counted here by brute force over the words of m a's and n b's.
    report = explore(independent(3, 2), policy=f"preemption-bound:{bound}", schedules=1000)
    assert report.schedules == sum(preemptions(word) <= bound for word in words(4, 3))
    assert report.reason == f"exhausted within {bound} preemptions"


def words(m: int, n: int) -> list[str]:
    if not m or not n:
        return ["a" * m + "b" * n]
    return ["a" + rest for rest in words(m - 1, n)] + ["b" + rest for rest in words(m, n - 1)]


def preemptions(word: str) -> int:
    return sum(a != b and a in word[place + 1 :] for place, (a, b) in enumerate(pairwise(word)))


@pytest.mark.parametrize("policy", ["preemption-bound:20", "delay-bound:20"])
def test_a_bound_that_cuts_nothing_leaves_nothing_out(policy: str) -> None:
    report = explore(independent(3, 2), policy=policy, schedules=1000)
    assert (report.outcome, report.reason) == (Outcome.EXHAUSTED, "every order of the operations")
    assert report.schedules == interleavings(3, 2)


def test_more_delays_are_more_schedules() -> None:
    counts = [explore(independent(3, 2), policy=f"delay-bound:{bound}", schedules=1000).schedules for bound in range(5)]
    assert counts[0] == 1
    assert counts == sorted(set(counts))
    assert counts[-1] < interleavings(3, 2)


def test_choices_are_branches() -> None:
    seen = []

    def test() -> None:
        seen.append((random.getrandbits(2), fault_point("disk")))

    report = explore(test, policy="dfs", schedules=100, verify=False)
    assert report.outcome is Outcome.EXHAUSTED
    assert sorted(seen) == [(bits, fault) for bits in range(4) for fault in (False, True)]


def test_a_wide_draw_leaves_the_search_incomplete() -> None:
    seen = []

    def test() -> None:
        seen.append(random.getrandbits(32))

    report = explore(test, policy="dfs", schedules=100, verify=False)
    assert report.outcome is Outcome.INCOMPLETE
    assert "of the 4294967296 values" in report.reason
    assert (seen[0], seen[-1]) == (0, (1 << 32) - 1)
    assert len(set(seen)) == report.schedules
