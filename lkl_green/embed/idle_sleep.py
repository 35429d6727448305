"""The sleep of the driver's task while the kernel is idle.

It ends when the kernel's next timer is due, or when the kernel is given something to do. Slices may run meanwhile, in
other tasks of the loop; one that arms an earlier timer moves the end of the sleep up.

Under a virtual clock no time is slept: the driver's task lets the clock jump to the next timer, and sleeps only while
there is nothing to jump to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.kernel.loop import RunReason, RunStatus

if TYPE_CHECKING:
    from lkl_green.embed.backend import Alarm
    from lkl_green.host.clock import Clock

_IDLE, _DEADLOCK = RunReason.IDLE, RunReason.DEADLOCK


class IdleSleep:
    """Where the driver's task sleeps.

    Args:
        clock: the kernel's clock, on which its timers are due.
        alarm: the loop's.

    Attributes:
        sleeps: whether the task sleeps; other tasks of the loop run the slices meanwhile.
    """

    __slots__ = ("_alarm", "_clock", "_deadline_ns", "sleeps")

    def __init__(self, clock: Clock, alarm: Alarm) -> None:
        self._clock = clock
        self._alarm = alarm
        self._deadline_ns: int | None = None
        self.sleeps = False

    async def sleep(self, status: RunStatus) -> None:
        """Sleep until the next timer is due, or until `wake()`. `status`: how the last slice ended."""
        next_ns = None if self._clock.is_virtual else status.next_event_ns
        self._deadline_ns = next_ns
        delay_ns = None if next_ns is None else max(next_ns - self._clock.peek_ns(), 0)
        self.sleeps = True
        try:
            await self._alarm.wait(delay_ns)
        finally:
            self.sleeps = False
            self._deadline_ns = None

    def wake(self) -> None:
        """End the sleep, or the next one; on the loop's OS thread."""
        self._alarm.wake()

    def sleep_less(self, status: RunStatus) -> None:
        """Another task has run a slice during the sleep, which may have to end earlier."""
        if status.reason is not _IDLE and status.reason is not _DEADLOCK:
            self._alarm.wake()
        elif self._clock.is_virtual:
            self._alarm.wake()  # the clock may have to jump, and only the driver's task lets it
        elif status.next_event_ns is not None:
            next_ns = status.next_event_ns
            if self._deadline_ns is None or next_ns < self._deadline_ns:
                self._deadline_ns = next_ns
                self._alarm.move_up(next_ns - self._clock.peek_ns())
