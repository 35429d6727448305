"""Probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi, Nagarakatte: ASPLOS 2010).

Each task has a random priority, and the highest goes on. At d - 1 random decisions of a run, the *change points*, the
task that would go on gets a priority below all the original ones.

*Guarantee.* A bug of depth d is one that shows whenever d given pairs of operations happen in a given order. Each
schedule finds it with a probability of at least 1 / (n * k**(d-1)), for n tasks and k decisions. k is that of the
longest schedule so far; the bound holds for every schedule that is no longer than those before. Counted are decisions,
not operations: where only one task can go on, lowering its priority does the same at the next decision.

*Fairness.* Strict priorities starve: a task that spins with the highest priority spins for ever. Once a schedule
is several times as long as any that ended, it goes on as a random walk, which every spinning loop leaves in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.actor import UNDRAWN
from lkl_green.testing.policies.base import Policy
from lkl_green.testing.run import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor
    from lkl_green.testing.run import Run

# A schedule so many times as long as the longest that ended, and no shorter than that, is walked to its end.
_PATIENCE = 4
_PATIENCE_LEAST = 500


class PCT(Policy):
    """Random priorities with d - 1 changes.

    Args:
        depth: d, the depth of the bugs that the guarantee is about.
        fair: walk randomly once a schedule is much longer than those that ended.
    """

    name = "pct"
    learns = True

    def __init__(self, depth: int = 3, *, fair: bool = True) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"pct: a bug has a depth of 1 or more, not {depth}")
        self.depth = depth
        self.fair = fair
        self.longest = 0
        self._changes: dict[int, float] = {}
        self._decisions = 0
        self._walk_from = 0

    def begin(self, seed: int, number: int) -> bool:
        """Draw the change points; the first schedule has none, and is there to be measured."""
        super().begin(seed, number)
        self._decisions = 0
        self._walk_from = max(_PATIENCE * self.longest, _PATIENCE_LEAST)
        count = min(self.depth - 1, self.longest)
        points = self.random.sample(range(self.longest), count)
        self._changes = {point: (place + 1) / (self.depth + 1) for place, point in enumerate(points)}
        return True

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The highest priority, after the change that is due."""
        decision = self._decisions
        self._decisions = decision + 1
        if decision >= self._walk_from and self.fair:
            return int(self.random.random() * len(enabled))
        index = self._highest(enabled)
        lowered = self._changes.get(decision)
        if lowered is not None:
            enabled[index].rank = lowered
            index = self._highest(enabled)
        return index

    def _highest(self, enabled: Sequence[Actor]) -> int:
        chosen, highest = 0, UNDRAWN
        for index, actor in enumerate(enabled):
            rank = actor.rank
            if rank == UNDRAWN:
                rank = actor.rank = 1 + self.random.random()
            if rank > highest:
                chosen, highest = index, rank
        return chosen

    def end(self, run: Run) -> None:
        """Measure it; one that did not end has no length."""
        if run.verdict is not Verdict.LIVELOCK and self._decisions > self.longest:
            self.longest = self._decisions
