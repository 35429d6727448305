"""Policies that take turns: each schedule is one member's."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from lkl_green.testing.policies.base import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor
    from lkl_green.testing.run import Run


class Relay(Policy):
    """Leaves each schedule to a member, which a subclass names.

    Args:
        first: the member until the first schedule begins.
    """

    def __init__(self, first: Policy) -> None:
        super().__init__()
        self._member = first

    @abstractmethod
    def whose_turn(self, number: int) -> Policy:
        """The member that makes the schedule of this number; asked once for each, in order."""

    @property
    def decider(self) -> Policy:
        """Whose turn it is."""
        return self._member

    @property
    def maker(self) -> str:
        """The name of the one whose turn it is."""
        return self._member.maker

    def begin(self, seed: int, number: int) -> bool:
        """The next turn."""
        self._member = self.whose_turn(number)
        return self._member.begin(seed, number)

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The member's choice."""
        return self._member.pick(enabled, running)

    def choose(self, kind: str, count: int) -> int:
        """The member's choice."""
        return self._member.choose(kind, count)

    def executes(self, actor: Actor) -> None:
        """The member's; where something stands between the controller and us, `decider` is not asked."""
        self._member.executes(actor)

    def end(self, run: Run) -> None:
        """The member's."""
        self._member.end(run)
