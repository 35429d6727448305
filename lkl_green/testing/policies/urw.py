"""Uniform random walk (Zhao, Wolff, Mathur, Roychoudhury: ASPLOS 2025).

A task goes next with a probability in proportion to the operations it has left. Then each way in which the operations
of the tasks can interleave is equally likely: of all interleavings that remain, just that share begins with that task.
An even draw at each point is far from that; it nearly never lets one task do much more than another.

How much is left is known from earlier schedules. It is exact where the tasks do the same in each, and nothing blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.actor import UNDRAWN
from lkl_green.testing.policies.weighted import Weighted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor


class URW(Weighted):
    """Every interleaving equally likely, as far as counts of earlier schedules hold."""

    name = "urw"

    def weigh(self) -> dict[str, int]:
        """All operations."""
        return self.profile.with_descendants(self.profile.events)

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """By what is left; nobody is taken to have nothing left."""
        for actor in enabled:
            if actor.rank == UNDRAWN:
                self.appears(actor)
        return self.heaviest_draw(enabled, 1.0)

    def executes(self, actor: Actor) -> None:
        """One operation less to do."""
        super().executes(actor)
        actor.rank = max(actor.rank - 1, 0.0)
