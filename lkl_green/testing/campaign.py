"""A campaign: the schedules of one test, by number.

The unit of work is a *chunk*, a range of numbers. One process runs all of them as one chunk; several share them out.
What a chunk found is plain data, trails of choices, so that it can come from another process or machine; whoever
started the campaign runs a failing schedule again from its trail and examines it. So a failure is told alike wherever
it was found.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from lkl_green.errors import BlockedCall
from lkl_green.testing.coverage import Coverage
from lkl_green.testing.detect.divergence import MESSAGE_DIFFERS, NO_STEP_DIFFERS, first_divergence, not_deterministic
from lkl_green.testing.detect.ending import describe, ending, kind_of
from lkl_green.testing.policies import make_policy
from lkl_green.testing.policies.replay import Replay, Trail
from lkl_green.testing.recording import Recording
from lkl_green.testing.report import Failure
from lkl_green.testing.run import Run, Verdict
from lkl_green.testing.sample import Sample, sample_of
from lkl_green.testing.schedule import Schedule
from lkl_green.testing.source import traceback_of
from lkl_green.testing.stray_loops import refusing_loops
from lkl_green.testing.strays import nothing_controlled, nothing_explored, uncontrolled, watching_strays
from lkl_green.testing.testbed import Testbed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from lkl_green.testing.instrument.instrumented import Instrumented
    from lkl_green.testing.policies.base import Policy
    from lkl_green.testing.settings import Settings

# A policy that learns begins anew whenever a schedule's number is a multiple of this.
CHUNK = 64

# The numbers of the schedules that are recorded as they are run; to record one takes as long as running some dozen.
INSPECTED = frozenset({0, 1, 7, 63, 511, 4095})

# Of a longer schedule, the beginning is recorded.
_INSPECTED_STEPS = 20_000


def test_name(test: Callable[[], object]) -> str:
    """FILE.py::name, as far as a function knows."""
    code = getattr(test, "__code__", None)
    name = getattr(test, "__qualname__", repr(test))
    return name if code is None else f"{code.co_filename}::{name}"


class Found(NamedTuple):
    """A schedule that failed, or passed, as plain data.

    Attributes:
        number: which one of the campaign.
        trail: each decision as the number of the option taken.
        ending: how it ended, for people.
        kind: the same for comparison.
        policy: which policy made it.
    """

    number: int
    trail: list[int]
    ending: str
    kind: tuple[object, ...]
    policy: str = ""


@dataclass
class Chunk:
    """What came of a range of schedules.

    Attributes:
        first, count: the range.
        schedules, steps: how many were run, and the operations in them.
        redundant: how many more of a search were left when it showed that they repeat others.
        failing: those that failed, in order.
        passed: the first that passed.
        warnings: what the schedules that were recorded show though they passed.
        exhausted: whether the policy had no more; what it says to that is `bound`.
        cut_off: why it ended early; "" if it did not.
        samples: schedules that passed, to be run again at the end of the campaign.
        strays: the OS threads that the test started in the first schedule though they are not replaced.
        uncontrolled: the threads of the first schedule, if they passed no points.
        races: the data races of the schedules that were recorded, by their lines.
        coverage: how they differ, and what was decided in those that were recorded.
        needs_threads: whether the last schedule was ended because it wanted to start an OS thread, and the campaign was
            not told what to do with such threads.
    """

    first: int
    count: int
    schedules: int = 0
    steps: int = 0
    redundant: int = 0
    failing: list[Found] = field(default_factory=list)
    passed: Found | None = None
    warnings: list[str] = field(default_factory=list)
    exhausted: bool = False
    bound: str = ""
    cut_off: str = ""
    samples: list[Sample] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    uncontrolled: list[str] = field(default_factory=list)
    races: dict[str, str] = field(default_factory=dict)
    coverage: Coverage = field(default_factory=Coverage)
    needs_threads: bool = False


def settled(settings: Settings, policy: Policy) -> Settings:
    """The settings, with what the policy makes of those that are left open. Raises ValueError if it cannot work so."""
    left_open = {name for name in policy.settles if getattr(settings, name) is None}
    settings = replace(settings, **{name: policy.settles[name] for name in left_open})  # type: ignore[arg-type]
    for name, value in policy.requires.items():
        if getattr(settings, name) != value:
            raise ValueError(
                f"policy={policy.name!r} needs {name}={value!r}: with {name}={getattr(settings, name)!r} it is not "
                "known which operations depend on each other; use a policy that samples"
            )
    return settings


class Campaign:
    """Runs schedules of one test, by number.

    Args:
        test: the test.
        settings: of the campaign.

    Attributes:
        warnings: what is wrong in schedules that passed, as far as they were recorded.
    """

    def __init__(
        self,
        test: Callable[[], object],
        settings: Settings,
    ) -> None:
        self.test = test
        self.name = settings.name or test_name(test)
        self.policy = make_policy(settings.policy)
        # A search reaches each order of operations by the points before them: further decisions would only repeat it.
        settings = replace(settings, after_points=settings.after_points and not self.policy.systematic)
        self.settings = settings = settled(settings, self.policy)
        self._untaught = copy.deepcopy(self.policy) if self.policy.learns else None
        self.testbed = Testbed(settings)
        self.warnings: dict[str, None] = {}
        self._samples: list[Sample] = []
        self._races: dict[str, str] = {}
        self._coverage = Coverage()
        self._strays: list[str] = []
        self._uncontrolled: list[str] = []
        self._threads = ExitStack()
        if settings.threads:
            from lkl_green.testing.green_schedules import green_schedules

            self.test = self._threads.enter_context(green_schedules(test, settings))
        self.points: Instrumented | None = None
        if settings.in_memory:
            from lkl_green.testing.instrument.instrumented import instrumented

            self.points = self._threads.enter_context(instrumented(test, settings.points_in))
        # Threads that were not started: see strays.py.
        self._refused: list[str] = []
        if settings.threads is None:
            self._refused = self._threads.enter_context(watching_strays(refuse=True))
            self._threads.enter_context(refusing_loops(self._refused))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, number: int) -> Run | None:
        """Run one schedule; None if the policy has no more."""
        if self._untaught is not None and number % CHUNK == 0:
            self.policy = copy.deepcopy(self._untaught)
        if not self.policy.begin(self.settings.seed, number):
            return None
        if self._inspects and number in INSPECTED:
            return self._inspect(number)
        return self.testbed.run(self.test, self.policy)

    @property
    def _inspects(self) -> bool:
        return self.settings.lockdep or self.settings.races != "off"

    def _inspect(self, number: int) -> Run:
        """Run a schedule and look at what it does."""
        recording = Recording(self.policy, trace_capacity=0, most_steps=_INSPECTED_STEPS)
        if number or self.settings.threads is not False:
            run = self.testbed.run(self.test, recording, recording.dissect)
        else:
            with watching_strays() as self._strays:
                run = self.testbed.run(self.test, recording, recording.dissect)
        if self.settings.lockdep:
            self.warnings.update(dict.fromkeys(recording.warnings))
        self._coverage.merge(recording.coverage)
        self._look_for_races(run, recording)
        if number == 0 and self.points is not None:
            self._uncontrolled = uncontrolled(recording.steps)
        if run.passed and not run.redundant:
            self._samples.append(sample_of(number, run, self.policy.maker, recording))
        return run

    def _look_for_races(self, run: Run, recording: Recording) -> None:
        """Collect the data races of a recorded run; if the settings say so it fails of them."""
        if self.settings.races == "off":
            return
        races = recording.evidence.races.found(self.settings.ignored_races)
        recording.races = [race.sentence() for race in races]
        for race in races:
            self._races.setdefault(race.lines(), race.text())
        if races and run.passed and self.settings.races == "fail":
            run.verdict = Verdict.RACE
            run.detail = "\n".join(race.text() for race in races)

    def run_chunk(
        self,
        first: int,
        count: int,
        *,
        advance: Callable[[int], bool] | None = None,
    ) -> Chunk:
        """Run the schedules from number `first` on.

        Args:
            first: the first number.
            count: how many.
            advance: told before each schedule how many have been run; False ends the chunk there.
        """
        chunk = Chunk(first, count)
        self.warnings.clear()
        self._samples.clear()
        self._races.clear()
        self._coverage = Coverage()
        self._strays, self._uncontrolled = [], []
        last: Run | None = None
        while chunk.schedules < count:
            number = first + chunk.schedules
            if advance is not None and not advance(chunk.schedules):
                chunk.cut_off = "the time budget was used up"
                break
            run = self.run(number)
            if run is None:
                break
            if self._refused:
                chunk.needs_threads = True
                return chunk
            if run.redundant:
                chunk.redundant += 1
                continue
            last = run
            chunk.schedules += 1
            chunk.steps += run.steps
            self._coverage.add(run.trail)
            if not run.passed:
                chunk.failing.append(self._found(number, run))
                if self.settings.stop_on_failure:
                    break
            elif chunk.passed is None:
                chunk.passed = self._found(number, run)
        self._sample_last(first + chunk.schedules - 1, last)
        chunk.samples, chunk.strays = self._samples.copy(), self._strays
        chunk.uncontrolled = self._uncontrolled
        chunk.races, chunk.coverage = self._races.copy(), self._coverage
        chunk.warnings = list(self.warnings)
        if not chunk.cut_off:
            chunk.cut_off = self.policy.left_out
            chunk.exhausted, chunk.bound = bool(self.policy.verdict), self.policy.verdict
        return chunk

    def _found(self, number: int, run: Run) -> Found:
        return Found(number, run.trail, ending(run), kind_of(run), self.policy.maker)

    def _sample_last(self, number: int, run: Run | None) -> None:
        if run is not None and run.passed and (not self._samples or self._samples[-1].number != number):
            self._samples.append(sample_of(number, run, self.policy.maker))

    def examine(self, found: Found, passed: Found | None = None) -> Failure:
        """Run a failing schedule again, twice, writing it down; what failed, or that it does not fail again.

        Args:
            found: it.
            passed: one that passed, to see whether it still does.
        """
        first = self.record(Trail(found.trail))
        if kind_of(first[0]) == found.kind and self._is_enough(*first):
            return self.failure(*first, found.number, found.policy)
        second = self.record(Replay(first[1].decisions))
        for again, recording in (first, second):
            if kind_of(again) != found.kind:
                return self._differs(found, again, recording, first[1], second[1])
        if passed is not None:
            again, recording = self.record(Trail(passed.trail))
            if kind_of(again) != passed.kind:
                return self._differs(passed, again, recording)
        failure = self.failure(*first, found.number, found.policy)
        if len({found.ending, ending(first[0]), ending(second[0])}) > 1:
            failure.detail = MESSAGE_DIFFERS
        return failure

    def _is_enough(self, run: Run, recording: Recording) -> bool:
        """Whether a failure that takes seconds has been seen often enough; recordings take the most time."""
        if run.verdict is Verdict.LIVELOCK:
            return self.testbed.run(self.test, Replay(recording.decisions)).verdict is Verdict.LIVELOCK
        return run.verdict is Verdict.HUNG or isinstance(run.error, BlockedCall)

    def _differs(self, found: Found, again: Run, recording: Recording, *others: Recording) -> Failure:
        """A schedule does not end as it did: say so, and where two runs of it part."""
        others = (*others, self.record(Trail(found.trail))[1])
        parts = (first_divergence(recording.steps, other.steps) for other in others)
        not_deterministic(again, found.ending, next(filter(None, parts), NO_STEP_DIFFERS))
        return self.failure(again, recording, found.number, found.policy)

    def blame(self, strays: list[str]) -> Failure:
        """Nothing was decided in any schedule, and the test starts threads: it was not explored."""
        run, recording = self.record(Trail([]))
        nothing_explored(run, strays)
        return self.failure(run, recording, 0)

    def blame_missing_points(self, threads: list[str]) -> Failure:
        """The threads passed no points, and there is code that could have none."""
        run, recording = self.record(Trail([]))
        nothing_controlled(run, threads, [] if self.points is None else self.points.left_out)
        return self.failure(run, recording, 0)

    def record(self, policy: Policy) -> tuple[Run, Recording]:
        """Run one schedule by `policy`, and write it down."""
        recording = Recording(policy)
        recording.begin(self.settings.seed, 0)
        run = self.testbed.run(self.test, recording, recording.dissect)
        self._look_for_races(run, recording)
        recording.counted = self.testbed.names.given()
        return run, recording

    def failure(self, run: Run, recording: Recording, number: int, policy: str = "") -> Failure:
        """A recorded run that failed, as what users get to see."""
        error = run.error
        schedule = Schedule(
            recording.decisions,
            self.name,
            run.verdict.value,
            describe(error),
            policy or self.policy.name,
            self.settings.seed,
            number,
            recording.counted,
            self.settings.of_each_schedule(),
        )
        trace = "" if error is None else traceback_of(error)
        failure = Failure(run.verdict, describe(error), trace, run.detail, schedule, recording.steps, number, error)
        if not self.settings.threads:  # of the kernel below, users of `threading` need to know nothing
            failure.trace = recording.trace
        failure.overtakings = recording.overtakings
        failure.races = recording.races if run.verdict is not Verdict.RACE else []
        return failure

    def close(self) -> None:
        """Give the kernel back, and put back what was replaced."""
        self.testbed.close()
        self._threads.close()
