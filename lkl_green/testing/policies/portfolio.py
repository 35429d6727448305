"""Several policies in turn: what one is blind to, another one sees.

A campaign begins with race reversal: few schedules that are far apart find what is easy to find, whatever the number of
tasks. Then the samplers take turns, and race reversal has every third schedule for as long as a race is left to try.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.policies.base import Policy
from lkl_green.testing.policies.delay_bound import RandomDelays
from lkl_green.testing.policies.pct import PCT
from lkl_green.testing.policies.pos import POS
from lkl_green.testing.policies.random_walk import RandomWalk
from lkl_green.testing.policies.reversal import Reversal
from lkl_green.testing.policies.surw import SURW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor
    from lkl_green.testing.run import Run

# So many schedules of a campaign are race reversal's; afterwards, one in so many.
_OPENING = 8
_EVERY = 3


class Portfolio(Policy):
    """Reversed races; then POS, SURW, PCT, random delays and random walk in turn, and reversed races among them."""

    name = "portfolio"
    learns = True

    def __init__(self) -> None:
        super().__init__()
        self.reversal = Reversal()
        self.members: tuple[Policy, ...] = (RandomDelays(2), RandomWalk(), POS(), SURW(), PCT(3))
        self._turns = 0
        self._member: Policy = self.reversal

    @property
    def decider(self) -> Policy:
        """Whose turn it is."""
        return self._member

    @property
    def maker(self) -> str:
        """The member's name with ours."""
        return f"{self.name} ({self._member.maker})"

    def begin(self, seed: int, number: int) -> bool:
        """The next member's turn."""
        self._member = self._whose_turn(number)
        return self._member.begin(seed, number)

    def _whose_turn(self, number: int) -> Policy:
        reversal = self.reversal
        begins = number < 2 or self._turns == 0
        if begins or (reversal.has_open and (number < _OPENING or number % _EVERY == 0)):
            self._turns = max(self._turns, 1)
            return reversal
        self._turns += 1
        return self.members[self._turns % len(self.members)]

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
