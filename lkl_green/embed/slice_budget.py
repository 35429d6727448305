"""How long a slice of the kernel may take.

A slice ends after a time budget or after a number of switches, whichever comes first. The kernel looks at the clock
every few hundred scheduling points only, so that where kernel threads compute for long between two switches, the time
budget alone is noticed late. So the number of switches follows what a switch took of late.

The time budget follows the loop: while its other tasks have much to do between two slices, slices are short; while the
kernel is the only one busy, they are long, up to what a timer of the loop may be late by.
"""

from __future__ import annotations

# A task that sleeps waits for up to three slices: until the loop looks at its timers, until the timer's callback runs,
# until the task does. Three of the longest are well below two milliseconds.
MIN_BUDGET_NS = 150_000
MAX_BUDGET_NS = 400_000

# How long the loop's other tasks take between two slices while there are none to speak of.
_QUIET_NS = 50_000

_MIN_SWITCHES = 8
_MAX_SWITCHES = 1 << 20


class SliceBudget:
    """How much time and how many switches the next slice may take.

    Args:
        budget_ns: a fixed time budget; None adapts it.
        max_switches: a fixed number of switches; None adapts it.

    Raises:
        ValueError: for a budget that lets nothing run.
    """

    __slots__ = ("_fixed_budget", "_fixed_switches", "_ns_per_switch", "budget_ns", "max_switches")

    def __init__(self, budget_ns: int | None, max_switches: int | None) -> None:
        for name, value in (("budget_ns", budget_ns), ("max_switches", max_switches)):
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value}: nothing would ever run. Pass 1 or more, or None to adapt it")
        self._fixed_budget = budget_ns is not None
        self._fixed_switches = max_switches is not None
        self.budget_ns = MIN_BUDGET_NS * 2 if budget_ns is None else budget_ns
        self.max_switches = 1024 if max_switches is None else max_switches
        self._ns_per_switch = 0.0

    def learn(self, took_ns: int, switches: int, others_ns: int) -> None:
        """Take in what happened: a slice of so many switches, and what the loop's other tasks took after it."""
        if not self._fixed_budget:
            factor = 2 if others_ns < _QUIET_NS else 0.5
            self.budget_ns = int(min(max(self.budget_ns * factor, MIN_BUDGET_NS), MAX_BUDGET_NS))
        if not self._fixed_switches and switches:
            now = took_ns / switches
            # Down slowly, up at once: being late hurts more than looking at the clock once too often.
            self._ns_per_switch = max(now, 0.75 * self._ns_per_switch + 0.25 * now)
            self.max_switches = int(
                min(max(self.budget_ns / max(self._ns_per_switch, 1), _MIN_SWITCHES), _MAX_SWITCHES)
            )
