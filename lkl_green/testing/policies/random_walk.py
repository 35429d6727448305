"""A random walk: each decision by an even draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.policies.base import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor


class RandomWalk(Policy):
    """Uniform over the enabled tasks at each point; far from uniform over schedules."""

    name = "random"

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """Any of them."""
        return int(self.random.random() * len(enabled))
