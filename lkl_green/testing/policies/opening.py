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

from lkl_green.testing.policies.base import Policy
from lkl_green.testing.policies.pos import POS
from lkl_green.testing.policies.reversal import Reversal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor
    from lkl_green.testing.run import Run

OPENING = 8


class OpenedPOS(Policy):
    """Race reversal for the first eight schedules, then POS."""

    name = "default"

    def __init__(self) -> None:
        super().__init__()
        self._reversal = Reversal()
        self._sampler = POS()
        self._member: Policy = self._reversal

    @property
    def decider(self) -> Policy:
        """Whose turn it is."""
        return self._member

    @property
    def maker(self) -> str:
        """The name of the one whose turn it is."""
        return self._member.maker

    def begin(self, seed: int, number: int) -> bool:
        """A schedule begins."""
        if number == 0:
            self._reversal = Reversal()
        opens = number < OPENING and (number < 2 or self._reversal.has_open)
        self._member = self._reversal if opens else self._sampler
        return self._member.begin(seed, number)

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """That one's choice."""
        return self._member.pick(enabled, running)

    def choose(self, kind: str, count: int) -> int:
        """That one's choice."""
        return self._member.choose(kind, count)

    def executes(self, actor: Actor) -> None:
        """That one's; where something stands between the controller and us, `decider` is not asked."""
        self._member.executes(actor)

    def end(self, run: Run) -> None:
        """That one's."""
        self._member.end(run)
