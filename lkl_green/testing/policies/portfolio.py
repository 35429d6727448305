"""Several policies in turn: what one is blind to, another one sees.

A campaign begins with race reversal, as long as there are orders that have not been seen; then it is every member's
turn, by the number of the schedule, and race reversal's again whenever it has something new to try.
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

# So many schedules of a campaign are race reversal's; afterwards it has every second turn.
_OPENING = 12


class Portfolio(Policy):
    """POS, SURW, PCT, random walk and random delays in turn, after and among reversed races."""

    name = "portfolio"
    learns = True

    def __init__(self) -> None:
        super().__init__()
        self.reversal = Reversal()
        self.members: tuple[Policy, ...] = (POS(), SURW(), PCT(3), RandomWalk(), RandomDelays(2))
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
        if number < 2 or (reversal.has_open and (number < _OPENING or number % 2 == 0)):
            return reversal
        self._turns += 1
        return self.members[self._turns % len(self.members) - 1]

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The member's choice."""
        return self._member.pick(enabled, running)

    def choose(self, kind: str, count: int) -> int:
        """The member's choice."""
        return self._member.choose(kind, count)

    def end(self, run: Run) -> None:
        """The member's."""
        self._member.end(run)
