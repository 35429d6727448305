"""Numbers that are given to the kernel: checked where they are given, before anything is changed.

A time or an interrupt number that is not an integer would be noticed late, and by other tasks: in the heap of timers,
for instance, where it cannot be compared with the expiry of the next timer that any task arms.
"""

from __future__ import annotations

import math


def check_int(value: object, what: str) -> None:
    """Raises TypeError if the value called `what` is not an integer. A bool is not one."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what}={value!r} must be an integer; round it with int() if it is a number")


def check_duration(value: object, what: str) -> None:
    """Raises TypeError if a duration is not a number, ValueError if it is not a finite one."""
    if isinstance(value, (bool, str, bytes, bytearray)) or not hasattr(value, "__float__"):
        raise TypeError(f"{what}={value!r} must be a number")
    if not math.isfinite(value):
        raise ValueError(f"{what}={value!r} must be a finite number; to sleep for good, use schedule()")
