"""Preemption bounding (Musuvathi, Qadeer: PLDI 2007): most bugs need few preemptions.

A preemption is a switch away from a task that could have gone on. Switches where a task sleeps or ends are free, and so
are random draws, faults and ties of timers: of these, all options are tried with every placement of the preemptions.
"""

from __future__ import annotations

from lkl_green.testing.policies.search import Search


class PreemptionBound(Search):
    """Every schedule with no more than so many preemptions, depth first.

    Args:
        bound: how many.
    """

    name = "preemption-bound"
    unit = "preemptions"

    def __init__(self, bound: int = 2) -> None:
        super().__init__(bound)

    def price_of_switch(self, preempts: bool) -> tuple[int, int]:
        """One for a preemption, whoever is next."""
        return int(preempts), 0
