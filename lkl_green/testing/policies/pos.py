"""Partial order sampling (Yuan, Yang, Gu: CAV 2018).

Every pending event has a random priority and the highest goes first. After an event is done, the next event of the same
task draws a priority, and so does every pending event that *races* with the one done: same object, and not both only
read it. Events that race are thus ordered by fresh, independent draws each time, and events that do not race cost no
chance at all. There is nothing to set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.actor import UNDRAWN
from lkl_green.testing.policies.base import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor


class POS(Policy):
    """Partial order sampling, the default."""

    name = "pos"

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The highest priority; those that race with it draw again."""
        random = self.random.random
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
