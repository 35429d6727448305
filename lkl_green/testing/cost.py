"""What a schedule costs its reader, and how much simpler shrinking made one."""

from __future__ import annotations

from typing import NamedTuple


class Cost(NamedTuple):
    """What is to be made small, the most important first.

    Faults stand so early because each keeps the program from going on: few steps are easily had by many faults.
    """

    preemptions: int
    faults: int
    tasks: int
    steps: int
    jumps: int
    deviations: int


class Shrunk(NamedTuple):
    """How much simpler a schedule became.

    Attributes:
        before, after: what it cost.
        runs: schedules that were tried.
        elapsed_s: seconds that took.
        minimal: whether every schedule with fewer preemptions was tried, and none fails like this.
        first: of a failure that consists in not ending, how many steps were looked at; 0 for others.
    """

    before: Cost
    after: Cost
    runs: int
    elapsed_s: float
    minimal: bool
    first: int = 0

    def __str__(self) -> str:
        before, after = _told(self.before, self.first), _told(self.after, self.first)
        how = (
            f"{before}: nothing simpler was found" if self.after == self.before else f"shrunk from {before} to {after}"
        )
        proven = "; no schedule with fewer preemptions fails like this" if self.minimal else ""
        return f"{how} in {self.runs} runs{proven}"


def _told(cost: Cost, first: int) -> str:
    preemptions = f"{cost.preemptions} preemption{'s'[: cost.preemptions != 1]}"
    faults = f", {cost.faults} fault{'s'[: cost.faults != 1]}" if cost.faults else ""
    steps = f"in the first {first} steps" if first else f"and {cost.steps} step{'s'[: cost.steps != 1]}"
    return f"{preemptions}{faults} {steps}"
