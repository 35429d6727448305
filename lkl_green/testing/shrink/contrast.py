"""What differs from the nearest schedule that passes: the failing one, but for one decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.host.native import monotonic
from lkl_green.testing.shrink.measured import Deviation, Guided, Pace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lkl_green.testing.campaign import Campaign
    from lkl_green.testing.recording import Recording
    from lkl_green.testing.step import Step


# Neighbours that are tried; where none of so many passes, that one did would be chance.
_TRIED = 30


def contrast(campaign: Campaign, taken: Sequence[Deviation], pace: Pace, until_s: float) -> str:
    """In words, where the failing schedule and a passing one part; "" if every neighbour fails, too.

    Args:
        campaign: runs the test.
        taken: the deviations of the failing schedule. The last preemption is taken back first, then those before it,
            then other deviations, then all of them.
        pace: of the candidates.
        until_s: when to give up, on the monotonic clock; one neighbour is tried whatever the time.
    """
    for number, wishes in enumerate(_neighbours(taken)):
        if number and monotonic() >= until_s:
            break
        if _passes(campaign, wishes, pace):
            passing = campaign.record(Guided(wishes, pace))[1]
            return _first_difference(campaign.record(Guided(taken, pace))[1], passing)
    return ""


def _neighbours(taken: Sequence[Deviation]) -> Iterator[Sequence[Deviation]]:
    order = sorted(range(len(taken)), key=lambda number: (not taken[number].preempts, -number))
    for number in order[:_TRIED]:
        yield [*taken[:number], *taken[number + 1 :]]
    yield []


def _passes(campaign: Campaign, wishes: Sequence[Deviation], pace: Pace) -> bool:
    policy = Guided(wishes, pace)
    policy.begin(0, 0)
    return campaign.testbed.run(campaign.test, policy).passed


def _first_difference(failing: Recording, passing: Recording) -> str:
    pairs = zip(failing.steps, passing.steps, strict=False)
    steps = next((n for n, (one, other) in enumerate(pairs) if one[:3] != other[:3]), None)
    for one, other in zip(failing.decisions, passing.decisions, strict=False):
        if one != other:
            if one.actor == other.actor and "/" in one.op:
                return f"the nearest passing schedule makes another choice: {one.actor} {other.op} instead of {one.op}"
            break
    if steps is None:
        return ""
    here, there = failing.steps[steps], passing.steps[steps]
    return (
        f"the nearest passing schedule is the same up to step {steps}; there {_told(there)} comes next, "
        f"and here {_told(here)}"
    )


def _told(step: Step) -> str:
    at = f" ({step.where})" if step.where is not None else ""
    return f"{step.actor}: {step.op} {step.obj}".rstrip() + at
