"""The host operations that have nothing to do with threads: memory, time, console, and the idle doorbell.

The doorbell of `idle_sleep` is one raw lock: ringing is `release()`, sleeping is `acquire()`. A `threading.Event` or
`Condition` was dropped: their `set()` and `notify()` take a lock, so that a signal handler which interrupts them and
rings as well waits for itself. Once somebody asks for a poller, which an event loop or a host descriptor needs, it
takes the doorbell's place: ringing then costs a system call.
"""

# ruff: noqa: D102 - HostOps describes the operations.

from __future__ import annotations

import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from lkl_green.errors import HostMisuse, HostPanic
from lkl_green.host.native import TIMEOUT_MAX, allocate_lock, get_ident, monotonic_ns
from lkl_green.host.objects import freed_twice, negative, used_after_free
from lkl_green.host.ops import HostOps
from lkl_green.host.pollers import make_poller
from lkl_green.host.timers import OneShotTimer, TimerThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.host.poller import Poller

# A signal that comes between Python's last look for one and the system call that blocks is noticed only when that call
# returns. The main thread, which alone runs signal handlers, therefore never blocks for longer than this at a time.
SIGNAL_POLL_S = 0.1

# How long idle waits for descriptors before it looks whether somebody else has closed one of them.
AUDIT_S = 1.0


class HostServices(HostOps):
    """The part of a host that is the same whatever its threads are.

    Args:
        console: where `print` writes; standard output by default.
    """

    def __init__(self, console: Callable[[str], object] | None = None) -> None:
        self._console = console
        self._memory: dict[int, bytearray] = {}
        self._timers = TimerThread(self.time, self._report)
        self._main_thread = threading.main_thread().ident
        self._doorbell = allocate_lock()
        self._doorbell.acquire()

    # -- memory

    def mem_alloc(self, size: int) -> bytearray | None:
        if size < 0:
            raise negative("mem_alloc", "size", size)
        try:
            mem = bytearray(size)
        except (MemoryError, OverflowError):
            return None
        self._memory[id(mem)] = mem
        return mem

    def mem_free(self, mem: bytearray) -> None:
        if self._memory.pop(id(mem), None) is None:
            raise HostMisuse(
                "mem_free: this memory is not allocated: it was freed before, or mem_alloc() did not make it. "
                "Free once what mem_alloc() returned"
            )

    # -- time

    time = staticmethod(monotonic_ns)

    def timer_alloc(self, fn: Callable[[Any], None], arg: Any) -> OneShotTimer | None:
        try:
            return self._timers.alloc(fn, arg)
        except MemoryError:
            return None

    def timer_set_oneshot(self, timer: OneShotTimer, delta_ns: int) -> int:
        if timer.freed:
            raise used_after_free("timer_set_oneshot", "timer")
        if delta_ns < 0:
            raise negative("timer_set_oneshot", "delta_ns", delta_ns)
        return self._timers.arm(timer, delta_ns)

    def timer_free(self, timer: OneShotTimer) -> None:
        if timer.freed:
            raise freed_twice("timer_free", "timer")
        self._timers.free(timer)

    # -- console

    def print(self, text: str) -> None:
        if self._console is None:
            sys.stdout.write(text)
        else:
            self._console(text)

    def panic(self) -> NoReturn:
        raise HostPanic("the kernel gave up (host operation panic()). What it printed before says why")

    def _report(self, text: str) -> None:
        """Print for a caller that must go on, even if the console is broken."""
        try:
            self.print(text)
        except Exception:
            sys.stderr.write(f"{text}(not on the console, which failed:)\n{traceback.format_exc()}")

    def _report_exception(self, what: str) -> None:
        self._report(f"{what}:\n{traceback.format_exc()}")

    # -- idle

    def idle_sleep(self, timeout_ns: int | None) -> None:
        if self.made_poller is not None:
            self._sleep_on(self.made_poller, timeout_ns)
            return
        deadline_ns = None if timeout_ns is None else monotonic_ns() + timeout_ns
        try:
            while not self._doorbell.acquire(timeout=self._nap_s(deadline_ns)):
                if deadline_ns is not None and monotonic_ns() >= deadline_ns:
                    return
        except BaseException:
            # A signal handler raised, perhaps after the doorbell was heard: ring again, for the next sleep.
            self.idle_wake()
            raise

    def _nap_s(self, deadline_ns: int | None = None) -> float:
        """How long the calling thread may block at a time, in seconds."""
        longest = SIGNAL_POLL_S if get_ident() == self._main_thread else TIMEOUT_MAX
        if deadline_ns is None:
            return longest
        return min(longest, max(0.0, (deadline_ns - monotonic_ns()) / 1e9))

    def _sleep_on(self, poller: Poller, timeout_ns: int | None) -> None:
        deadline_ns = None if timeout_ns is None else monotonic_ns() + timeout_ns
        longest_ns = int(min(self._nap_s(), AUDIT_S) * 1e9)
        next_audit_ns = monotonic_ns() + int(AUDIT_S * 1e9)
        left_ns = longest_ns if timeout_ns is None else min(timeout_ns, longest_ns)
        try:
            while not poller.wait(left_ns):
                now_ns = monotonic_ns()
                if deadline_ns is not None:
                    if now_ns >= deadline_ns:
                        return
                    left_ns = min(deadline_ns - now_ns, longest_ns)
                if now_ns >= next_audit_ns:
                    next_audit_ns = now_ns + int(AUDIT_S * 1e9)
                    poller.audit()
        except BaseException:
            poller.wake()  # as below
            raise

    def poller(self) -> Poller:
        if self.made_poller is None:
            self.made_poller = make_poller()
            if self._doorbell.acquire(blocking=False):
                self.made_poller.wake()
        return self.made_poller

    def _close_poller(self) -> None:
        poller, self.made_poller = self.made_poller, None
        if poller is not None:
            poller.close()

    def idle_wake(self) -> None:
        if self.made_poller is not None:
            self.made_poller.wake()
            return
        # Most rings find the bell rung already; catching the error of each would cost more than a context switch.
        if not self._doorbell.locked():
            return
        # suppress() would do the same in two Python calls more, in which another signal could arrive.
        try:  # noqa: SIM105
            self._doorbell.release()
        except RuntimeError:
            pass
