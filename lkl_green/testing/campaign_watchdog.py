"""The watchdog of a campaign: one OS thread for all of its kernels.

A kernel's own watchdog starts a thread at boot and joins it at halt, and a campaign whose schedules deadlock boots
thousands of kernels. So a test bed has one host timer that looks at whatever kernel there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.host.greenlets import GreenletHost

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.kernel import Kernel

_NS_PER_S = 1_000_000_000


class CampaignWatchdog:
    """Ends tasks that run too long without a scheduling point.

    Args:
        period_s: a task is ended after one to two periods.
        kernel: the kernel of the moment; None while there is none.
    """

    def __init__(self, period_s: float, kernel: Callable[[], Kernel | None]) -> None:
        self._period_ns = int(period_s * _NS_PER_S)
        self._kernel = kernel
        self._host = GreenletHost()
        self._stopped = False
        self._timer = self._host.timer_alloc(self._look, None)
        if self._timer is not None:
            self._host.timer_set_oneshot(self._timer, self._period_ns)

    def _look(self, _arg: object) -> None:
        """Runs in the timer's thread, once in a period."""
        kernel = self._kernel()
        if kernel is not None and not kernel.halted:
            kernel.watchdog.look(self._period_ns)
        if self._timer is not None and not self._stopped:
            self._host.timer_set_oneshot(self._timer, self._period_ns)

    def stop(self) -> None:
        """Stop watching; waits for a look that is under way."""
        self._stopped = True
        timer, self._timer = self._timer, None
        if timer is not None:
            self._host.timer_free(timer)
