"""`explore()` and `replay()`: running a test under many schedules, or under one again."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any

from lkl_green.testing.policies import make_policy
from lkl_green.testing.policies.replay import Replay, Trail
from lkl_green.testing.recording import Recording
from lkl_green.testing.report import Failure, Outcome, Report
from lkl_green.testing.run import Run, Verdict
from lkl_green.testing.schedule import Schedule
from lkl_green.testing.testbed import DEFAULT_MAX_STEPS, Testbed

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.testing.policies.base import Policy


def test_name(test: Callable[[], object]) -> str:
    """FILE.py::name, as far as a function knows."""
    code = getattr(test, "__code__", None)
    name = getattr(test, "__qualname__", repr(test))
    return name if code is None else f"{code.co_filename}::{name}"


class Campaign:
    """Runs schedules of one test, by number.

    Args:
        test: the test.
        policy: an object, or the name of one.
        seed: of the campaign.
        options: of the `Testbed`.
    """

    def __init__(
        self, test: Callable[[], object], policy: Policy | str, seed: int, options: dict[str, Any] | None = None
    ) -> None:
        self.test = test
        self.policy = make_policy(policy)
        self.seed = seed
        self.options = options or {}
        self.testbed = Testbed(**self.options)

    def run(self, number: int) -> Run | None:
        """Run one schedule; None if the policy has no more."""
        if not self.policy.begin(self.seed, number):
            return None
        return self.testbed.run(self.test, self.policy)

    def examine(self, run: Run, number: int, passed: Run | None = None) -> Failure:
        """Run a failing schedule again, twice, writing it down; what failed, or that it does not fail again.

        Args:
            run: it.
            number: which one it is.
            passed: an earlier one that passed, to see whether it still does.
        """
        first = self._record(Trail(run.trail))
        second = self._record(Replay(first[1].decisions))
        for again, recording in (first, second):
            if _ending(again) != _ending(run):
                _not_deterministic(again, _ending(run), _ending(again))
                return self._failure(again, recording, number)
        if passed is not None:
            again, recording = self._record(Trail(passed.trail))
            if _ending(again) != _ending(passed):
                _not_deterministic(again, _ending(passed), _ending(again))
                return self._failure(again, recording, number)
        return self._failure(*first, number)

    def _record(self, policy: Policy) -> tuple[Run, Recording]:
        recording = Recording(policy)
        recording.begin(self.seed, 0)
        return self.testbed.run(self.test, recording), recording

    def _failure(self, run: Run, recording: Recording, number: int) -> Failure:
        error = run.error
        schedule = Schedule(
            recording.decisions,
            test_name(self.test),
            run.verdict.value,
            _describe(error),
            self.policy.name,
            self.seed,
            number,
            self.options,
        )
        trace = "" if error is None else "".join(traceback.format_exception(error))
        return Failure(run.verdict, _describe(error), trace, run.detail, schedule, recording.steps, number)

    def close(self) -> None:
        """Give the kernel back."""
        self.testbed.close()


def _ending(run: Run) -> str:
    """How a run ended, for comparison and for people."""
    return f"{run.verdict.value} {_describe(run.error)}".strip()


def _not_deterministic(run: Run, once: str, again: str) -> None:
    run.verdict = Verdict.NONDETERMINISTIC
    run.detail = (
        f"the same schedule ended once with {once!r} and once with {again!r}. {run.detail} Something that is no "
        "scheduling decision differs from run to run: state that the test keeps, the real clock, random numbers that "
        "are not from lkl_green.testing, the order of a set"
    )


def _describe(error: BaseException | None) -> str:
    return "" if error is None else "".join(traceback.format_exception_only(error)).strip()


def explore(
    test: Callable[[], object],
    *,
    policy: Policy | str = "pos",
    schedules: int = 1000,
    seed: int = 0,
    time_budget: float | None = None,
    stop_on_failure: bool = True,
    max_steps: int = DEFAULT_MAX_STEPS,
    explore_time: bool = False,
    explore_irqs: bool = True,
    host_faults: bool = False,
) -> Report:
    """Run `test` under up to `schedules` schedules.

    Args:
        test: called without arguments, as a kernel thread, once per schedule; everything it uses it makes anew.
        policy: how schedules are made.
        schedules: how many.
        seed: the same seed gives the same schedules.
        time_budget: seconds after which no further schedule is begun; what is left makes the result *incomplete*.
        stop_on_failure: whether the first failing schedule is the last.
        max_steps: operations after which a schedule counts as one that never ends.
        explore_time: let timers expire at any point, not only when nothing else can happen.
        explore_irqs: let a triggered interrupt come at any later point.
        host_faults: let every host operation that can fail do so, as chance has it.

    Returns:
        the report; nothing is raised for a test that fails.
    """
    options = {
        "max_steps": max_steps,
        "explore_time": explore_time,
        "explore_irqs": explore_irqs,
        "host_faults": host_faults,
    }
    campaign = Campaign(test, policy, seed, options)
    report = Report(test_name(test), campaign.policy.name, seed)
    start = time.monotonic()
    try:
        _explore(campaign, report, schedules, None if time_budget is None else start + time_budget, stop_on_failure)
    finally:
        campaign.close()
        report.elapsed_s = time.monotonic() - start
    return report


def _explore(campaign: Campaign, report: Report, schedules: int, deadline: float | None, stop_on_failure: bool) -> None:
    passed: Run | None = None
    for number in range(schedules):
        if deadline is not None and time.monotonic() >= deadline:
            report.outcome, report.reason = Outcome.INCOMPLETE, "the time budget was used up"
            break
        run = campaign.run(number)
        if run is None:
            report.outcome, report.reason = Outcome.EXHAUSTED, campaign.policy.verdict
            break
        report.schedules += 1
        report.steps += run.steps
        if run.passed:
            passed = passed or run
        else:
            report.failures.append(campaign.examine(run, number, passed))
            if stop_on_failure:
                break
    if report.failures:
        report.outcome = Outcome.FAILED


def replay(test: Callable[[], object], schedule: Schedule) -> Failure | None:
    """Run `test` under a recorded schedule; how it failed, or None if it passed.

    A schedule that does not fit gives a Failure with Verdict.MISMATCH.
    """
    campaign = Campaign(test, "fifo", schedule.seed, schedule.options)
    try:
        policy = Replay(schedule.decisions)
        run, recording = campaign._record(policy)
        if policy.left and run.verdict is not Verdict.MISMATCH:
            run.detail = f"the run ended with {policy.left} recorded decisions left ({run.verdict.value})"
            run.verdict = Verdict.MISMATCH
        return None if run.passed else campaign._failure(run, recording, schedule.number)
    finally:
        campaign.close()
