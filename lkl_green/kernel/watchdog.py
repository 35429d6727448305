"""The watchdog: naming, and ending, a task that never yields (kernel/watchdog.c, soft lockup).

Switching is cooperative: a kernel thread that loops without ever reaching a scheduling point stops the kernel, the
application and Ctrl-C with it. Another OS thread, that of a host timer, looks once a period whether scheduling points
pass. If none did, it logs the task and the line it is at, and raises SoftLockup in it, which ends the task as an oops.
Code that does not return to the interpreter (a long C call, `time.sleep`) gets the exception when it does. Interrupt
handlers and callbacks are watched, too, also those that swapper handles; while it handles none, it is the application,
which may take its time.

The exception must not hit anyone else. Writing to the console lets the other thread run, so whether it has yielded
after all is looked at again: before the exception is set, and after, when it can still be taken back.
"""

from __future__ import annotations

import ctypes
import errno
from dis import opname
from typing import TYPE_CHECKING

from lkl_green.errors import SoftLockup
from lkl_green.host.native import get_ident, sleep
from lkl_green.host.stacks import os_thread_frame
from lkl_green.kernel.printk import KERN_EMERG
from lkl_green.kernel.stacktext import own_code_frame, source_of_call, told_line
from lkl_green.kernel.task import HARDIRQ_MASK, SOFTIRQ_MASK

# A call in which each of these looks finds the task is one that blocks.
_SAMPLES = 5
_SAMPLE_S = 0.01

if TYPE_CHECKING:
    from types import FrameType

    from lkl_green.host.ops import HostTimer
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task


class Watchdog:
    """Watches one kernel.

    Args:
        kernel: the kernel.
        period_ns: how long a task may run without a scheduling point, between one and two periods; None never starts.

    Attributes:
        advice, advice_on_calls: what to do about a task that computes, and about one that is in a call that blocks.
    """

    def __init__(self, kernel: Kernel, period_ns: int | None) -> None:
        self._kernel = kernel
        self._period_ns = period_ns
        self._timer: HostTimer | None = None
        self._owner = get_ident()
        self._seen: tuple[int, ...] = ()
        self.advice = "call cond_resched() in long computations"
        self.advice_on_calls = (
            "a call that blocks stops every kernel thread: msleep() sleeps, and Ctrl-C or an exception gets through "
            "when the call returns"
        )

    def start(self) -> None:
        """Begin. Raises OSError(ENOMEM) if the host has no timer."""
        if self._period_ns is None:
            return
        host = self._kernel.host
        self._timer = host.timer_alloc(self._look, None)
        if self._timer is None or host.timer_set_oneshot(self._timer, self._period_ns):
            self.stop()
            raise OSError(errno.ENOMEM, "the host gave no timer for the watchdog")

    def stop(self) -> None:
        """End; waits for a look that is under way."""
        timer, self._timer = self._timer, None
        if timer is not None:
            self._kernel.host.timer_free(timer)

    def look(self, period_ns: int) -> None:
        """Once a period, in another OS thread than the kernel's: bark if there is no progress since the last look."""
        now = self._kernel.progress.activity()
        if now == self._seen and self._is_busy():
            self._bark(period_ns)
        self._seen = now

    def bark(self, period_ns: int) -> None:
        """Name the current task and end it: another watch has seen that it does not get on.

        Args:
            period_ns: for how long it has not reached a scheduling point.
        """
        self._seen = self._kernel.progress.activity()
        self._bark(period_ns)

    def _look(self, _arg: object) -> None:
        """In the host timer's thread."""
        self.look(self._period_ns or 0)
        timer = self._timer
        if timer is not None:
            self._kernel.host.timer_set_oneshot(timer, self._period_ns or 0)

    def _is_busy(self) -> bool:
        sched = self._kernel.sched
        return sched.current is not sched.swapper or _in_interrupt(sched.current)

    def _bark(self, period_ns: int) -> None:
        kernel = self._kernel
        task = kernel.sched.current
        ident = kernel.arch.os_thread_of(task) if task is not kernel.sched.swapper else self._owner
        frame = os_thread_frame(ident)
        seconds = period_ns / 1e9
        handler = "an interrupt handler or callback on top of " if _in_interrupt(task) else ""
        call = self._blocking_call(ident, frame)
        if kernel.progress.activity() != self._seen:  # looking took a while
            return
        what = f", inside the call {call}; {self.advice_on_calls}" if call else f"; {self.advice}"
        message = (
            f"BUG: soft lockup - {handler}{task.comm}-{task.pid} has not reached a scheduling point for "
            f"{seconds:.3g}s, at {told_line(frame)}{what}"
        )
        kernel.printk.printk(message, KERN_EMERG)
        error = type("SoftLockup", (SoftLockup,), {"__init__": lambda self: SoftLockup.__init__(self, message)})
        if kernel.progress.activity() != self._seen:
            return
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(error))
        if kernel.progress.activity() != self._seen:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), None)

    def _blocking_call(self, ident: int, frame: FrameType | None) -> str:
        """The call of a C function that the task is in all the time; "" if it computes, or is not in one."""
        if frame is None or own_code_frame(frame) is not frame:
            return ""
        instruction = frame.f_lasti
        if not opname[frame.f_code.co_code[instruction]].startswith("CALL"):
            return ""
        for _ in range(_SAMPLES):
            sleep(_SAMPLE_S)
            if os_thread_frame(ident) is not frame or frame.f_lasti != instruction:
                return ""
        return source_of_call(frame)


def _in_interrupt(task: Task) -> bool:
    return bool(task.preempt_count & (HARDIRQ_MASK | SOFTIRQ_MASK))
