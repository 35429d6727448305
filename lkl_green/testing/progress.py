"""How far a campaign has come, told now and then."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from lkl_green.host.native import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable

_INTERVAL_S = 0.1


class Progress(NamedTuple):
    """The state of a running campaign.

    Attributes:
        schedules: how many have been run.
        total: how many were asked for; `sys.maxsize` by a search for all that there are.
        elapsed_s: seconds since the campaign began.
        budget_s: seconds it may take; None if that is not limited.
    """

    schedules: int
    total: int
    elapsed_s: float
    budget_s: float | None

    @property
    def rate(self) -> float:
        """Schedules a second."""
        return self.schedules / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def __str__(self) -> str:
        budget = "" if self.budget_s is None else f" of {self.budget_s:g}"
        total = "" if self.total == sys.maxsize else f" of {self.total}"
        return f"{self.schedules}{total} schedules, {self.rate:.0f}/s, {self.elapsed_s:.0f}{budget} s"


class Meter:
    """Watches the clock for a campaign: its time budget, and when to tell how far it is.

    Args:
        total: schedules that were asked for.
        budget_s: seconds it may take, or None.
        on_progress: whom to tell, at most ten times a second.
    """

    def __init__(
        self, total: int, budget_s: float | None = None, on_progress: Callable[[Progress], object] | None = None
    ) -> None:
        self.start_s = monotonic()
        self._total = total
        self._budget_s = budget_s
        self._on_progress = on_progress
        self._next_s = self.start_s + _INTERVAL_S

    @property
    def watches(self) -> bool:
        """Whether there is anything to look at the clock for."""
        return self._budget_s is not None or self._on_progress is not None

    def advance(self, schedules: int) -> bool:
        """So many have been run by now; False if the time is up."""
        now = monotonic()
        elapsed_s = now - self.start_s
        if self._on_progress is not None and now >= self._next_s:
            self._next_s = now + _INTERVAL_S
            self._on_progress(Progress(schedules, self._total, elapsed_s, self._budget_s))
        return self._budget_s is None or elapsed_s < self._budget_s

    def left_s(self) -> float | None:
        """What is left of the budget; None if it has no limit."""
        return None if self._budget_s is None else max(0.0, self.start_s + self._budget_s - monotonic())

    def elapsed_s(self) -> float:
        """Seconds since the campaign began."""
        return monotonic() - self.start_s
