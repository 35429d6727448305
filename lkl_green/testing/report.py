"""What an exploration found."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lkl_green.errors import ScheduleFailed

if TYPE_CHECKING:
    from lkl_green.testing.recording import Step
    from lkl_green.testing.run import Verdict
    from lkl_green.testing.schedule import Schedule
    from lkl_green.testing.shrink import Shrunk


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
        traceback: of the exception.
        detail: for people: who waits for what, which limit was hit.
        schedule: how to run it again.
        steps: every operation of the run.
        number: which schedule of the campaign it was, from 0.
        exception: what left the test or one of its tasks, in this process; None if nothing did.
        shrunk: how the schedule was made simpler; None if it was not.
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

    def headline(self) -> str:
        """In one line."""
        return f"{self.verdict.value}: {self.error}" if self.error else self.verdict.value


@dataclass
class Report:
    """What came of `explore()`.

    Attributes:
        test: its name.
        outcome: what may be said.
        reason: why it ended there: "exhausted within 2 preemptions", "the time budget of 10 s was used up".
        policy, seed: how schedules were made.
        schedules: how many were run.
        steps: operations in all of them.
        failures: at most one, unless the exploration was told to go on.
        elapsed_s: wall-clock time.
    """

    test: str
    policy: str
    seed: int
    outcome: Outcome = Outcome.PASSED
    reason: str = ""
    schedules: int = 0
    steps: int = 0
    failures: list[Failure] = field(default_factory=list)
    elapsed_s: float = 0.0

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

    def text(self) -> str:
        """For people."""
        rate = f", {self.schedules / self.elapsed_s:.0f}/s" if self.elapsed_s > 0 else ""
        why = f" ({self.reason})" if self.reason else ""
        how = f"{self.schedules} schedules{rate}, policy {self.policy}, seed {self.seed}"
        lines = [f"{self.test}: {self.outcome.value}{why}: {how}"]
        for failure in self.failures:
            lines.append(f"schedule {failure.number}: {failure.headline()}")
            lines.extend(text for text in (failure.detail, failure.traceback) if text)
        return "\n".join(lines)
