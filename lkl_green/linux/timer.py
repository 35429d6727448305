"""Time, delays and timers: <linux/ktime.h>, <linux/delay.h>, <linux/timer.h>."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.numbers import check_duration, check_int

if TYPE_CHECKING:
    from lkl_green.kernel.timer import Timer

_NS_PER_US = 1_000
_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000


def ktime_get() -> int:
    """The kernel's clock in ns."""
    return current_kernel().timers.now_ns()


def msleep(ms: float) -> None:
    """Sleep for at least `ms` milliseconds. Raises TypeError for what is not a number, ValueError if it is not finite.

    So do the other sleeps.
    """
    if type(ms) is not int:
        check_duration(ms, "ms")
    current_kernel().timers.sleep(int(ms * _NS_PER_MS))


def ssleep(seconds: float) -> None:
    """Sleep for at least `seconds`."""
    if type(seconds) is not int:
        check_duration(seconds, "seconds")
    current_kernel().timers.sleep(int(seconds * _NS_PER_S))


def usleep(us: float) -> None:
    """Sleep for at least `us` microseconds."""
    if type(us) is not int:
        check_duration(us, "us")
    current_kernel().timers.sleep(int(us * _NS_PER_US))


def msleep_interruptible(ms: float) -> float:
    """Sleep until the time has passed or a signal comes; the milliseconds left."""
    if type(ms) is not int:
        check_duration(ms, "ms")
    return current_kernel().timers.sleep_interruptible(int(ms * _NS_PER_MS)) / _NS_PER_MS


def ndelay(duration_ns: int) -> None:
    """Let time pass without giving up the CPU (rule 92). Raises TypeError if it is not an integer."""
    check_int(duration_ns, "duration_ns")
    current_kernel().timers.delay(duration_ns)


def mod_timer(timer: Timer, expires_ns: int) -> bool:
    """Arm or move a timer; whether it was armed (rule 126)."""
    return timer.mod_timer(expires_ns)


def del_timer(timer: Timer) -> bool:
    """Disarm; whether it was armed."""
    return timer.del_timer()


def del_timer_sync(timer: Timer) -> bool:
    """Disarm, and the callback does not run any more."""
    return timer.del_timer_sync()
