"""The driver's own task: slices of the kernel in turn with the loop's other tasks, and sleep in between.

*Time.* The kernel's next timer is the driver's alarm. A virtual clock jumps instead, unless the loop awaits something
for a kernel thread: what the host does takes no virtual time, so the jump waits for it, as idle does for interrupts
that are expected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.errors import Deadlock
from lkl_green.kernel.loop import RunReason, RunStatus

if TYPE_CHECKING:
    from lkl_green.embed.driver import Driver

_IDLE, _DEADLOCK = RunReason.IDLE, RunReason.DEADLOCK


class Turns:
    """What one driver's task does.

    Attributes:
        sleeps: the task sleeps; somebody else runs the slices meanwhile.
    """

    __slots__ = ("_alarm", "_deadline_ns", "_driver", "_is_virtual", "_kernel", "sleeps")

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._kernel = driver.kernel
        self._is_virtual = driver.kernel.clock.is_virtual
        self._alarm = driver.backend.new_alarm()
        self._deadline_ns: int | None = None
        self.sleeps = False

    def wake(self) -> None:
        """End the sleep, or the next one; on the loop's OS thread."""
        self._alarm.wake()

    async def run(self) -> None:
        """Run the kernel until it halts or the driver has failed."""
        driver, kernel = self._driver, self._kernel
        pace = driver.pace
        time = kernel.host.time
        sched = kernel.sched
        begin = time()
        while True:
            points = sched.points
            driver.slice()
            if driver.error is not None or kernel.halted:
                return
            end = time()
            if self._time_jumps() and end - begin < pace.budget_ns:
                continue
            if self._is_busy():
                await driver.checkpoint()
                others = time()
                pace.learn(end - begin, sched.points - points, others - end)
                begin = others
                continue
            self._check_deadlock()
            if driver.error is not None:
                return
            await self._sleep()
            begin = time()

    def _is_busy(self) -> bool:
        reason = self._driver.status.reason
        if reason is not _IDLE and reason is not _DEADLOCK:
            return True
        return not self._kernel.sched.is_idle() or self._kernel.loop.has_events

    def _time_jumps(self) -> bool:
        """Let virtual time jump to the next timer, if the kernel is idle and waits for nobody outside."""
        driver, kernel = self._driver, self._kernel
        if not self._is_virtual or driver.companions or self._is_busy():
            return False
        if kernel.irq.expected or kernel.readiness.expected or driver.status.next_event_ns is None:
            return False
        kernel.loop.pause(driver.status)
        driver.status = RunStatus(RunReason.BUDGET, None)  # busy: what is due now has not run
        return True

    def _check_deadlock(self) -> None:
        driver = self._driver
        if driver.closing and driver.status.reason is _DEADLOCK and not driver.companions and not driver.pending:
            driver.failed(Deadlock(driver.status.report))

    # -- sleep

    async def _sleep(self) -> None:
        """Until the next timer is due, or the doorbell rings."""
        next_ns = None if self._is_virtual else self._driver.status.next_event_ns
        self._deadline_ns = next_ns
        delay_ns = None if next_ns is None else max(next_ns - self._kernel.clock.peek_ns(), 0)
        self.sleeps = True
        try:
            await self._alarm.wait(delay_ns)
        finally:
            self.sleeps = False
            self._deadline_ns = None

    def sleep_less(self, status: RunStatus) -> None:
        """Somebody else ran a slice while the task sleeps: it may have to wake earlier."""
        if status.reason is not _IDLE and status.reason is not _DEADLOCK:
            self._alarm.wake()
        elif self._is_virtual:
            self._alarm.wake()  # time may have to jump, which is the task's part
        elif status.next_event_ns is not None:
            next_ns = status.next_event_ns
            if self._deadline_ns is None or next_ns < self._deadline_ns:
                self._deadline_ns = next_ns
                self._alarm.move_up(next_ns - self._kernel.clock.peek_ns())
