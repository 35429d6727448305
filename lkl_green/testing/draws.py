"""What a test may leave to the schedule: random numbers and faults."""

from __future__ import annotations

import random as _random
from typing import TYPE_CHECKING

from lkl_green.kernel.current import running_here
from lkl_green.testing.controller import Controller

if TYPE_CHECKING:
    from collections.abc import Callable

_BITS = 32


def _chooser() -> Callable[[str, int], int] | None:
    """The present schedule's `choose()`; None where no schedule is explored."""
    kernel = running_here.kernel
    policy = None if kernel is None else kernel.sched.policy
    return policy.choose if isinstance(policy, Controller) else None


class ScheduleRandom(_random.Random):
    """Random numbers that are part of the schedule: drawn by its policy, recorded, replayed and shrunk with it.

    Outside an exploration they are ordinary ones.
    """

    def random(self) -> float:
        """In [0, 1)."""
        choose = _chooser()
        return super().random() if choose is None else choose("random", 1 << _BITS) / (1 << _BITS)

    def getrandbits(self, k: int, /) -> int:
        """`k` bits, 32 to a decision."""
        choose = _chooser()
        if choose is None:
            return super().getrandbits(k)
        bits = 0
        for shift in range(0, k, _BITS):
            bits |= choose("random", 1 << min(_BITS, k - shift)) << shift
        return bits


random = ScheduleRandom()


def fault_point(name: str) -> bool:
    """Whether the fault `name` strikes here; never outside an exploration."""
    choose = _chooser()
    return choose is not None and choose(f"fault {name}", 2) == 1
