"""Campaigns with many seeds: how many schedules come before the first that shows the bug, the finding one included."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import mean, stdev
from time import perf_counter
from typing import TYPE_CHECKING

from lkl_green.testing.campaign import Campaign
from lkl_green.testing.settings import Settings

if TYPE_CHECKING:
    from benchmarks.schedules.program import Program

TRIALS = 20
LIMIT = 10_000
# Steps of one schedule; the programs do at most a few thousand.
MAX_STEPS = 20_000


@dataclass
class Result:
    """One program under one policy.

    Attributes:
        found: schedules to the first bug, of each trial that found it.
        trials: how many there were.
        wanted: how many there should have been.
        schedules: how many were run in all of them.
        seconds: how long that took.
        reasons: how often each policy of a portfolio was the one that found it.
    """

    found: list[int] = field(default_factory=list)
    trials: int = 0
    wanted: int = TRIALS
    schedules: int = 0
    seconds: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def mean(self) -> float | None:
        """Of the trials that found it."""
        return mean(self.found) if self.found else None

    @property
    def rate(self) -> float:
        """Schedules per second."""
        return self.schedules / self.seconds if self.seconds else 0.0

    def text(self) -> str:
        """Mean and standard deviation, as the papers give them."""
        share = "" if len(self.found) == self.trials == self.wanted else f" ({len(self.found)}/{self.trials})"
        if not self.found:
            return f"-{share}"
        spread = stdev(self.found) if len(self.found) > 1 else 0.0
        return f"{mean(self.found):.0f}±{spread:.0f}{share}"


def run_trials(program: Program, policy: str, trials: int = TRIALS, limit: int = LIMIT, budget_s: float = 0) -> Result:
    """Campaigns with seeds 0, 1, 2, ...

    Args:
        program: what to test.
        policy: how.
        trials: how many campaigns.
        limit: schedules of each.
        budget_s: no further campaign is begun after so many seconds; 0: no limit.
    """
    result = Result(wanted=trials)
    begin = perf_counter()
    for seed in range(trials):
        _run_trial(program, policy, seed, limit, result)
        if budget_s and perf_counter() - begin > budget_s:
            break
    return result


def _run_trial(program: Program, policy: str, seed: int, limit: int, result: Result) -> None:
    begin = perf_counter()
    settings = Settings(
        policy=policy, seed=seed, max_steps=MAX_STEPS, lockdep=False, watchdog_s=None, name=program.name
    )
    with Campaign(program.test, settings) as campaign:
        chunk = campaign.run_chunk(0, limit)
    result.seconds += perf_counter() - begin
    result.trials += 1
    result.schedules += chunk.schedules
    for found in chunk.failing:
        if not found.ending.startswith(program.bug.value):
            raise RuntimeError(f"{program.name} under {policy}, seed {seed}: not its bug, but {found.ending}")
        result.found.append(found.number + 1)
        result.reasons[found.policy] = result.reasons.get(found.policy, 0) + 1
