"""How a kernel gets on: one measure, made of numbers that only grow.

Three questions are answered from it:

    activity()       does the kernel do anything but run one piece of code?   the watchdogs, from another OS thread
    rounds()         how much has been done while the clock stood still?      kernel/livelock.py
    off_cpu_since()  since when has a task not run?                           reports, and kernel/hung_task.py

None of it costs anything where tasks switch. The counters exist for other reasons. A task that is switched out says
itself at which scheduling point it gave up the CPU: the number is a local variable of its `schedule()`. Only "when was
that point?" has to be written down, now and then: `notes` holds pairs (points passed, time). One is made before time
jumps or the host sleeps, because no point passes meanwhile, and every POLL_POINTS points while tasks run.
Dropped: a time stamp in each task, which would be two attributes more to store on each switch.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from lkl_green.kernel.sched import Scheduler

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task

# How far apart notes are at first. When there are too many, every other one is dropped and the interval doubled.
_FIRST_INTERVAL_NS = 10_000_000
_MAX_NOTES = 512

# A switch between OS threads, an interrupt or a softirq takes as long as ten scheduling points without a switch.
POINTS_PER_EVENT = 10

_SCHEDULE = Scheduler.schedule.__code__


class ProgressMeasure:
    """What one kernel has done so far.

    Attributes:
        rewinds: how often the other counters were taken back.
        due_ns: when `time_passed()` is to be called next, on the kernel's clock.
        idle_since_ns: since when the host sleeps; None while it does not.
    """

    __slots__ = (
        "_clock",
        "_interval_ns",
        "_kernel",
        "_note_points",
        "_note_times",
        "_sched",
        "due_ns",
        "idle_since_ns",
        "rewinds",
    )

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sched = kernel.sched
        self._clock = kernel.clock
        self.rewinds = 0
        self.idle_since_ns: int | None = None
        self._begin()

    def _begin(self) -> None:
        self.due_ns = 0
        self._interval_ns = _FIRST_INTERVAL_NS
        self._note_points: list[int] = []
        self._note_times: list[int] = []

    def rewind(self) -> None:
        """The counters begin at 0 again; this does not count as a standstill."""
        self.rewinds += 1
        self._begin()

    # -- the counters

    def activity(self) -> tuple[int, ...]:
        """What changes as long as the kernel does anything but run one piece of code. From any OS thread."""
        return self.rewinds, self.rounds()

    def rounds(self) -> int:
        """How much has been done: scheduling points, and what costs about as much as ten of them."""
        kernel, sched = self._kernel, self._sched
        events = sched.nr_switches + kernel.irq.nr_irqs + sum(kernel.softirq.counts.values())
        return sched.points + POINTS_PER_EVENT * events

    # -- who looks

    def tick(self) -> None:
        """Every POLL_POINTS scheduling points, and when interrupts keep idle from being reached.

        Raises Livelock in the idle task; a task's is raised out of `lkl_run()`.
        """
        now_ns = self._clock.peek_ns()
        if now_ns >= self.due_ns:
            self.time_passed(now_ns)
        if self._clock.is_virtual:
            self._kernel.livelock.look(now_ns)

    def time_passed(self, before_ns: int) -> None:
        """Time has passed, perhaps a lot, and no scheduling point since `before_ns`."""
        self._note(before_ns)
        now_ns = self._clock.peek_ns()
        hung_tasks = self._kernel.hung_tasks
        if now_ns >= hung_tasks.due_ns:
            hung_tasks.look(now_ns)
        self.due_ns = min(now_ns + self._interval_ns, hung_tasks.due_ns)

    def _note(self, ns: int) -> None:
        points, times = self._note_points, self._note_times
        points.append(self._sched.points)
        times.append(ns)
        if len(points) >= _MAX_NOTES:
            del points[1::2], times[1::2]
            self._interval_ns *= 2

    # -- tasks

    def switched_out_at(self, task: Task) -> int | None:
        """The scheduling point at which a task gave up the CPU; None if it runs, or never ran, or was preempted."""
        frame = self._kernel.arch.stack_of(task)
        while frame is not None:
            if frame.f_code is _SCHEDULE:
                return frame.f_locals.get("points")
            frame = frame.f_back
        return None

    def off_cpu_since(self, task: Task) -> int | None:
        """A time since when a task has not run: at most as long ago as it really was. None if that is not known."""
        point = self.switched_out_at(task)
        if point is None:
            return None
        noted = bisect_left(self._note_points, point)
        if noted < len(self._note_times):
            return self._note_times[noted]
        return self._clock.peek_ns() if self.idle_since_ns is None else self.idle_since_ns
