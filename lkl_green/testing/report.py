"""What an exploration found."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lkl_green.errors import ScheduleFailed
from lkl_green.testing.coverage import Coverage, told_end
from lkl_green.testing.table import schedule_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.cost import Shrunk
    from lkl_green.testing.run import Verdict
    from lkl_green.testing.schedule import Schedule
    from lkl_green.testing.step import Step

# How long the parts of a report may be, in lines.
_TRACEBACK_LINES = 12
_DETAIL_LINES = 18
_TRACE_LINES = 5
_TABLE_LINES = 8
# Of the data races, so many are told beside a failure, and so many under a pass.
_RACES = 3
_RACES_PASSED = 5

# Trace lines begin with much that says little.
_TRACE_MORE = 40


# What stands below a failure in an event loop whose order a loop with the same timing would not have.
_OTHER_ORDER = (
    "the event loop ran a later callback first, {times}: call_soon() is first in, first out, so with the same\n"
    'timing a real loop has another order; loop_order="fifo" explores only orders that keep to it'
)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


class Outcome(enum.Enum):
    """What may be said after an exploration."""

    PASSED = "passed"  # every schedule that was asked for was run, and none failed
    EXHAUSTED = "exhausted"  # there are no more schedules, at all or within the policy's bound
    FAILED = "failed"
    INCOMPLETE = "incomplete"  # a limit ended it: not a pass


@dataclass
class Failure:
    """A schedule in which the test fails.

    Attributes:
        verdict: what is wrong.
        error: the exception's text, or what else happened; empty for verdicts that say it all.
        traceback: of the exception, without frames of this package.
        detail: for people: who waits for what, which limit was hit.
        schedule: how to run it again.
        steps: every operation of the run.
        number: which schedule of the campaign it was, from 0.
        exception: what left the test or one of its tasks, in this process; None if nothing did.
        shrunk: how the schedule was made simpler; None if it was not.
        contrast: where the nearest schedule that passes goes another way; "" if none was looked for or found.
        trace: the last events of the run, as ftrace prints them; "" if the test runs threads of `threading`.
        trace_file: where all of them were written; "" if they were not.
        how_to_replay: the command that runs the schedule again; whoever knows it fills it in.
        races: the data races of the schedule, a sentence each.
        overtakings: how often a task of an asyncio loop ran before something that was ready earlier.
        not_kept: why the schedule is in no file though it should; "" if it is, or need not.
    """

    verdict: Verdict
    error: str
    traceback: str
    detail: str
    schedule: Schedule
    steps: list[Step] = field(repr=False)
    number: int = 0
    exception: BaseException | None = field(default=None, repr=False, compare=False)
    shrunk: Shrunk | None = None
    contrast: str = ""
    trace: str = field(default="", repr=False)
    trace_file: str = ""
    how_to_replay: str = ""
    races: list[str] = field(default_factory=list)
    overtakings: int = 0
    not_kept: str = ""

    def headline(self) -> str:
        """In one line."""
        error = self.error.partition("\n")[0]
        return f"{self.verdict.value}: {error}" if error else self.verdict.value

    def text(self, width: int = 100, max_lines: int | None = 60) -> str:
        """All that helps to find the bug: what failed, the schedule as a table, what passes, how to run it again.

        Args:
            width: of the table, in characters.
            max_lines: of the text. What is long is cut; the table gets what the rest leaves it. None: nothing is cut,
                and every step is in the table.
        """
        whole = max_lines is None
        head = [
            self.headline()[:width],
            *_cut(self.traceback.rstrip().splitlines(), None if whole else _TRACEBACK_LINES),
            *_cut(self.detail.splitlines(), None if whole else _DETAIL_LINES),
        ]
        tail = self._where_from()
        if self.contrast:
            tail.append(self.contrast)
        if self.overtakings:
            tail.append(_OTHER_ORDER.format(times=_times(self.overtakings)))
        tail += _cut(self.races, _RACES)
        tail += [line[: width + _TRACE_MORE] for line in self._trace_lines()]
        if self.how_to_replay:
            tail += ["replay it with:", f"    {self.how_to_replay}"]
        if self.not_kept:
            tail.append(f"the schedule was not kept: {self.not_kept}")
        rows = None if max_lines is None else max(max_lines - len(head) - len(tail) - 3, _TABLE_LINES)
        table = schedule_table(self.steps, width, rows).splitlines() if self.steps else []
        return "\n".join([*head, *([""] if table else []), *table, "", *tail])

    def _where_from(self) -> list[str]:
        schedule = self.schedule
        lines = [f"schedule {self.number} of seed {schedule.seed}, policy {schedule.policy}"]
        if self.shrunk is not None:
            lines.append(str(self.shrunk))
        return lines

    def _trace_lines(self) -> list[str]:
        if self.trace_file:
            return [f"trace of the kernel: {self.trace_file}"]
        events = [line for line in self.trace.splitlines() if not line.startswith("#")]
        if not events:
            return []
        return ["the end of the kernel's trace:", *(event.strip() for event in events[-_TRACE_LINES:])]


@dataclass
class Report:
    """What came of `explore()`.

    Attributes:
        test: its name.
        outcome: what may be said.
        reason: why it ended there: "exhausted within 2 preemptions", "the time budget of 10 s was used up".
        policy, seed: how schedules were made.
        schedules: how many were run. If nothing is ever decided there is one, however often it was run.
        runs: how often that one was run; 0 if there is more than one.
        redundant: how many more were begun by a search, and left when it showed that they repeat others.
        replayed: how many of them were run once more, to see whether they are what they were.
        steps: operations in all of them.
        failures: at most one, unless the exploration was told to go on.
        elapsed_s: wall-clock time.
        races: the data races that were found, each with the stacks of both accesses.
        coverage: how many schedules differ, what was decided, and in how many schedules data races were looked for.
        scope: which operations and accesses are points, in words.
        points: which modules have points in ordinary code, how many accesses, and what was left out; "" without them.
        threads: whether threads of `threading` ran as kernel threads.
        warnings: what looks wrong though no schedule failed of it: locks taken in contradicting orders, or left held.
    """

    test: str
    policy: str
    seed: int
    outcome: Outcome = Outcome.PASSED
    reason: str = ""
    schedules: int = 0
    runs: int = 0
    redundant: int = 0
    replayed: int = 0
    steps: int = 0
    failures: list[Failure] = field(default_factory=list)
    elapsed_s: float = 0.0
    warnings: list[str] = field(default_factory=list)
    scope: str = ""
    points: str = ""
    races: list[str] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
    threads: bool = False

    @property
    def passed(self) -> bool:
        """Whether all was run that was asked for, and nothing failed."""
        return self.outcome in (Outcome.PASSED, Outcome.EXHAUSTED)

    @property
    def failure(self) -> Failure | None:
        """The first failure."""
        return self.failures[0] if self.failures else None

    def assert_passed(self) -> None:
        """Raises ScheduleFailed unless `passed`: an exploration that a limit cut short has proved nothing."""
        if not self.passed:
            raise ScheduleFailed(self.text(), self)

    def counted(self) -> str:
        """How many schedules were run, and how many of them again."""
        if self.runs > 1:
            return f"1 schedule, run {self.runs} times"
        redundant = f", {self.redundant} redundant" if self.redundant else ""
        again = f", {self.replayed} replayed" if self.replayed else ""
        return f"{self.schedules} schedule{'s'[: self.schedules != 1]}{redundant}{again}"

    def _told_end(self) -> list[str]:
        exhausted = self.outcome is Outcome.EXHAUSTED
        return [told_end(self.reason, self.schedules, self.scope)] if exhausted and self.scope else []

    def told_races(self) -> list[str]:
        """The data races, for a campaign that found no failure: they are no verdict, since some are meant."""
        if self.failures or not self.races:
            return []
        more = len(self.races) - _RACES_PASSED
        return [
            f"data races, in {self.coverage.recorded} of the schedules that were looked at for them: {len(self.races)}",
            *self.races[:_RACES_PASSED],
            *([f"... and {more} more"] if more > 0 else []),
        ]

    def facts(self) -> list[str]:
        """What the schedules were, and what was noticed though nothing failed of it."""
        lines = [*self._told_end(), *([self.points] if self.points else [])]
        if not self.failures:
            lines += self.coverage.lines(self.schedules)
        return [*lines, *(f"warning: {warning}" for warning in self.warnings), *self.told_races()]

    def text(self, width: int = 100) -> str:
        """For people.

        Args:
            width: of tables, in characters.
        """
        rate = f", {self.schedules / self.elapsed_s:.0f}/s" if self.elapsed_s > 0 else ""
        why = f" ({self.reason})" if self.reason not in ("", self.outcome.value) else ""
        how = f"{self.counted()}{rate}, policy {self.policy}, seed {self.seed}"
        lines = [f"{self.test}: {self.outcome.value}{why}: {how}"]
        lines += self.facts()
        for failure in self.failures:
            lines += ["", failure.text(width)]
        return "\n".join(lines)


def _cut(lines: Sequence[str], limit: int | None) -> list[str]:
    """Lines, without those in the middle if there are too many: beginnings and ends say most."""
    if limit is None or len(lines) <= limit:
        return list(lines)
    begin = limit // 2
    end = limit - begin - 1
    return [*lines[:begin], f"    ... {len(lines) - begin - end} lines ...", *lines[len(lines) - end :]]
