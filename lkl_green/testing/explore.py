"""`explore()` and `replay()`: running a test under many schedules, or under one again."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from lkl_green.errors import ScheduleFileError
from lkl_green.testing.campaign import INSPECTED, Campaign, Chunk, test_name
from lkl_green.testing.plain import check_plain
from lkl_green.testing.policies import make_policy
from lkl_green.testing.policies.replay import Replay
from lkl_green.testing.progress import Meter
from lkl_green.testing.report import Failure, Outcome, Report
from lkl_green.testing.run import Verdict
from lkl_green.testing.testbed import DEFAULT_MAX_STEPS
from lkl_green.testing.verify import verify as run_again
from lkl_green.testing.verify import warm_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    from lkl_green.testing.policies.base import Policy
    from lkl_green.testing.progress import Progress
    from lkl_green.testing.schedule import Schedule

# Seconds. A task that computes for so long between two points can hardly be told from one that never ends.
DEFAULT_WATCHDOG_S = 10.0


def explore(
    test: Callable[[], object],
    *,
    policy: Policy | str = "default",
    schedules: int = 1000,
    seed: int = 0,
    jobs: int = 1,
    executor: Executor | None = None,
    time_budget: float | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    stop_on_failure: bool = True,
    shrink: bool = False,
    max_steps: int = DEFAULT_MAX_STEPS,
    explore_time: bool = False,
    explore_irqs: bool = True,
    host_faults: bool = False,
    threads: bool = False,
    lockdep: bool = True,
    verify: bool = True,
    watchdog_s: float | None = DEFAULT_WATCHDOG_S,
    name: str = "",
) -> Report:
    """Run `test` under up to `schedules` schedules.

    What is found is a function of the test, the policy, the seed and the number of schedules: how many processes share
    the work makes no difference.

    Args:
        test: called without arguments, as a kernel thread, once per schedule; everything it uses it makes anew. Locks
            and the like that its module has made are in each schedule as the first one found them.
        policy: how schedules are made.
        schedules: how many.
        seed: the same seed gives the same schedules.
        jobs: how many processes share the work. With `executor`: how many chunks it works on at a time.
        executor: who runs chunks of schedules instead, in threads, processes, or on other machines; the test, and a
            policy that is an object, are pickled.
        time_budget: seconds after which no further schedule is begun; what is left makes the result *incomplete*.
        on_progress: called now and then with a `Progress`.
        stop_on_failure: whether the first failing schedule is the last.
        shrink: look for the simplest schedule that fails like the first one that was found.
        max_steps: operations after which a schedule counts as one that never ends.
        explore_time: let timers expire at any point, not only when nothing else can happen.
        explore_irqs: let a triggered interrupt come at any later point.
        host_faults: let every host operation that can fail do so, as chance has it.
        threads: run `threading`, `queue`, thread pools and `time` of the test as kernel threads in virtual time.
        lockdep: record a few schedules as they are run, to warn of locks that are taken in contradicting orders or left
            held, though nothing failed of it.
        verify: at the end of a campaign that found nothing, run two to ten of its schedules again. One that goes
            another way is a failure: the test is not deterministic, or keeps state between schedules.
        watchdog_s: a schedule fails if a task of it runs for so long without a scheduling point; None: it may.
        name: what reports call the test.

    Returns:
        the report; nothing is raised for a test that fails.

    Raises:
        NotATest: the test is no plain function.
        NotParallel: neither the test nor the policy allows several processes.
        ValueError: a policy that does not exist, a number that makes no sense.
    """
    check_plain(test)
    _check_numbers(schedules, jobs, time_budget)
    options = {
        "max_steps": max_steps,
        "explore_time": explore_time,
        "explore_irqs": explore_irqs,
        "host_faults": host_faults,
        "threads": threads,
        "lockdep": lockdep,
        "watchdog_s": watchdog_s,
    }
    policy = make_policy(policy)
    name = name or test_name(test)
    report = Report(name, policy.name, seed)
    meter = Meter(schedules, time_budget, on_progress)
    chunks = None
    if jobs > 1 or executor is not None:
        from lkl_green.testing.parallel import Plan, run_chunks

        plan = Plan(test, policy, seed, options, stop_on_failure)
        with closing(run_chunks(plan, schedules, meter, jobs, executor)) as arriving:
            chunks = _until_it_ends(arriving, stop_on_failure)
    with Campaign(test, policy, seed, options, name) as campaign:
        here = chunks is None
        if chunks is None:
            advance = meter.advance if meter.watches else None
            chunks = [campaign.run_chunk(0, schedules, stop_on_failure=stop_on_failure, advance=advance)]
        report.elapsed_s = meter.elapsed_s()
        _merge(chunks, campaign, report)
        if verify and not report.failures and (chunks[-1].exhausted or report.schedules == schedules):
            if not here:
                warm_up(campaign, chunks[0].samples)
            _verify(chunks, campaign, report, meter)
    if shrink and report.failures:
        from lkl_green.testing.shrink import shrink as simplest

        report.failures[0] = simplest(test, report.failures[0])
    return report


def _check_numbers(schedules: int, jobs: int, time_budget: float | None) -> None:
    if schedules < 1:
        raise ValueError(f"schedules={schedules}: with none, nothing would be tested")
    if jobs < 1:
        raise ValueError(f"jobs={jobs}: at least one process has to do the work")
    if time_budget is not None and not time_budget > 0:
        raise ValueError(f"time_budget={time_budget}: seconds, more than 0, or None for no limit")


def _until_it_ends(arriving: Iterable[Chunk], stop_on_failure: bool) -> list[Chunk]:
    """The chunks that a single process would have run."""
    chunks = []
    for chunk in arriving:
        chunks.append(chunk)
        if chunk.exhausted or (chunk.failing and stop_on_failure):
            break
    return chunks


def _merge(chunks: list[Chunk], campaign: Campaign, report: Report) -> None:
    """What chunks found, examined and reported."""
    report.schedules = sum(chunk.schedules for chunk in chunks)
    report.steps = sum(chunk.steps for chunk in chunks)
    passed = next((chunk.passed for chunk in chunks if chunk.passed is not None), None)
    report.warnings = list(dict.fromkeys(warning for chunk in chunks for warning in chunk.warnings))
    report.failures = [campaign.examine(found, passed) for chunk in chunks for found in chunk.failing]
    cut_off = next((chunk.cut_off for chunk in chunks if chunk.cut_off), "")
    if report.failures:
        report.outcome = Outcome.FAILED
    elif cut_off:
        report.outcome, report.reason = Outcome.INCOMPLETE, cut_off
    elif chunks[-1].exhausted:
        report.outcome, report.reason = Outcome.EXHAUSTED, chunks[-1].bound


def _verify(chunks: list[Chunk], campaign: Campaign, report: Report, meter: Meter) -> None:
    """Run some schedules again; if they are not what they were, nothing may be said."""
    samples = [sample for chunk in chunks for sample in chunk.samples if sample.number in INSPECTED]
    if chunks[-1].samples and chunks[-1].samples[-1] not in samples:
        samples.append(chunks[-1].samples[-1])
    if chunks[0].strays and not any(sample.print.trail for sample in samples):
        report.outcome, report.reason, report.failures = Outcome.FAILED, "", [campaign.blame(chunks[0].strays)]
        return
    report.replayed, failure = run_again(campaign, samples, report.schedules, lambda: meter.left_s() != 0)
    if failure is not None:
        report.outcome, report.reason, report.failures = Outcome.FAILED, "", [failure]


def replay(test: Callable[[], object], schedule: Schedule) -> Failure | None:
    """Run `test` under a recorded schedule; how it failed, or None if it passed.

    A schedule that does not fit gives a Failure with Verdict.MISMATCH.

    Raises:
        ScheduleFileError: the schedule has options that do not exist.
        NotATest: the test is no plain function.
    """
    check_plain(test)
    try:
        campaign = Campaign(test, "fifo", schedule.seed, schedule.options, schedule.test)
    except TypeError as error:
        raise ScheduleFileError(f"the schedule's options {schedule.options!r} do not exist: {error}") from None
    with campaign:
        policy = Replay(schedule.decisions)
        run, recording = campaign.record(policy)
        if policy.left and run.verdict is not Verdict.MISMATCH:
            run.detail = f"the run ended with {policy.left} recorded decisions left ({run.verdict.value})"
            run.verdict = Verdict.MISMATCH
        if run.passed:
            return None
        failure = campaign.failure(run, recording, schedule.number)
        failure.schedule.policy = schedule.policy
        return failure
