"""Timers, and sleeping for a time (kernel/time/timer.c, rules 118, 126).

Times are integer nanoseconds on the kernel's clock; Linux's jiffies would only round them. Pending timers stand in a
heap of (expiry, sequence number, timer): the sequence number makes the order total, so that timers of one moment expire
in the order in which they were armed, in every run. Disarming marks the heap's entry stale and leaves it there; when
stale entries outnumber the live ones by far, the heap is rebuilt. Dropped: a wheel. It arms and disarms in half the
time, but rounds expiry to its slots, or needs a sort in each.

Who notices that a timer is due? A host timer for each change of the first expiry would cost more than all the rest.
Instead the clock is looked at where it is cheap: in idle, and every POLL_POINTS scheduling points. It then raises the
timer interrupt, whose handler raises TIMER_SOFTIRQ, in which callbacks run. A virtual clock that is read past the first
expiry raises it at once, and a timer that is due when it is armed is looked for at the next scheduling point.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from lkl_green.errors import KernelBug
from lkl_green.kernel.binding import Bindable, kernel_for
from lkl_green.kernel.callback import check_callback
from lkl_green.kernel.numbers import check_int
from lkl_green.kernel.sched import NEVER
from lkl_green.kernel.softirq import TIMER_SOFTIRQ
from lkl_green.kernel.task import (
    HARDIRQ_MASK,
    SOFTIRQ_MASK,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task

MAX_SCHEDULE_TIMEOUT = NEVER

# Rebuild the heap when it holds this many stale entries and they are three quarters of it.
_STALE_LIMIT = 64


class Timer(Bindable):
    """A function to call at a time, in softirq context, where sleeping is forbidden.

    Args:
        function: called as `function(timer)`.
        kernel: the kernel it belongs to; the current one if left out. Bound at first use if no kernel runs.
        name: shown in traces.

    Raises:
        TypeError: `function` is not a plain function.
    """

    __slots__ = ("_entry", "_timers", "_shut_down", "expires_ns", "function", "name")  # fmt: skip  # noqa: RUF023

    def __init__(self, function: Callable[[Timer], object], kernel: Kernel | None = None, name: str = "") -> None:
        check_callback(function, "timer callback")
        self._timers = (kernel if kernel is not None else kernel_for(self)).timers
        self._entry: list[Any] | None = None
        self._shut_down = False
        self.function = function
        self.expires_ns = 0
        self.name = name or getattr(function, "__name__", "timer")

    def bind(self, kernel: Kernel) -> None:
        """Belong to a kernel from now on."""
        self._timers = kernel.timers

    def untie(self) -> None:
        """Be neither armed nor shut down: both ended with the kernel."""
        self._entry = None
        self._shut_down = False

    @property
    def pending(self) -> bool:
        """Whether it is armed."""
        return self._entry is not None

    def add_timer(self, expires_ns: int) -> None:
        """Arm for a time on the kernel's clock; not after `shutdown()`.

        Raises:
            KernelBug: it is armed already.
            TypeError: the time is not an integer.
        """
        if type(expires_ns) is not int:
            check_int(expires_ns, "expires_ns")
        if self._entry is not None:
            raise KernelBug(f"BUG: add_timer() on pending {self!r}; use mod_timer() to move it")
        if not self._shut_down:
            self._timers.arm(self, expires_ns)

    def mod_timer(self, expires_ns: int) -> bool:
        """Arm, or move; whether it was armed. After `shutdown()` nothing happens.

        Raises TypeError, and changes nothing, if the time is not an integer.
        """
        if type(expires_ns) is not int:
            check_int(expires_ns, "expires_ns")
        was_pending = self._timers.disarm(self)
        if not self._shut_down:
            self._timers.arm(self, expires_ns)
        return was_pending

    def mod_timer_in(self, delta_ns: int) -> bool:
        """`mod_timer` for `delta_ns` from now. Raises TypeError if it is not an integer."""
        if type(delta_ns) is not int:
            check_int(delta_ns, "delta_ns")
        return self.mod_timer(self._timers.now_ns() + max(delta_ns, 0))

    def del_timer(self) -> bool:
        """Disarm; whether it was armed."""
        return self._timers.disarm(self)

    def del_timer_sync(self) -> bool:
        """Disarm and be sure the callback does not run; not from the callback (rule 126). Raises KernelBug there."""
        if self._timers.running is self:
            raise KernelBug(f"BUG: del_timer_sync() of {self!r} from its own callback would wait for itself")
        return self._timers.disarm(self)

    def shutdown(self) -> bool:
        """Disarm for good: it cannot be armed again; whether it was armed (Linux: timer_shutdown_sync())."""
        was_pending = self.del_timer_sync()
        self._shut_down = True
        return was_pending

    def __repr__(self) -> str:
        when = f"expires={self.expires_ns}" if self.pending else "inactive"
        return f"<Timer {self.name} {when}>"


class SleepTimer(Timer):
    """The end of a task's time-out. The kernel makes one for each sleep, so nothing needs to be checked or found.

    Attributes:
        task: whom it wakes.
    """

    __slots__ = ("task",)

    def __init__(self, task: Task, timers: Timers) -> None:
        self._timers = timers
        self._entry = None
        self._shut_down = False
        self.function = process_timeout
        self.expires_ns = 0
        self.name = task.comm
        self.task = task


def process_timeout(timer: Any) -> None:
    """The callback of a SleepTimer."""
    timer._timers.wake_up(timer.task)


class Timers:
    """The pending timers of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._clock_is_virtual = kernel.clock.is_virtual
        self.wake_up = kernel.sched.try_to_wake_up  # what sleepers' timers call
        self._heap: list[list[Any]] = []  # entries [expires_ns, sequence, timer or None if stale]
        self._sequence = 0
        self._stale = 0
        self.next_ns = NEVER
        # Who decides among timers that are due at one moment, given their number; None: the one armed first.
        self.tie_break: Callable[[int], int] | None = None
        self.running: Timer | None = None
        self.irq = kernel.irq.get_free_irq("timer")
        kernel.irq.request_irq(self.irq, self._interrupt, "timer", dev_id=self)
        kernel.softirq.open_softirq(TIMER_SOFTIRQ, self._run_timers)

    @property
    def first(self) -> Timer | None:
        """The armed timer that is due first."""
        return self._heap[0][2] if self._heap else None

    def sleepers(self) -> dict[Task, int]:
        """The tasks that a timer will wake, with when: they sleep for a time, or with a time-out."""
        return {entry[2].task: entry[0] for entry in self._heap if isinstance(entry[2], SleepTimer)}

    def now_ns(self) -> int:
        """Read the clock as kernel code does: under a virtual clock this takes time, and timers may become due."""
        clock = self._kernel.clock
        now = clock.now_ns()
        if now >= self.next_ns and not clock.free_reads:  # in an interrupt no time passes, so nothing becomes due
            self._kernel.sched.checkpoint = 0
            self._kernel.irq.raise_local(self.irq)
        return now

    # -- arming

    def arm(self, timer: Timer, expires_ns: int) -> None:
        """Put a timer into the heap."""
        self._sequence = sequence = self._sequence + 1
        timer.expires_ns = expires_ns
        timer._entry = entry = [expires_ns, sequence, timer]
        heapq.heappush(self._heap, entry)
        if expires_ns < self.next_ns:
            self.next_ns = expires_ns
            # Virtual time may not move again before the task's next POLL_POINTS points, and the timer is due already.
            if self._clock_is_virtual and expires_ns <= self._kernel.clock.peek_ns():
                self._kernel.sched.checkpoint = 0
        trace = self._kernel.sched.trace
        if trace is not None:
            trace.emit("timer_start", timer.name, getattr(timer.function, "__name__", "?"), expires_ns)

    def disarm(self, timer: Timer) -> bool:
        """Take a timer out; whether it was in."""
        entry = timer._entry
        if entry is None:
            return False
        entry[2] = timer._entry = None
        self._stale += 1
        if self._stale > _STALE_LIMIT and self._stale * 4 > len(self._heap) * 3 and self.running is None:
            self._heap = [entry for entry in self._heap if entry[2] is not None]
            heapq.heapify(self._heap)
            self._stale = 0
        self._find_next()
        trace = self._kernel.sched.trace
        if trace is not None:
            trace.emit("timer_cancel", timer.name)
        return True

    def _find_next(self) -> None:
        """Drop stale entries from the top and note when the next timer is due."""
        heap = self._heap
        while heap and heap[0][2] is None:
            heapq.heappop(heap)
            self._stale -= 1
        self.next_ns = heap[0][0] if heap else NEVER

    # -- expiry

    def poll(self) -> None:
        """Raise the timer interrupt if a timer is due."""
        if self.next_ns != NEVER and self._kernel.clock.peek_ns() >= self.next_ns:
            self._kernel.irq.raise_local(self.irq)

    def _interrupt(self, _irq: int) -> None:
        self._kernel.softirq.raise_softirq(TIMER_SOFTIRQ)

    def _run_timers(self) -> None:
        """Call what is due, in order of (expiry, sequence); what callbacks arm for now waits for the next run.

        A callback may arm a timer for a time before the expiry of others that are due. It waits behind them all the
        same: a timer that arms itself in the past must not keep the others from expiring (Linux: it goes into the next
        jiffy). It is put aside until they have been called.
        """
        now = self._kernel.clock.peek_ns()
        last = self._sequence
        heap = self._heap
        aside: list[list[Any]] = []
        try:
            while heap and heap[0][0] <= now:
                if heap[0][1] > last:
                    aside.append(heapq.heappop(heap))
                    continue
                if self.tie_break is not None:
                    self._break_tie(heap, last, self.tie_break)
                timer: Timer | None = heapq.heappop(heap)[2]
                if timer is None:
                    self._stale -= 1
                else:
                    timer._entry = None
                    self._call(timer, now)
        finally:
            for entry in aside:
                heapq.heappush(heap, entry)
        self._find_next()

    def _break_tie(self, heap: list[list[Any]], last: int, tie_break: Callable[[int], int]) -> None:
        """Let somebody else decide which of the timers of one moment is the first."""
        tied = sorted([*e[:2], e] for e in heap if e[0] == heap[0][0] and e[1] <= last and e[2] is not None)
        if len(tied) > 1:
            first, chosen = tied[0][2], tied[tie_break(len(tied))][2]
            first[1], chosen[1] = chosen[1], first[1]
            heapq.heapify(heap)

    def rewind(self) -> None:
        """Begin counting again; no timer is armed."""
        self._heap.clear()
        self._stale = self._sequence = 0
        self.next_ns = NEVER

    def _call(self, timer: Timer, now: int) -> None:
        trace = self._kernel.sched.trace
        if trace is not None:
            trace.emit("timer_expire_entry", timer.name, getattr(timer.function, "__name__", "?"), now)
        self.running = timer
        task = self._kernel.sched.current
        count = task.preempt_count
        try:
            timer.function(timer)
        except BaseException as error:
            self._kernel.faults.oops_in_interrupt(error, f"callback of {timer!r}")
        finally:
            self.running = None
            if task.preempt_count != count:
                self._kernel.softirq.repair_preempt_count(count, f"callback of {timer!r}")
        if trace is not None:
            trace.emit("timer_expire_exit", timer.name)

    # -- sleeping

    def schedule_timeout(self, timeout_ns: int) -> int:
        """Sleep in the state the caller has set, for at most `timeout_ns`; what is left of it, 0 if it passed.

        MAX_SCHEDULE_TIMEOUT sets no timer. A negative value prints an error and returns 0 (rule 118). Raises TypeError,
        and leaves the caller running, if it is not an integer.
        """
        sched = self._kernel.sched
        task = sched.current
        if type(timeout_ns) is not int:
            state, task.state = task.state, TASK_RUNNING
            check_int(timeout_ns, "timeout_ns")
            task.state = state
        if timeout_ns >= MAX_SCHEDULE_TIMEOUT:
            sched.schedule()
            return MAX_SCHEDULE_TIMEOUT
        if timeout_ns < 0:
            self._kernel.printk.err(f"schedule_timeout: wrong timeout value {timeout_ns}")
            task.state = TASK_RUNNING
            return 0

        timer = SleepTimer(task, self)
        expires = self.now_ns() + timeout_ns
        self.arm(timer, expires)
        try:
            sched.schedule()
        finally:
            self.disarm(timer)
        return max(expires - self.now_ns(), 0)

    def sleep(self, duration_ns: int) -> None:
        """Sleep for at least `duration_ns`; wake-ups before that are ignored (Linux: msleep())."""
        task = self._kernel.sched.current
        while duration_ns:
            task.state = TASK_UNINTERRUPTIBLE
            duration_ns = self.schedule_timeout(duration_ns)

    def sleep_interruptible(self, duration_ns: int) -> int:
        """Sleep until the time has passed or a signal comes; what is left (Linux: msleep_interruptible())."""
        sched = self._kernel.sched
        while duration_ns and not self._kernel.signals.pending_in(sched.current, TASK_INTERRUPTIBLE):
            sched.current.state = TASK_INTERRUPTIBLE
            duration_ns = self.schedule_timeout(duration_ns)
        return duration_ns

    def delay(self, duration_ns: int) -> None:
        """Let time pass without giving up the CPU (Linux: ndelay()); virtual time is advanced (rule 92)."""
        clock = self._kernel.clock
        end = clock.now_ns() + duration_ns
        while (now := clock.peek_ns()) < end:
            due = self.next_ns
            if not clock.is_virtual:
                if due <= now:
                    self._deliver_while_delaying()
                continue
            if due > now:
                clock.advance_to(min(due, end))
            if due <= end and not self._deliver_while_delaying():
                clock.advance_to(end)
            elif due <= now:
                clock.now_ns()  # a callback that arms its timer for now must not keep now from passing
        if self.next_ns <= clock.peek_ns():
            self._kernel.sched.checkpoint = 0
            self._kernel.irq.raise_local(self.irq)

    def _deliver_while_delaying(self) -> bool:
        """Expire what is due in the middle of a delay; False where interrupts are off and it has to wait.

        A more important task that this wakes runs at once, as at the end of any interrupt.
        """
        kernel = self._kernel
        task = kernel.sched.current
        if task.irqs_disabled or task.preempt_count & (HARDIRQ_MASK | SOFTIRQ_MASK):
            return False
        self.poll()
        kernel.irq.deliver()
        kernel.sched.preempt_check()
        return True

    def __len__(self) -> int:
        return len(self._heap) - self._stale
