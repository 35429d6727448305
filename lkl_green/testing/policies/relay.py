"""Policies that take turns: each schedule is one member's."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from lkl_green.testing.policies.delegating import Delegating

if TYPE_CHECKING:
    from lkl_green.testing.policies.base import Policy


class Relay(Delegating):
    """Leaves each schedule to a member, which a subclass names.

    The controller asks the member itself (`decider`). Only a policy that stands between the two, such as a recording,
    asks the relay.

    Args:
        first: the member until the first schedule begins.
    """

    def __init__(self, first: Policy) -> None:
        super().__init__(first)
        self.maker = first.maker

    @abstractmethod
    def whose_turn(self, number: int) -> Policy:
        """The member that makes the schedule of this number; asked once for each, in order."""

    def begin(self, seed: int, number: int) -> bool:
        """Begin the schedule with the member whose turn it is."""
        self.decider = self._policy = self.whose_turn(number)
        self.maker = self._policy.maker
        return self._policy.begin(seed, number)
