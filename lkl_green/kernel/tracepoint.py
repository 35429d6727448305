"""Tracepoints: what happened, in Linux's trace events with Linux's field names.

The scheduler and the other parts call a method here for each event while tracing is on, and test one attribute while
it is off. A record keeps what the event's text needs and the context that ftrace prints before it; making text is the
writers' work (`lkl_green.trace`). Reading the clock for a record does not advance a virtual clock: what is traced
must not depend on whether it is.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from lkl_green.kernel.task import state_letter

if TYPE_CHECKING:
    from lkl_green.host.clock import Clock
    from lkl_green.kernel.sched import Scheduler
    from lkl_green.kernel.task import Task


class TraceRecord(NamedTuple):
    """One event.

    Attributes:
        time_ns: on the kernel's clock.
        comm, pid: the current task.
        irqs_disabled, need_resched, preempt_count: its context, as ftrace's latency format shows it.
        event: the event's name, as in /sys/kernel/tracing/events.
        fields: the event's fields, in the order of its format file.
    """

    time_ns: int
    comm: str
    pid: int
    irqs_disabled: bool
    need_resched: bool
    preempt_count: int
    event: str
    fields: tuple[Any, ...]


class Tracepoints:
    """The ring buffer of one kernel, and the events that go into it.

    Args:
        sched: whose current task the records name.
        clock: the time stamps.
        capacity: how many records are kept; the oldest go first.
    """

    def __init__(self, sched: Scheduler, clock: Clock, capacity: int | None = None) -> None:
        self._sched = sched
        self._clock = clock
        self.records: deque[TraceRecord] = deque(maxlen=capacity)
        self.written = 0

    def emit(self, event: str, *fields: Any) -> None:
        """Append a record in the current context."""
        task = self._sched.current
        self.written += 1
        self.records.append(
            TraceRecord(
                self._clock.peek_ns(),
                task.comm,
                task.pid,
                task.irqs_disabled,
                task.need_resched,
                task.preempt_count,
                event,
                fields,
            )
        )

    # -- scheduler

    def sched_switch(self, prev: Task, next: Task) -> None:
        """The CPU goes from `prev` to `next`."""
        state = "R+" if prev.saved_state else state_letter(prev)
        self.emit("sched_switch", prev.comm, prev.pid, prev.prio, state, next.comm, next.pid, next.prio)

    def sched_waking(self, task: Task) -> None:
        """A wake-up, in the waker's context; on one CPU waking and being awake are one moment, so both are written."""
        self.emit("sched_waking", task.comm, task.pid, task.prio)
        self.emit("sched_wakeup", task.comm, task.pid, task.prio)

    def sched_wakeup_new(self, task: Task) -> None:
        """A newborn becomes runnable."""
        self.emit("sched_wakeup_new", task.comm, task.pid, task.prio)

    def sched_process_fork(self, parent: Task, child: Task) -> None:
        """A task is born."""
        self.emit("sched_process_fork", parent.comm, parent.pid, child.comm, child.pid)

    def sched_process_exec(self, task: Task, path: str, old_pid: int) -> None:
        """A task became a user program."""
        self.emit("sched_process_exec", path, task.pid, old_pid)

    def sched_process_exit(self, task: Task) -> None:
        """A task ends."""
        self.emit("sched_process_exit", task.comm, task.pid, task.prio)


class Accounting(Tracepoints):
    """Counts switches and time per task instead of, or besides, keeping records.

    Attributes:
        switches: context switches away from each pid.
        runtime_ns: time on the CPU of each pid.
        comms: the last comm of each pid.
        wakeups: sleeping tasks made runnable.
    """

    def __init__(self, sched: Scheduler, clock: Clock, capacity: int | None = None) -> None:
        super().__init__(sched, clock, capacity)
        self.switches: dict[int, int] = {}
        self.runtime_ns: dict[int, int] = {}
        self.comms: dict[int, str] = {}
        self.wakeups = 0
        self._since = clock.peek_ns()

    def sched_switch(self, prev: Task, next: Task) -> None:
        """Charge `prev`."""
        now = self._clock.peek_ns()
        pid = prev.pid
        self.switches[pid] = self.switches.get(pid, 0) + 1
        self.runtime_ns[pid] = self.runtime_ns.get(pid, 0) + now - self._since
        self.comms[pid] = prev.comm
        self._since = now
        if self.records.maxlen != 0:
            super().sched_switch(prev, next)

    def sched_waking(self, task: Task) -> None:
        """Count."""
        self.wakeups += 1
        super().sched_waking(task)

    def emit(self, event: str, *fields: Any) -> None:
        """Keep a record unless only the counts are wanted."""
        if self.records.maxlen != 0:
            super().emit(event, *fields)
