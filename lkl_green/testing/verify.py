"""Whether a campaign that found nothing may say so: a few of its own schedules, run again at its end.

A schedule that is not repeated exactly proves nothing, and neither does a campaign of such schedules. A failure is run
again before it is told; a pass has to be, too. Two schedules are run again always:

*The last one, at once.* Nothing has happened since. If it goes another way now, chance is at work that is no part of
the schedule: the real clock, `random`, the order of a set.

*The first one, after all the others.* If something is left of a schedule that the next one finds, a cache, a counter
of a class, an object made outside the test, then it is found changed most probably now.

Long campaigns run more of them again, one for each hundred of its schedules.

*No allowance for warming up, but for the standard library's.* The first run of a test may do what no later one does:
fill a cache, make the only instance of a class. What depends on that was explored in one schedule and not in a
thousand, whatever the report says, and the race is often just there. Dropped: to compare with the second schedule,
which would let all of that pass. But what asyncio does once in a process is not the test's business, nor in its power:
where a schedule that was recorded parts at a line of the standard library, it is not held against the test.
"""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING

from lkl_green.testing.detect.divergence import first_divergence, kept_state, not_deterministic, parting_steps
from lkl_green.testing.policies.replay import Trail
from lkl_green.testing.sample import print_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lkl_green.testing.campaign import Campaign
    from lkl_green.testing.report import Failure
    from lkl_green.testing.run import Run
    from lkl_green.testing.sample import Print, Sample

# Schedules to each one that is run again, and at most so many; two always.
_SCHEDULES_EACH = 100
_FEWEST, _MOST = 2, 10

# Runs that have to be the same before a difference to an earlier one is taken for kept state, and not for chance.
_AGREEING = 4


def verify(
    campaign: Campaign, samples: Sequence[Sample], schedules: int, in_time: Callable[[], bool]
) -> tuple[int, Failure | None]:
    """Run schedules of a campaign again that passed.

    Args:
        campaign: runs them, in the process that ran them before, or in one that has run some others.
        samples: of the campaign, by number: the first, some others, the last.
        schedules: how many the campaign had.
        in_time: asked before each run; False ends this.

    Returns:
        how many were run again, and what is wrong with the campaign; None if they are what they were.
    """
    replayed = 0
    for sample in islice(_in_turn(samples), min(max(schedules // _SCHEDULES_EACH, _FEWEST), _MOST)):
        if not in_time():
            break
        replayed += 1
        failure = _run_again(campaign, sample)
        if failure is not None:
            return replayed, failure
    return replayed, None


def warm_up(campaign: Campaign, samples: Sequence[Sample]) -> None:
    """Run the first schedule in a process that has run none; what another one did first is not compared with that."""
    if samples:
        campaign.testbed.run(campaign.test, Trail(samples[0].print.trail))


def _in_turn(samples: Sequence[Sample]) -> Iterator[Sample]:
    """The last, the first, then those between, and all over again."""
    return cycle([samples[-1], *samples[:-1]] if samples else [])


def _run_again(campaign: Campaign, sample: Sample) -> Failure | None:
    run: Run | None = None
    if sample.number or sample.steps is None:
        run = campaign.testbed.run(campaign.test, Trail(sample.print.trail))
        if print_of(run) == sample.print:
            return None
        if sample.steps is None:
            return _tell(campaign, sample, run)
    # The first is compared step by step, which takes as long as some dozen runs; others if they differ in short.
    recorded, recording = campaign.record(Trail(sample.print.trail))
    parting = parting_steps(sample.steps, recording.steps, renamed=True)
    if any(step is not None and step.where is not None and step.where.in_standard_library for step in parting):
        return None
    if run is None and print_of(recorded) == sample.print and not parting:
        return None
    return _tell(campaign, sample, run or recorded)


def _tell(campaign: Campaign, sample: Sample, again: Run) -> Failure:
    """A schedule is not what it was. If it stays what it is now, something else has changed for good."""
    runs = [campaign.record(Trail(sample.print.trail)) for _ in range(_AGREEING)]
    run, recording = runs[0]
    prints = [print_of(again), *(print_of(one) for one, _ in runs)]
    others = [other.steps for _, other in runs[1:]]
    stays = not any(parting_steps(recording.steps, one, renamed=True) for one in others)
    stays = stays and all(one == prints[0] for one in prints)
    once = [] if sample.steps is None else [sample.steps]
    parts = (first_divergence(one, recording.steps, renamed=True) for one in (*once, *others))
    difference = next(filter(None, parts), "") or _in_figures(sample.print, *prints)
    if stays:
        kept_state(run, sample.number, difference)
    else:
        not_deterministic(run, sample.print.ending, difference)
    return campaign.failure(run, recording, sample.number, sample.policy)


def _in_figures(once: Print, *others: Print) -> str:
    """Two runs of which no steps are known that differ."""
    again = next((other for other in others if other != once), once)
    if once.steps != again.steps:
        return f"it took {once.steps} steps, and {again.steps} when it was run again"
    if once.time_ns != again.time_ns:
        return f"it ended at {once.time_ns} ns of virtual time, and at {again.time_ns} ns when it was run again"
    return f"it had {len(once.trail)} decisions, and {len(again.trail)} others when it was run again"
