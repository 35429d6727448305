"""What came of one schedule."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.decision import Decision


class Verdict(enum.Enum):
    """How a schedule ended."""

    PASSED = "passed"
    FAILED = "failed"  # an exception left the test or one of its tasks
    DEADLOCK = "deadlock"
    LIVELOCK = "livelock"  # the step limit, or only looking and never changing anything
    LEAKED = "leaked tasks"  # the test function returned, and tasks of its sleep for ever
    HELD = "held locks"  # everything ended, with a lock held
    RACE = "data race"  # two accesses that nothing puts in order, where settings say that this is a failure
    HUNG = "hung"  # a task ran on and on without a scheduling point
    ESCAPED = "escaped"  # the real clock, a real thread, a real socket
    NONDETERMINISTIC = "not deterministic"  # two runs of one schedule differ
    KEPT_STATE = "state kept between schedules"  # a schedule goes another way because others were run before it
    UNEXPLORED = "nothing explored"  # its threads are OS threads, and no schedule decides anything
    MISMATCH = "schedule does not fit"  # a recorded schedule asks for what this program does not do


# Naming a member through its class costs half a context switch on CPython 3.11, and every schedule asks twice.
_PASSED = Verdict.PASSED


class Run:
    """One schedule of a test.

    Attributes:
        verdict: how it ended.
        error: the exception, for verdicts that come from one.
        escape: a wait for the outside world that was refused, whether or not the program caught the exception.
        detail: for people: who waits for what, which limit was hit.
        steps: operations done.
        trail: each decision as the number of the option taken, in order.
        decisions: the same with names, if it was recorded.
        alone: how many accesses of ordinary code were made with no other task able to run; counted only for policies
            that look at every operation.
        tasks: how many tasks took part.
        redundant: whether it only repeats, in another order, what other schedules of a search have shown.
        time_ns: virtual time at the end.
    """

    # Defaults of the class, not assignments in __init__: most runs pass, and there are thousands a second.
    verdict = _PASSED
    error: BaseException | None = None
    escape: BaseException | None = None
    detail = ""
    steps = 0
    decisions: Sequence[Decision] = ()
    alone = 0
    tasks = 0
    redundant = False
    time_ns = 0

    def __init__(self) -> None:
        self.trail: list[int] = []

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.verdict is _PASSED

    def __repr__(self) -> str:
        what = f" {self.error!r}" if self.error is not None else ""
        return f"<Run {self.verdict.value}{what} steps={self.steps} decisions={len(self.trail)}>"
