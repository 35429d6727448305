"""The default: a few schedules that are far apart, then partial order sampling.

Sampling is blind to how simple a schedule is. Many bugs show in one of the simplest, such as "the newest thread first"
or "this one lock the other way round", whatever the number of threads; a sampler may need hundreds of schedules for
those. So a campaign opens with race reversal, which costs eight schedules, and goes on as POS, at its speed. What the
opening does follows from the schedules before it, so it is the same in every campaign of a test; after it a schedule is
a function of seed and number again.

Dropped: the portfolio as the default. It finds a little more in the first twenty schedules and runs at half the speed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.policies.pos import POS
from lkl_green.testing.policies.relay import Relay
from lkl_green.testing.policies.reversal import Reversal

if TYPE_CHECKING:
    from lkl_green.testing.policies.base import Policy

OPENING = 8


class OpenedPOS(Relay):
    """Race reversal for the first eight schedules, then POS."""

    name = "default"

    def __init__(self) -> None:
        self._reversal = Reversal()
        self._sampler = POS()
        super().__init__(self._reversal)

    def whose_turn(self, number: int) -> Policy:
        """Race reversal's, as long as it is early and a race is left to try."""
        if number == 0:
            self._reversal = Reversal()
        opens = number < OPENING and (number < 2 or self._reversal.has_open)
        return self._reversal if opens else self._sampler
