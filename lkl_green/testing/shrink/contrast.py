"""What differs from the nearest schedule that passes: the failing one, but for one decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.shrink.measured import Deviation, Guided

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.campaign import Campaign
    from lkl_green.testing.recording import Recording
    from lkl_green.testing.step import Step


def contrast(campaign: Campaign, taken: Sequence[Deviation], max_steps: int | None) -> str:
    """In words, where the failing schedule and a passing one part; "" if every neighbour fails, too.

    Args:
        campaign: runs the test.
        taken: the deviations of the failing schedule. The last preemption is taken back first, then those before it,
            then other deviations, then all of them.
        max_steps: operations after which a candidate is given up; None: the campaign's limit counts.
    """
    order = sorted(range(len(taken)), key=lambda number: (not taken[number].preempts, -number))
    candidates = [[*taken[:number], *taken[number + 1 :]] for number in order]
    failing: Recording | None = None
    for wishes in [*candidates, []]:
        passing = _record(campaign, wishes, max_steps)
        if passing is not None:
            failing = failing or _failing(campaign, taken)
            return _first_difference(failing, passing)
    return ""


def _record(campaign: Campaign, wishes: Sequence[Deviation], max_steps: int | None) -> Recording | None:
    run, recording = campaign.record(Guided(wishes, max_steps))
    return recording if run.passed else None


def _failing(campaign: Campaign, taken: Sequence[Deviation]) -> Recording:
    return campaign.record(Guided(taken))[1]


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
