"""Schedules that passed, kept to be run again at the end of a campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lkl_green.testing.detect.ending import ending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.recording import Recording
    from lkl_green.testing.run import Run
    from lkl_green.testing.step import Step


class Print(NamedTuple):
    """What is the same in two runs of one schedule.

    Attributes:
        ending: how it ended.
        trail: each decision as the number of the option taken.
        steps: how many operations were done.
        time_ns: virtual time at the end.
    """

    ending: str
    trail: list[int]
    steps: int
    time_ns: int


class Sample(NamedTuple):
    """A schedule that passed, as plain data.

    Attributes:
        number: which one of the campaign.
        print: what it did, in short.
        policy: which policy made it.
        steps: what it did, one by one, if all of it was recorded; None otherwise.
    """

    number: int
    print: Print
    policy: str
    steps: Sequence[Step] | None = None


def print_of(run: Run) -> Print:
    """What another run of the same schedule has to be like."""
    return Print(ending(run), run.trail, run.steps, run.time_ns)


def sample_of(number: int, run: Run, policy: str, recording: Recording | None = None) -> Sample:
    """A run that passed, kept to be compared."""
    steps = recording.steps if recording is not None and recording.is_whole else None
    return Sample(number, print_of(run), policy, steps)
