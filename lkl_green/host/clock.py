"""The clocks a kernel reads: the host's, or one that moves only when the kernel says so.

A virtual clock follows UML's `time-travel=inf-cpu`: code takes no time, the idle loop jumps to the next timer. Reading
it costs a little all the same, or a loop that polls until some time has passed would never end (rule 91). In interrupt
context reading is free: handlers do not poll, and their number of readings must not move the time of what follows.
Tracing looks with `peek_ns()`, which costs nothing, so that a traced run and an untraced one have the same times.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from lkl_green.errors import KernelBug

if TYPE_CHECKING:
    from lkl_green.host.ops import HostOps


class Clock(ABC):
    """Time in integer nanoseconds that never goes backwards.

    Attributes:
        is_virtual: whether time moves only by `now_ns()` and `advance_to()`.
        free_reads: whether readings cost nothing at present; the kernel sets it in interrupt context.
    """

    __slots__ = ("free_reads",)

    is_virtual: bool
    free_reads: bool

    @abstractmethod
    def now_ns(self) -> int:
        """Read the time, as kernel code does: a virtual clock moves on."""

    @abstractmethod
    def peek_ns(self) -> int:
        """Read the time without any effect."""

    def advance_to(self, ns: int) -> None:
        """Jump to `ns`. Raises KernelBug for a clock that is not virtual."""
        raise KernelBug(f"time cannot be moved to {ns}: {type(self).__name__} is not a virtual clock")


class MonotonicClock(Clock):
    """The host's time, counted from `start_ns` at the creation of the clock: time since boot."""

    __slots__ = ("_offset_ns", "_time")

    is_virtual = False

    def __init__(self, host: HostOps, start_ns: int = 0) -> None:
        self.free_reads = False
        self._time = host.time
        self._offset_ns = start_ns - host.time()

    def now_ns(self) -> int:
        """The host's time since the creation of the clock, plus `start_ns`."""
        return self._time() + self._offset_ns

    def peek_ns(self) -> int:
        """The same: looking at this clock never moves it."""
        return self._time() + self._offset_ns


class VirtualClock(Clock):
    """A clock that stands still unless it is read or moved.

    Attributes:
        read_cost_ns: what one `now_ns()` adds, after reading.
    """

    __slots__ = ("_now_ns", "read_cost_ns")

    is_virtual = True

    def __init__(self, start_ns: int = 0, read_cost_ns: int = 1000) -> None:
        if read_cost_ns <= 0:
            raise ValueError(
                f"read_cost_ns is {read_cost_ns}: a loop that waits for the clock would never end. Pass 1 or more"
            )
        self._now_ns = start_ns
        self.read_cost_ns = read_cost_ns
        self.free_reads = False

    def now_ns(self) -> int:
        """The time; the reading itself then takes `read_cost_ns`, unless readings are free."""
        now = self._now_ns
        if not self.free_reads:
            self._now_ns = now + self.read_cost_ns
        return now

    def peek_ns(self) -> int:
        """The time, which stays."""
        return self._now_ns

    def advance_to(self, ns: int) -> None:
        """Jump to `ns`. Raises KernelBug if that is in the past (rule 85)."""
        if ns < self._now_ns:
            raise KernelBug(f"time goes backwards {self._now_ns} -> {ns}")
        self._now_ns = ns

    def rewind_to(self, ns: int) -> None:
        """Begin again at `ns`: for whoever begins everything else again, too."""
        self._now_ns = ns
