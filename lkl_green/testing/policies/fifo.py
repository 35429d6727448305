"""First in, first out: every task runs until it sleeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.policies.base import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor


class FIFO(Policy):
    """No preemption at all, in the order in which tasks became runnable: the plainest schedule there is."""

    name = "fifo"

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The running one; else the longest runnable."""
        return 0 if running is None else enabled.index(running)

    def choose(self, kind: str, count: int) -> int:
        """The first option."""
        return 0
