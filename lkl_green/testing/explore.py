"""`explore()` and `replay()`: running a test under many schedules, or under one again."""

from __future__ import annotations

import copy
import functools
import inspect
from contextlib import closing
from dataclasses import replace
from os.path import basename
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeAlias

from lkl_green.testing.campaign import INSPECTED, Campaign, Chunk, test_name
from lkl_green.testing.coverage import NOTHING_TO_DECIDE, told_scope
from lkl_green.testing.plain import check_plain
from lkl_green.testing.policies import Policy, make_policy
from lkl_green.testing.policies.replay import Replay
from lkl_green.testing.progress import Meter
from lkl_green.testing.report import Failure, Outcome, Report
from lkl_green.testing.run import Verdict
from lkl_green.testing.selfcheck import NOT_FOUND, finds_a_known_race
from lkl_green.testing.settings import Settings
from lkl_green.testing.verify import verify as run_again
from lkl_green.testing.verify import warm_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lkl_green.testing.schedule import Schedule

_P = ParamSpec("_P")
_Test: TypeAlias = "Callable[[], object]"


def _takes(
    settings: Callable[_P, Settings],
) -> Callable[[Callable[[_Test, Settings], Report]], Callable[Concatenate[_Test, _P], Report]]:
    """Let a function of a test and its settings take the settings as keyword arguments, typed, with their defaults.

    Dropped: a signature of 18 arguments that repeats the names and defaults of `Settings`.
    """

    def decorate(function: Callable[[_Test, Settings], Report]) -> Callable[Concatenate[_Test, _P], Report]:
        first = next(iter(inspect.signature(function).parameters.values()))
        signature = inspect.signature(settings)
        signature = signature.replace(parameters=[first, *signature.parameters.values()], return_annotation="Report")

        def taking(test: _Test, *args: _P.args, **options: _P.kwargs) -> Report:
            try:
                signature.bind(test, *args, **options)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            return function(test, settings(*args, **options))

        functools.update_wrapper(taking, function)
        vars(taking)["__signature__"] = signature
        return taking  # type: ignore[return-value]  # Concatenate cannot say that `test` may be named, too

    return decorate


@_takes(Settings)
def explore(test: Callable[[], object], settings: Settings) -> Report:
    """Run `test` under up to `schedules` schedules.

    What is found is a function of the test, the policy, the seed and the number of schedules: how many processes share
    the work makes no difference.

    Args:
        test: called without arguments, as a kernel thread, once per schedule; everything it uses it makes anew. Locks
            and the like that its module has made are in each schedule as the first one found them.
        settings: keyword arguments, each optional: the fields of `Settings` and `ScheduleSettings`, which describe
            them.

    Returns:
        the report; nothing is raised for a test that fails.

    Raises:
        NotATest: the test is not a plain function.
        NotParallel: neither the test nor the policy allows several processes.
        ValueError: a policy that does not exist, a number that makes no sense.
    """
    check_plain(test)
    policy = make_policy(settings.policy)
    count = settings.schedules or policy.schedules
    settings = replace(settings, policy=policy, schedules=count, name=settings.name or test_name(test))
    report = _explore(test, settings, Meter(count, settings.time_budget, settings.on_progress))
    if settings.shrink and report.failures:
        from lkl_green.testing.shrink import shrink as simplest

        report.failures[0] = simplest(test, report.failures[0])
    return report


def _explore(test: Callable[[], object], settings: Settings, meter: Meter) -> Report:
    """One campaign; two, if it shows in the first that the test starts threads, and nothing was said of them."""
    policy = settings.policy
    # The first campaign may take its policy to the end of a search, or teach it what holds for that campaign only.
    unused = copy.deepcopy(policy) if isinstance(policy, Policy) and (policy.learns or policy.systematic) else policy
    report = _run_campaign(test, settings, meter)
    if report is None:
        report = _run_campaign(test, replace(settings, threads=True, policy=unused), meter)
    assert report is not None
    return report


def _run_campaign(test: Callable[[], object], settings: Settings, meter: Meter) -> Report | None:
    """Run the schedules, here or elsewhere, and examine here what they found; None if the test needs threads=True."""
    # Before the campaign is opened: it replaces `threading` by green threads, which worker processes must not inherit.
    chunks = _run_elsewhere(test, settings, meter) if settings.is_shared else None
    with Campaign(test, settings) as campaign:
        here = chunks is None
        if chunks is None:
            advance = meter.advance if meter.watches else None
            chunks = [campaign.run_chunk(0, settings.count, advance=advance)]
        if chunks[-1].needs_threads:
            return None
        report = Report(settings.name, campaign.policy.name, settings.seed, elapsed_s=meter.elapsed_s())
        report.threads = bool(settings.threads)
        _merge(chunks, campaign, report)
        whole = chunks[-1].exhausted or report.schedules == settings.schedules
        if settings.verify and not report.failures and whole:
            if not here:
                warm_up(campaign, chunks[0].samples)
            _verify(chunks, campaign, report, meter)
        _tell_points(campaign, report)
        _look_for_choices(report)
    if settings.in_memory and report.passed and not finds_a_known_race():
        report.outcome, report.reason = Outcome.INCOMPLETE, NOT_FOUND
    return report


def _look_for_choices(report: Report) -> None:
    """Say so if all schedules were one: nothing was ever decided."""
    if report.outcome is Outcome.PASSED and report.coverage.is_one_schedule:
        report.outcome, report.reason = Outcome.EXHAUSTED, NOTHING_TO_DECIDE
        report.runs, report.schedules = report.schedules, 1


def _tell_points(campaign: Campaign, report: Report) -> None:
    """Say which code has points; loudly, if none has."""
    points = campaign.points
    files = map(basename, () if points is None else points.accesses)
    report.scope = told_scope(threads=report.threads, files=files)
    if points is None:
        return
    if points.accesses:
        report.points = points.summary()
    else:
        report.warnings.append(points.summary())


def _run_elsewhere(test: Callable[[], object], settings: Settings, meter: Meter) -> list[Chunk]:
    """Run the schedules in other processes, or have an executor run them."""
    from lkl_green.testing.parallel import Plan, run_chunks

    with closing(run_chunks(Plan(test, settings.for_a_worker()), settings, meter)) as arriving:
        return _until_it_ends(arriving, settings.stop_on_failure)


def _until_it_ends(arriving: Iterable[Chunk], stop_on_failure: bool) -> list[Chunk]:
    """The chunks that a single process would have run."""
    chunks = []
    for chunk in arriving:
        chunks.append(chunk)
        if chunk.exhausted or chunk.needs_threads or (chunk.failing and stop_on_failure):
            break
    return chunks


def _merge(chunks: list[Chunk], campaign: Campaign, report: Report) -> None:
    """What chunks found, examined and reported."""
    report.schedules = sum(chunk.schedules for chunk in chunks)
    report.steps = sum(chunk.steps for chunk in chunks)
    passed = next((chunk.passed for chunk in chunks if chunk.passed is not None), None)
    report.warnings = list(dict.fromkeys(warning for chunk in chunks for warning in chunk.warnings))
    races: dict[str, str] = {}
    for chunk in reversed(chunks):
        races.update(chunk.races)
    report.races = list(races.values())
    report.redundant = sum(chunk.redundant for chunk in chunks)
    for chunk in chunks:
        report.coverage.merge(chunk.coverage)
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
    points = campaign.points
    if chunks[0].uncontrolled and points is not None and (points.left_out or not points.accesses):
        failure = campaign.blame_missing_points(chunks[0].uncontrolled)
        report.outcome, report.reason, report.failures = Outcome.FAILED, "", [failure]
        return
    report.replayed, failed = run_again(campaign, samples, report.schedules, lambda: meter.left_s() != 0)
    if failed is not None:
        report.outcome, report.reason, report.failures = Outcome.FAILED, "", [failed]


def replay(test: Callable[[], object], schedule: Schedule) -> Failure | None:
    """Run `test` under a recorded schedule; how it failed, or None if it passed.

    A schedule that does not fit gives a Failure with Verdict.MISMATCH.

    Raises:
        NotATest: the test is not a plain function.
    """
    check_plain(test)
    with Campaign(test, schedule.to_replay()) as campaign:
        policy = Replay(schedule.decisions)
        campaign.testbed.names.expect(schedule.counted)
        run, recording = campaign.record(policy)
        if policy.left and run.verdict is not Verdict.MISMATCH:
            run.detail = f"the run ended with {policy.left} recorded decisions left ({run.verdict.value})"
            run.verdict = Verdict.MISMATCH
        if run.passed:
            return None
        failure = campaign.failure(run, recording, schedule.number)
        failure.schedule.policy = schedule.policy
        return failure
