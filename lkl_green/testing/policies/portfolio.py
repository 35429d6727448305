"""Several policies in turn: what one is blind to, another one sees.

A campaign begins with race reversal: few schedules that are far apart find what is easy to find, whatever the number of
tasks. Then the samplers take turns, and race reversal has every third schedule for as long as a race is left to try.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.policies.delay_bound import RandomDelays
from lkl_green.testing.policies.pct import PCT
from lkl_green.testing.policies.pos import POS
from lkl_green.testing.policies.random_walk import RandomWalk
from lkl_green.testing.policies.relay import Relay
from lkl_green.testing.policies.reversal import Reversal
from lkl_green.testing.policies.surw import SURW

if TYPE_CHECKING:
    from lkl_green.testing.policies.base import Policy

# So many schedules of a campaign are race reversal's; afterwards, one in so many.
_OPENING = 8
_EVERY = 3


class Portfolio(Relay):
    """Reversed races; then POS, SURW, PCT, random delays and random walk in turn, and reversed races among them."""

    name = "portfolio"
    learns = True

    def __init__(self) -> None:
        self.reversal = Reversal()
        super().__init__(self.reversal)
        self.members: tuple[Policy, ...] = (RandomDelays(2), RandomWalk(), POS(), SURW(), PCT(3))
        self._turns = 0

    def begin(self, seed: int, number: int) -> bool:
        """Begin the schedule with the next member; reports call the maker by the names of both."""
        begun = super().begin(seed, number)
        self.maker = f"{self.name} ({self.maker})"
        return begun

    def whose_turn(self, number: int) -> Policy:
        """Race reversal's in the opening and now and then; else that of the next member."""
        reversal = self.reversal
        begins = number < 2 or self._turns == 0
        if begins or (reversal.has_open and (number < _OPENING or number % _EVERY == 0)):
            self._turns = max(self._turns, 1)
            return reversal
        self._turns += 1
        return self.members[self._turns % len(self.members)]
