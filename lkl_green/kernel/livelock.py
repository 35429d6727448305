"""Livelock under a virtual clock: tasks or interrupts keep the CPU busy, and so time never passes.

Virtual time passes when every task sleeps, and a little when the clock is read. A task that polls and only ever calls
`cond_resched()` or `schedule()` keeps it from passing; so do an interrupt handler that raises its own interrupt, and a
tasklet that schedules itself. A timer that is armed meanwhile never expires, though on a real machine it would. Linux's
soft lockup detector does not see this either, as scheduling points are passed.

*The rule.* While a timer is armed and virtual time stands still, `limit` scheduling points are allowed; a switch,
an interrupt or a softirq counts as ten. Without an armed timer nothing waits for time, and any number is allowed. The
rule counts and does not measure real time, so that the verdict comes at the same place in each run and in each
configuration. A program that is right may exceed any number, so the number is large and can be changed. It is ten times
as large where tasks sleep and wake one another: a producer and its consumers that work off many items look like that,
and a loop that polls does not.

*What comes from outside* (a call of the application, work of a host thread) is progress: counting begins anew whenever
the kernel was idle. A timer that its callback arms for now makes idle move the clock on by a microsecond each time; see
`crept()`.

*Naming who it was.* Looking every POLL_POINTS points might meet the same one of several tasks each time. So all of
the last points before the verdict are made checkpoints, and the task that passes each is noted with its line.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

from lkl_green.errors import Livelock
from lkl_green.kernel.progress import POINTS_PER_EVENT
from lkl_green.kernel.sched import NEVER, POLL_POINTS
from lkl_green.kernel.softirq import SOFTIRQ_NAMES, TASKLET_SOFTIRQ
from lkl_green.kernel.stacktext import told_function, told_line
from lkl_green.kernel.timer import SleepTimer, Timer

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel

DEFAULT_LIMIT = 1_000_000
# At least POLL_POINTS points, switches included, lie between the first look that finds the window open and its end.
WINDOW = 2 * POLL_POINTS * (1 + POINTS_PER_EVENT)

_PATIENCE_WITH_HANDOVERS = 10
_SHOWN = 8

_ADVICE = (
    "likely cause: something is polled in a loop. Under the virtual clock code takes no time; time passes when every "
    "task sleeps, and a little when the clock is read\n"
    "what to do: wait for the event (a Completion, a wait queue), or sleep in the loop with msleep() or usleep(). If "
    "the program is right and only does much at one time, raise livelock_points, or use the monotonic clock"
)

_ADVICE_ON_TIMERS = (
    "likely cause: mod_timer() with a time that has passed already, in the timer's callback\n"
    "what to do: arm the timer for a later time; mod_timer_in() takes the time from now"
)


class LivelockDetector:
    """Watches one kernel under a virtual clock.

    Args:
        kernel: the kernel.
        limit: how many scheduling points may pass while time stands still and a timer is armed; None: any number.
    """

    __slots__ = (
        "_base",
        "_counts",
        "_creeps",
        "_crept_to_ns",
        "_kernel",
        "_limit",
        "_now_ns",
        "_seen",
        "_slept",
        "_verdict",
        "_watch",
    )

    def __init__(self, kernel: Kernel, limit: int | None) -> None:
        self._kernel = kernel
        self._limit = limit
        self._seen: Counter[str] = Counter()  # who passed the points of the window, and where
        self._counts: dict[tuple[str, int], int] = {}  # interrupts and softirqs at the beginning of the window
        self._slept = False
        self._creeps = 0
        self._crept_to_ns = -1
        self._base = 0
        self._now_ns = -1
        self._watch = self._verdict = NEVER

    def rewind(self) -> None:
        """The counters begin at 0 again."""
        if self._limit is not None:
            self._begin(-1, 0, self._limit)

    # -- looking

    def look(self, now_ns: int) -> None:
        """Compare what was done with the clock. Raises Livelock, or has `lkl_run()` raise it; see `_tell()`."""
        kernel = self._kernel
        if self._limit is None or kernel.halting:
            return
        rounds = kernel.progress.rounds()
        if now_ns != self._now_ns or kernel.loop.was_idle or kernel.timers.next_ns == NEVER:
            self._begin(now_ns, rounds, self._limit)
        elif rounds >= self._watch:
            self._look_closely(rounds)
        elif rounds >= self._verdict:
            self._judge(rounds, self._limit)

    def crept(self, before_ns: int) -> None:
        """Idle moved the clock on by one reading, from `before_ns`, because a callback had armed its timer for now.

        Time passes then, but only by this. Raises Livelock if it happens too often; earlier if no other timer is armed.
        """
        if self._limit is None:
            return
        kernel = self._kernel
        self._creeps = self._creeps + 1 if before_ns == self._crept_to_ns else 1
        self._crept_to_ns = now_ns = kernel.clock.peek_ns()
        if self._creeps >= (self._limit // POINTS_PER_EVENT if len(kernel.timers) == 1 else self._limit):
            error = Livelock(self._describe(f"{self._creeps} times, a clock reading apart"))
            self._creeps = 0
            self._begin(now_ns, kernel.progress.rounds(), self._limit)
            raise error

    def _begin(self, now_ns: int, rounds: int, limit: int) -> None:
        """Time has passed, or nothing waits for it: count from here on."""
        self._kernel.loop.was_idle = False
        self._now_ns = now_ns
        self._base = rounds
        self._look_no_closer(rounds + limit)

    def _look_closely(self, rounds: int) -> None:
        """The window begins: each scheduling point is a checkpoint now."""
        sched = self._kernel.sched
        self._watch = NEVER
        self._verdict = max(self._verdict, rounds + WINDOW)
        self._counts = self._count_interrupts()
        sched.at_checkpoint = self._at_each_point
        sched.checkpoint = 0

    def _look_no_closer(self, verdict: int) -> None:
        self._verdict = verdict
        self._watch = verdict - WINDOW
        self._seen.clear()
        self._slept = False
        self._kernel.sched.at_checkpoint = self._kernel.loop.at_checkpoint

    def _at_each_point(self) -> bool:
        """`RunLoop.at_checkpoint()` in the window."""
        kernel = self._kernel
        sched = kernel.sched
        task = sched.current
        self._seen[f"{task.comm}-{task.pid} at {told_line(sys._getframe())}"] += 1
        self._slept = self._slept or bool(task.state)
        looked = kernel.loop.at_checkpoint()
        sched.checkpoint = 0
        self.look(kernel.clock.peek_ns())
        return looked

    # -- the verdict

    def _judge(self, rounds: int, limit: int) -> None:
        patience = limit * _PATIENCE_WITH_HANDOVERS
        if self._slept and rounds - self._base < patience:
            self._look_no_closer(self._base + patience)
            return
        error = Livelock(self._describe(""))
        self._begin(self._now_ns, rounds, limit)
        self._tell(error)

    def _tell(self, error: Livelock) -> None:
        """Have `lkl_run()` raise it; a task that must not be switched away from gets it itself, which is an oops."""
        sched = self._kernel.sched
        task = sched.current
        if task is sched.swapper or task.preempt_count or task.irqs_disabled:
            raise error
        self._kernel.loop.interrupted(error)

    def _describe(self, rearmed: str) -> str:
        """The message. `rearmed` says how often, if it is about a timer that its callback arms for now."""
        kernel = self._kernel
        counts = self._count_interrupts()
        busy = Counter({what: count - self._counts.get(what, 0) for what, count in counts.items()})
        who = [f"  {line}, {count} times" for line, count in self._seen.most_common(_SHOWN)]
        who += [f"  {self._told(*what)}, {count} times" for what, count in busy.most_common(_SHOWN) if count]
        who += [f"  a work that is queued: {told_function(work)}" for work in kernel.workqueues.pool.functions[:_SHOWN]]
        head = f"livelock: virtual time stands still at {kernel.clock.peek_ns() / 1e9:.6f} s"
        timer = kernel.timers.first
        if timer is not None and rearmed:
            lines = [f"{head}: the callback of {_told_timer(timer)} arms it for now, {rearmed}"]
        elif timer is not None:
            lines = [f"{head}, while {_told_timer(timer)} waits for it to pass. What goes round instead:", *who]
        return "\n".join([*lines, _ADVICE_ON_TIMERS if rearmed else _ADVICE])

    def _count_interrupts(self) -> dict[tuple[str, int], int]:
        """How often each interrupt was handled and each softirq has run."""
        kernel = self._kernel
        counts = {("irq", irq): count for irq, (_, count) in kernel.irq.statistics().items()}
        return counts | {("softirq", vec): count for vec, count in kernel.softirq.counts.items()}

    def _told(self, kind: str, number: int) -> str:
        """An interrupt with its handlers, a softirq with its name."""
        kernel = self._kernel
        if kind == "irq":
            handlers = ", ".join(map(told_function, kernel.irq.handlers_of(number)))
            return f"irq {number}, handled by {handlers}"
        tasklets = ", ".join(map(told_function, kernel.tasklets.functions))
        what = f", tasklet {tasklets}" if number == TASKLET_SOFTIRQ and tasklets else ""
        return f"softirq {SOFTIRQ_NAMES[number]}{what}"


def _told_timer(timer: Timer) -> str:
    """A timer, and whom it is for: the task that sleeps, or the callback's function."""
    if isinstance(timer, SleepTimer):
        return f"the time-out of {timer.task.comm}-{timer.task.pid} ({timer.expires_ns / 1e9:.6f} s)"
    return f"{timer!r} ({told_function(timer.function)})"
