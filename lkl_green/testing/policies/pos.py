"""Partial order sampling (Yuan, Yang, Gu: CAV 2018).

Every pending event has a random priority and the highest goes first. After an event is done, the next event of the same
task draws a priority, and so does every pending event that *races* with the one done: same object, and not both only
read it. Events that race are thus ordered by fresh, independent draws each time, and events that do not race cost no
chance at all. There is nothing to set.

*Fairness.* A task that spins draws anew with every turn, so sooner or later it draws lower than the one it waits for;
but "sooner or later" is long where that one has drawn very low, or where many spin. So every event that has been
pending for long draws again. Schedules without loops never get there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.actor import UNDRAWN
from lkl_green.testing.policies.base import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor

# After so many decisions all priorities are drawn again.
_PATIENCE = 500


class POS(Policy):
    """Partial order sampling, the default."""

    name = "pos"

    def __init__(self) -> None:
        super().__init__()
        self._patience = _PATIENCE

    def begin(self, seed: int, number: int) -> bool:
        """A schedule begins."""
        self._patience = _PATIENCE
        return super().begin(seed, number)

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The highest priority; those that race with it draw again."""
        random = self.random.random
        self._patience -= 1
        if self._patience < 0:
            self._forget(enabled)
        chosen = 0
        highest = UNDRAWN
        for index, actor in enumerate(enabled):
            priority = actor.priority
            if priority < 0:
                priority = actor.priority = random()
            if priority > highest:
                chosen, highest = index, priority
        best = enabled[chosen]
        obj = best.obj
        if obj is not None:
            for actor in enabled:
                if actor.obj == obj and actor is not best and actor.conflicts(best):
                    actor.priority = random()
        return chosen

    def _forget(self, enabled: Sequence[Actor]) -> None:
        self._patience = _PATIENCE
        for actor in enabled:
            actor.priority = UNDRAWN
