"""One-shot timers: one OS thread serves all timers of a host.

The thread starts when a timer is armed for the first time and ends when the last timer is freed, so that a host
without timers has no thread and nothing outlives the timers. One thread per timer (`threading.Timer`) was dropped: a
kernel arms its timer anew at each tick, and starting a thread costs more than the tick.

A heap holds `(when, sequence, timer)`. Arming anew leaves the old entry in the heap and gives the timer a new sequence
number; an entry whose number is not its timer's is skipped when it comes up.
"""

from __future__ import annotations

import traceback
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from lkl_green.host.native import TIMEOUT_MAX, Condition, Thread, get_ident

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_ARMED = 0
# Old entries may outnumber armed timers by this much before the heap is rebuilt.
SLACK = 64


class OneShotTimer:
    """A timer; opaque to its user."""

    __slots__ = ("arg", "fn", "freed", "runner", "sequence")

    def __init__(self, fn: Callable[[Any], None], arg: Any) -> None:
        self.fn = fn
        self.arg = arg
        self.freed = False
        # The OS thread that runs the callback at this moment; 0: none. No OS thread has the identifier 0.
        self.runner = 0
        self.sequence = NOT_ARMED

    def __repr__(self) -> str:
        state = "freed" if self.freed else "idle" if self.sequence == NOT_ARMED else "armed"
        return f"<host timer, {state}>"


class TimerThread:
    """The timers of one host, and the OS thread that calls back."""

    def __init__(self, time: Callable[[], int], report: Callable[[str], None]) -> None:
        self._time = time
        self._report = report
        self._changed = Condition()
        self._heap: list[tuple[int, int, OneShotTimer]] = []
        self._sequence = NOT_ARMED
        self._thread: Thread | None = None
        self.count = 0

    def alloc(self, fn: Callable[[Any], None], arg: Any) -> OneShotTimer:
        """A timer that is not armed."""
        timer = OneShotTimer(fn, arg)
        with self._changed.lock:
            self.count += 1
        return timer

    def arm(self, timer: OneShotTimer, delta_ns: int) -> int:
        """Arm, or arm anew, for `delta_ns` from now; 0, or -1 if there is no thread to be had."""
        with self._changed.lock:
            if self._thread is None and not self._start():
                return -1
            self._sequence += 1
            timer.sequence = self._sequence
            if len(self._heap) > 2 * self.count + SLACK:
                self._forget_stale()
            heappush(self._heap, (self._time() + delta_ns, timer.sequence, timer))
            self._changed.notify_all()
        return 0

    def free(self, timer: OneShotTimer) -> None:
        """Disarm; wait for the callback if it runs now in another thread; end the thread after the last timer."""
        with self._changed.lock:
            timer.freed = True
            timer.sequence = NOT_ARMED
            self.count -= 1
            thread = self._stop() if self.count == 0 else None
            while timer.runner not in (0, get_ident()):
                self._changed.wait()
        self._join(thread)

    def close(self) -> None:
        """Disarm all timers and end the thread."""
        with self._changed.lock:
            thread = self._stop()
        self._join(thread)

    def _join(self, thread: Thread | None) -> None:
        # A callback that frees the last timer cannot wait for its own thread, which ends when the callback returns.
        if thread is not None and thread.ident != get_ident():
            thread.join()

    # -- all below: with the lock held, or in the thread itself

    def _start(self) -> bool:
        thread = Thread(self._serve, name="lkl-host-timers")
        self._thread = thread
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            self._thread = None
            return False
        return True

    def _stop(self) -> Thread | None:
        thread, self._thread = self._thread, None
        for _, _, timer in self._heap:
            timer.sequence = NOT_ARMED
        self._heap.clear()
        self._changed.notify_all()
        return thread

    def _forget_stale(self) -> None:
        self._heap = sorted(entry for entry in self._heap if entry[2].sequence == entry[1])

    def _serve(self) -> None:
        me = get_ident()
        while (timer := self._next_due(me)) is not None:
            try:
                timer.fn(timer.arg)
            except BaseException:
                self._report(f"a host timer's callback failed:\n{traceback.format_exc()}")
            with self._changed.lock:
                timer.runner = 0
                self._changed.notify_all()

    def _next_due(self, me: int) -> OneShotTimer | None:
        """Wait for a timer to expire and mark it running; None when the thread, whose ident is `me`, is to end."""
        with self._changed.lock:
            while self._thread is not None and self._thread.ident == me:
                wait_ns = self._wait_ns()
                if wait_ns == 0:
                    timer = heappop(self._heap)[2]
                    timer.sequence = NOT_ARMED
                    timer.runner = get_ident()
                    return timer
                self._changed.wait(None if wait_ns is None else min(wait_ns / 1e9, TIMEOUT_MAX))
        return None

    def _wait_ns(self) -> int | None:
        """How long the first armed timer still runs; None if none is armed."""
        while self._heap:
            when, sequence, timer = self._heap[0]
            if timer.sequence == sequence:
                return max(0, when - self._time())
            heappop(self._heap)
        return None
