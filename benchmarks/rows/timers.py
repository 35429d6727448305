"""Timers while 100,000 of them are pending: arming one, and what ends it."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from benchmarks.row import Row
from lkl_green import VirtualClock
from lkl_green.linux import Timer

if TYPE_CHECKING:
    from benchmarks.configurations import Configuration

STEP_NS = 1000


def delays_ns(n: int) -> list[int]:
    """A delay for each of n timers, in no order; twin programs use the same."""
    delays = [STEP_NS * number for number in range(1, n + 1)]
    Random(n).shuffle(delays)
    return delays


def arm_and_cancel(configuration: Configuration, n: int) -> float:
    """Arm all, then disarm all in the order in which they were armed."""
    with configuration.start() as kernel:
        timers = [Timer(print, kernel) for _ in range(n)]
        now = kernel.clock.now_ns()
        delays = [now + 3600_000_000_000 + delay for delay in delays_ns(n)]
        begin = configuration.now_ns()
        for timer, expires_ns in zip(timers, delays, strict=True):
            timer.add_timer(expires_ns)
        for timer in timers:
            timer.del_timer()
        return (configuration.now_ns() - begin) / n


def arm_and_expire(configuration: Configuration, n: int) -> float:
    """Arm all, let the time of the last one come, and run the callbacks."""
    with configuration.start(clock=VirtualClock()) as kernel:
        expired: list[Timer] = []
        timers = [Timer(expired.append, kernel) for _ in range(n)]
        now = kernel.clock.now_ns()
        delays = [now + delay for delay in delays_ns(n)]
        begin = configuration.now_ns()
        for timer, expires_ns in zip(timers, delays, strict=True):
            timer.add_timer(expires_ns)
        kernel.clock.advance_to(max(delays))
        kernel.lkl_run()
        time = (configuration.now_ns() - begin) / n
        assert len(expired) == n
        return time


ROWS = (
    Row("timer_cancel", "timer: arm + cancel", arm_and_cancel, 100_000, whole=True),
    Row("timer_expire", "timer: arm + expire", arm_and_expire, 100_000, whole=True),
)
