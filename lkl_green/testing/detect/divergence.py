"""Nondeterminism: where two runs of one schedule part, and what that says of the test."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from lkl_green.testing.detect.ending import ending
from lkl_green.testing.run import Run, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.step import Step


NO_STEP_DIFFERS = (
    "no step differs: the runs did the same to the same objects in the same order, so that what differs is a value "
    "between scheduling points"
)

MESSAGE_DIFFERS = (
    "its message differs each time that this schedule is run: it tells something that is no part of the schedule, such "
    "as an address or the real time"
)


def first_divergence(once: Sequence[Step], again: Sequence[Step], *, renamed: bool = False) -> str:
    """The first step that differs between two recordings, in words; "" if none does; see `parting_steps`."""
    parting = parting_steps(once, again, renamed=renamed)
    if not parting:
        return ""
    one, other = parting
    if one is not None and other is not None:
        number = next(number for number, step in enumerate(once) if step is one)
        return f"the runs part at step {number + 1}: once {_told(one)}, and again {_told(other)}"
    goes_on = one or other
    assert goes_on is not None
    return f"one run ends after {min(len(once), len(again))} steps, the other goes on with {_told(goes_on)}"


def parting_steps(
    once: Sequence[Step], again: Sequence[Step], *, renamed: bool = False
) -> tuple[Step | None, Step | None] | tuple[()]:
    """The first steps that differ, None for the end of a run; () if the runs are the same.

    Args:
        once: a recording.
        again: another one.
        renamed: whether actors and objects may have other names, each its own throughout: programs count their threads
            over the life of a process, or draw names at random, and do the same all the same.
    """
    alike = _Renaming().alike if renamed else _same_names
    for one, other in zip_longest(once, again):
        if one is None or other is None or _key(one) != _key(other) or not alike(one, other):
            return one, other
    return ()


class _Renaming:
    """Which name in one run is which in the other."""

    def __init__(self) -> None:
        self._there = {"": ""}
        self._back = {"": ""}

    def alike(self, one: Step, other: Step) -> bool:
        return self._is(one.actor, other.actor) and self._is(one.obj, other.obj)

    def _is(self, name: str, other: str) -> bool:
        return self._there.setdefault(name, other) == other and self._back.setdefault(other, name) == name


def _same_names(one: Step, other: Step) -> bool:
    return (one.actor, one.obj) == (other.actor, other.obj)


def not_deterministic(run: Run, once: str, difference: str) -> None:
    """Two runs of one schedule differ, and nobody knows why.

    Args:
        run: the later one; it gets the verdict.
        once: how the earlier one ended.
        difference: where they part.
    """
    again = ending(run)
    detail = f"\n{run.detail}" if run.detail else ""
    how = f"once with {once!r} and once with {again!r}" if again != once else f"with {once!r} in another way each time"
    run.verdict = Verdict.NONDETERMINISTIC
    run.detail = (
        f"the same schedule ended {how}\n{difference}{detail}\nSomething that is no scheduling decision differs from "
        "run to run: state that the test keeps, the real clock, random numbers that are not from lkl_green.testing, "
        "the order of a set"
    )


def kept_state(run: Run, number: int, difference: str) -> None:
    """A schedule is another one than it was earlier in its campaign, and stays so.

    Args:
        run: the later one; it gets the verdict.
        number: of the schedule.
        difference: where the two part.
    """
    detail = f"\n{run.detail}" if run.detail else ""
    how = "" if run.passed else f", and ends with {ending(run)!r}"
    run.verdict = Verdict.KEPT_STATE
    run.detail = (
        f"schedule {number} passed, and goes another way after the others{how}\n{difference}{detail}\nIt stays the "
        "same now, so that something outlasts a schedule and changes what later ones do: an attribute of a module or "
        "a class, a cache, an object that is made once, in a fixture or outside the test. What it was before was "
        "tested in the first schedules only. Make it anew in each schedule, in the test or in setup=; or, if it is "
        "there to last, make it before the campaign begins, so that no schedule changes it"
    )


def _key(step: Step) -> tuple[object, ...]:
    """Without the directory, which differs where another machine ran one of the two."""
    where = step.where
    return step.op, where and (where.line, where.function)


def _told(step: Step) -> str:
    at = "" if step.where is None else f" at {step.where}: {step.where.text}"
    return f"{step.actor}: {step.op} {step.obj}".rstrip() + at
