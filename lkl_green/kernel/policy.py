"""Which runnable task runs next: the interface, and the default policy.

A policy is a small class that keeps the runnable tasks other than the current one. It decides from what it was told
and nothing else, no clock and no chance that is not its own, so that a run can be repeated and compared. Policies that
explore schedules plug in here, too.

The default is a total order: real-time tasks by priority, within one priority in the order in which they became
runnable, and below them every SCHED_NORMAL task in one round-robin queue. Niceness is not looked at: a fair share of
a CPU means little where the clock may be virtual. Linux keeps the 100 real-time queues and a bitmap of those that are
not empty; so does this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING

from lkl_green.kernel.task import MAX_RT_PRIO, SCHED_FIFO, Task

if TYPE_CHECKING:
    from lkl_green.kernel.sched import Scheduler


class SchedulingPolicy(ABC):
    """A scheduling policy."""

    __slots__ = ()

    def attach(self, sched: Scheduler) -> None:  # noqa: B027 - optional
        """A kernel starts with this policy. Set `sched.fifo` here and later whenever one deque holds all tasks."""

    @property
    @abstractmethod
    def nr_running(self) -> int:
        """How many tasks are queued, the current one not counted."""

    @abstractmethod
    def enqueue_task(self, task: Task, preempted: bool = False) -> None:
        """A task became runnable, or stays runnable while it gives up the CPU, of itself or `preempted`."""

    @abstractmethod
    def dequeue_task(self, task: Task) -> bool:
        """Remove a queued task; whether it was queued."""

    @abstractmethod
    def pick_next_task(self) -> Task | None:
        """Remove and return the task to run next; None if none is queued."""

    def task_tick(self, task: Task) -> None:  # noqa: B027 - optional
        """A time slice of scheduling points has passed in `task`; set `need_resched` if another one should run."""


class FixedPriority(SchedulingPolicy):
    """SCHED_FIFO and SCHED_RR by priority, above round-robin SCHED_NORMAL."""

    __slots__ = ("_bitmap", "_expired", "_normal", "_real_time", "_sched")

    def __init__(self) -> None:
        self._normal: deque[Task] = deque()
        self._real_time: dict[int, deque[Task]] = {}
        self._bitmap = 0
        self._expired: Task | None = None  # whose time slice has ended
        self._sched: Scheduler | None = None

    def attach(self, sched: Scheduler) -> None:
        """Show the queue of normal tasks for as long as no real-time task is runnable, the current one included.

        It is hidden when a real-time task is queued, and shown again when a normal one, or nobody, is picked.
        """
        if self._sched is not None:
            raise ValueError("a policy object serves one kernel; give each kernel its own")
        self._sched = sched
        sched.fifo = self._normal

    @property
    def nr_running(self) -> int:
        """How many tasks are queued."""
        return len(self._normal) + sum(map(len, self._real_time.values()))

    def enqueue_task(self, task: Task, preempted: bool = False) -> None:
        """Append to the queue of the task's priority.

        A task that was preempted by a more important one keeps its place at the head, unless its time slice has ended.
        """
        prio = task.prio
        if prio >= MAX_RT_PRIO:
            queue = self._normal
        else:
            queue = self._real_time.setdefault(prio, deque())
            self._bitmap |= 1 << prio
            if self._sched is not None:
                self._sched.fifo = None
        if preempted and task is not self._expired:
            queue.appendleft(task)
        else:
            queue.append(task)
        self._expired = None

    def dequeue_task(self, task: Task) -> bool:
        """Remove from the queue of the task's priority."""
        queue = self._normal if task.prio >= MAX_RT_PRIO else self._real_time.get(task.prio, deque())
        try:
            queue.remove(task)
        except ValueError:
            return False
        if not queue and task.prio < MAX_RT_PRIO:
            self._bitmap &= ~(1 << task.prio)
        return True

    def pick_next_task(self) -> Task | None:
        """The first of the highest non-empty priority."""
        bitmap = self._bitmap
        if not bitmap:
            if self._sched is not None:
                self._sched.fifo = self._normal
            return self._normal.popleft() if self._normal else None
        prio = (bitmap & -bitmap).bit_length() - 1
        queue = self._real_time[prio]
        task = queue.popleft()
        if not queue:
            self._bitmap = bitmap & ~(1 << prio)
        return task

    def task_tick(self, task: Task) -> None:
        """End the slice of a round-robin task if another one of its priority waits."""
        self._expired = None
        if task.policy == SCHED_FIFO:
            return
        queue = self._normal if task.prio >= MAX_RT_PRIO else self._real_time.get(task.prio)
        if queue:
            task.need_resched = True
            self._expired = task


# The former name, also exported as `lkl_green.Policy`. In `lkl_green.testing` a policy is what explores schedules.
Policy = SchedulingPolicy
