"""`time`, as a kernel thread sees it: the kernel's clock.

Under a virtual clock the day begins at 2000-01-01 00:00 UTC in every run, as in Go's synctest. Looking at the clock is
a scheduling point that a loop may stand on, such as `while time.monotonic() < deadline: pass`; a virtual clock moves
on a little each time it is read, so that the loop ends.

*time-machine* changes what the original functions say, also those of `datetime`, below Python. While it travels they
are asked here, too, and the time that passes on a journey is the kernel's.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from lkl_green.green.waiter import NS_PER_S, rest
from lkl_green.host import native
from lkl_green.kernel.current import running_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EPOCH_S = 946_684_800  # 2000-01-01 00:00 UTC
EPOCH_NS = EPOCH_S * NS_PER_S
_SLEEP = "time.sleep()"


def sleep(seconds: float, /) -> None:
    """Sleep on the kernel's clock (time.sleep)."""
    kernel = running_here.kernel
    if kernel is None:
        native.sleep(seconds)
        return
    if not isinstance(seconds, int | float):
        seconds = float(seconds)
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    sched = kernel.sched
    if sched.listener is not None:
        sched.listener("sleep", None)
    duration_ns = int(seconds * NS_PER_S)
    if not duration_ns:
        sched.schedule()
        return
    task = sched.current
    task.waiting_for = _SLEEP
    try:
        kernel.timers.sleep(duration_ns)
    finally:
        task.waiting_for = None


def _reader(original: Callable[[], Any], unit: float, base_ns: int) -> Callable[[], Any]:
    """A clock function that reads the kernel's clock in a kernel thread."""
    whole = isinstance(unit, int)

    def read() -> Any:
        kernel = running_here.kernel
        if kernel is None or not kernel.clock.is_virtual:
            if kernel is not None and kernel.sched.listener is None:
                rest(kernel)
            return original()
        if kernel.sched.listener is None:
            rest(kernel)
        if base_ns and _is_travelling():
            return original()
        now = kernel.timers.now_ns() + base_ns
        return now if whole else now / unit

    read.__name__ = read.__qualname__ = original.__name__
    read.__doc__ = original.__doc__
    return read


def _is_travelling() -> bool:
    """Whether the program uses time-machine at the moment."""
    machine = sys.modules.get("time_machine")
    return machine is not None and machine.escape_hatch.is_travelling()


def _of_now(original: Callable[..., Any]) -> Callable[..., Any]:
    """gmtime() and its like: without an argument they read the clock."""

    def convert(seconds: float | None = None, /) -> Any:
        return original(clock_time() if seconds is None else seconds)

    convert.__name__ = convert.__qualname__ = original.__name__
    convert.__doc__ = original.__doc__
    return convert


def _strftime(format: str, when: Any = None, /) -> str:
    return original_strftime(format, now_tuple() if when is None else when)


def _asctime(when: Any = None, /) -> str:
    return original_asctime(now_tuple() if when is None else when)


original_strftime, original_asctime = time.strftime, time.asctime
clock_time = _reader(time.time, float(NS_PER_S), EPOCH_NS)
_original_localtime = time.localtime


def now_tuple() -> time.struct_time:
    """The local time."""
    return _original_localtime(clock_time())


def time_machine_table() -> Iterator[tuple[Any, str, Any]]:
    """(module, name, replacement) for what a journey of time-machine counts its time with."""
    machine: Any = sys.modules.get("_time_machine")
    if machine is not None:
        original = machine.original_time_ns

        def time_ns() -> int:
            kernel = running_here.kernel
            if kernel is None or not kernel.clock.is_virtual:
                return int(original())
            return kernel.timers.now_ns() + EPOCH_NS

        yield machine, "original_time_ns", time_ns


REPLACED: dict[str, Any] = {
    "sleep": sleep,
    "time": clock_time,
    "time_ns": _reader(time.time_ns, 1, EPOCH_NS),
    "monotonic": _reader(time.monotonic, float(NS_PER_S), 0),
    "monotonic_ns": _reader(time.monotonic_ns, 1, 0),
    "perf_counter": _reader(time.perf_counter, float(NS_PER_S), 0),
    "perf_counter_ns": _reader(time.perf_counter_ns, 1, 0),
    "gmtime": _of_now(time.gmtime),
    "localtime": _of_now(time.localtime),
    "ctime": _of_now(time.ctime),
    "strftime": _strftime,
    "asctime": _asctime,
}
