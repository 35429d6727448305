"""Livelocks: failures that consist in not ending.

The step limit of a campaign is there for tests of any length, so a livelock takes a hundred thousand steps, and no
candidate could be run twice within the budget. But a test that ends at all ends soon: the plain schedule says how soon,
and a limit well beyond it does for candidates. What is found is a shorter schedule that does not end within that.

*Fair or not.* A schedule that starves the task that everybody waits for never ends either, and is no bug of the test.
One of these must not pass for a livelock in which each task has its turn. So a candidate fails in the same way only if
it is as fair as the schedule that was found; and in a search for an unfair one the plain way is never to give way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from lkl_green.testing.policies.replay import Replay
from lkl_green.testing.run import Verdict
from lkl_green.testing.shrink.measured import NEVER, Following, Guided, Pace

if TYPE_CHECKING:
    from lkl_green.testing.campaign import Campaign
    from lkl_green.testing.report import Failure
    from lkl_green.testing.schedule import Schedule

# Steps that a candidate may take: the first of these of which the plain schedule needs less than half. The second row
# is for long tests, and takes a good part of the budget.
_LIMITS = ((200, 1_000, 5_000), (20_000,))

# Turns of a task that spins, within such a limit, where schedules have to be fair.
_TURNS = 8


class Endless(NamedTuple):
    """How candidates are run that should not end.

    Attributes:
        limit: operations after which one has failed.
        pace: of the policies.
        starves: whether somebody who could go on never does.
    """

    limit: int
    pace: Pace
    starves: bool


def endless(campaign: Campaign, schedule: Schedule, max_steps: int) -> Endless | None:
    """How to run candidates for a livelock; None if there is no way to tell one within the budget."""
    smallest = None
    for limits in _LIMITS:
        tried = [min(limit, max_steps) for limit in limits]
        found = _found(campaign, schedule, tried[-1])
        if found is None:
            return None
        for limit in tried:
            candidate = Endless(limit, _pace(limit, found.starves), found.starves)
            beginning = _found(campaign, schedule, limit)
            if beginning is None or beginning.starves is not found.starves:
                continue
            smallest = smallest or candidate
            plain = Guided([], candidate.pace)
            if not _goes_on(campaign, plain, limit) and plain.cost.steps <= limit // 2:
                return candidate
    # Either the plain schedule does not end, and any limit does, or it is too long for candidates of its length.
    return smallest if smallest and _goes_on(campaign, Guided([], smallest.pace), max_steps) else None


def _found(campaign: Campaign, schedule: Schedule, limit: int) -> Following | None:
    """The beginning of the schedule that was found; None if that is all of it."""
    policy = Following(Replay(schedule.decisions), Pace(half=limit // 2))
    return policy if _goes_on(campaign, policy, limit) else None


def tell_shortened(failure: Failure, found: Failure, limit: int) -> None:
    """Say that a schedule is the beginning of one that goes on, and let it end there when it is replayed."""
    failure.schedule.settings = replace(failure.schedule.settings, max_steps=limit)
    _, *spinning = failure.detail.split("\n")
    failure.detail = "\n".join(
        [f"{found.detail.splitlines()[0]}; this is one of its kind, up to step {limit}", *spinning]
    )


def _pace(limit: int, starves: bool) -> Pace:
    return Pace(None, NEVER if starves else max(limit // _TURNS, 1), limit // 2)


def _goes_on(campaign: Campaign, policy: Following | Guided, limit: int) -> bool:
    campaign.testbed.limit(limit)
    policy.begin(0, 0)
    return campaign.testbed.run(campaign.test, policy).verdict is Verdict.LIVELOCK
