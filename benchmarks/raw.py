"""The unit: a bare `greenlet.switch()`, from the main greenlet to a child or back."""

from __future__ import annotations

from itertools import repeat
from time import thread_time_ns

from greenlet import getcurrent, greenlet

BURSTS = 5


def raw_switch_ns(switches: int) -> float:
    """Nanoseconds per switch: the best of some bursts, because a disturbance can only make one slower."""
    parent = getcurrent()

    def child() -> None:
        switch = parent.switch
        while True:
            switch()

    other = greenlet(child)
    switch = other.switch
    switch()
    best = min(_burst_ns(switch, switches // BURSTS) for _ in range(BURSTS))
    other.throw()
    return best


def _burst_ns(switch: object, switches: int) -> float:
    assert callable(switch)
    round_trips = max(switches // 2, 1)
    begin = thread_time_ns()
    for _ in repeat(None, round_trips):
        switch()
    return (thread_time_ns() - begin) / (2 * round_trips)
