"""Delay bounding (Emmi, Qadeer, Rakamaric: POPL 2011): most bugs need few deviations from a plain scheduler.

The plain scheduler lets a task run until it sleeps, and then goes on with the one that has waited longest. A *delay*
passes over whoever would be next, for the next one in the ring. With n tasks and k decisions there are about k**d
schedules of d delays, however many tasks there are; preemption bounding has n times as many for each preemption. A
random draw, a fault or a tie of timers that does not go its plainest way counts as a delay, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.policies.base import Policy
from lkl_green.testing.policies.search import Search
from lkl_green.testing.run import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor
    from lkl_green.testing.run import Run

# A schedule that is so many times as long as the longest that ended has one that spins: delay it every so often.
_PATIENCE = 4
_PATIENCE_LEAST = 500
_SPINNING = 50


class DelayBound(Search):
    """Every schedule with no more than so many delays, depth first.

    Args:
        bound: how many.
    """

    name = "delay-bound"
    unit = "delays"

    def __init__(self, bound: int = 2) -> None:
        super().__init__(bound)

    def price_of_switch(self, preempts: bool) -> tuple[int, int]:
        """One for each that is passed over."""
        return 1, 1

    def price_of_choice(self) -> int:
        """One."""
        return 1


class RandomDelays(Policy):
    """So many delays at random points: a sample of what `DelayBound` goes through one by one.

    Args:
        delays: how many, at most.
    """

    name = "random-delays"
    learns = True

    def __init__(self, delays: int = 2) -> None:
        super().__init__()
        if delays < 0:
            raise ValueError(f"random-delays: a number of delays is 0 or more, not {delays}")
        self.delays = delays
        self.longest = 0
        self._decisions = 0
        self._points: list[int] = []
        self._spins_from = 0

    def begin(self, seed: int, number: int) -> bool:
        """Draw the points; the first schedule has none, and is there to be measured."""
        super().begin(seed, number)
        self._decisions = 0
        self._spins_from = max(_PATIENCE * self.longest, _PATIENCE_LEAST)
        self._points = self.random.choices(range(self.longest), k=self.delays) if self.longest else []
        return True

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """Whoever runs, or has waited longest; passed over as often as this point was drawn."""
        decision = self._decisions
        self._decisions = decision + 1
        index = 0 if running is None else enabled.index(running)
        index += self._points.count(decision)
        if decision >= self._spins_from and decision % _SPINNING == 0:
            index += 1
        return index % len(enabled)

    def end(self, run: Run) -> None:
        """Measure it; one that did not end has no length."""
        if run.verdict is not Verdict.LIVELOCK and self._decisions > self.longest:
            self.longest = self._decisions
