"""Nondeterminism: where two runs of one schedule part."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.step import Step


NO_STEP_DIFFERS = (
    "no step differs: the runs did the same to the same objects in the same order, so that what differs is a value "
    "between scheduling points"
)


def first_divergence(once: Sequence[Step], again: Sequence[Step]) -> str:
    """The first step that differs between two recordings, in words; "" if none does."""
    for number, (one, other) in enumerate(zip(once, again, strict=False)):
        if _key(one) != _key(other):
            return f"the runs part at step {number + 1}: once {_told(one)}, and again {_told(other)}"
    shorter, longer = sorted((once, again), key=len)
    if len(longer) > len(shorter):
        return f"one run ends after {len(shorter)} steps, the other goes on with {_told(longer[len(shorter)])}"
    return ""


def _key(step: Step) -> tuple[object, ...]:
    return step.actor, step.op, step.obj, step.where


def _told(step: Step) -> str:
    at = "" if step.where is None else f" at {step.where}: {step.where.text}"
    return f"{step.actor}: {step.op} {step.obj}".rstrip() + at
