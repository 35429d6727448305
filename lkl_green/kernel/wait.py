"""Wait queues: sleeping until a condition holds.

The protocol is the whole point (rule 116). The waiter queues itself and sets its state *before* it tests the condition:

        waker                         waiter
                                      state = TASK_UNINTERRUPTIBLE, queued
        condition = True              condition? no
        wake_up(): state = RUNNING    schedule(): state is RUNNING, so do not sleep

With the test before the state, a wake-up that comes between the two finds nobody asleep, and the waiter sleeps for
ever: the lost wake-up. `wait_event()` gets it right; use it rather than the pieces. A wake-up without cause is legal,
so every sleep is in a loop.

A queue is a dict keyed by the waiting task, in order of arrival: constant-time removal from the middle, which a
time-out or a signal needs, at a fifth of the price of a linked list in Python. Exclusive waiters stand in a dict of
their own: `wake_up()` wakes every other waiter and one of them, longest waiting first (rule 122). Linux keeps one list,
puts non-exclusive waiters at its head and so wakes those last come first; here they, too, wake in order of arrival.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from lkl_green.errors import TaskUnwind
from lkl_green.kernel.binding import Bindable, kernel_for
from lkl_green.kernel.task import (
    SOFTIRQ_OFFSET,
    TASK_INTERRUPTIBLE,
    TASK_KILLABLE,
    TASK_NORMAL,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task


class WaitQueueHead(Bindable):
    """A queue of sleeping tasks.

    Args:
        kernel: the kernel it belongs to; the current one if left out. Bound at first use if no kernel runs.
        name: shown in `repr` and deadlock reports.
    """

    __slots__ = ("_exclusive", "_kernel", "_name", "_waiters")

    def __init__(self, kernel: Kernel | None = None, name: str = "") -> None:
        self._kernel = kernel if kernel is not None else kernel_for(self)
        self._name = name
        self._waiters: dict[Task, None] = {}
        self._exclusive: dict[Task, None] = {}

    def bind(self, kernel: Kernel) -> None:
        """Belong to a kernel from now on."""
        self._kernel = kernel

    def untie(self) -> None:
        """Forget waiters that have gone with their kernel."""
        self._waiters, self._exclusive = {}, {}

    def users(self) -> Iterable[Task]:
        """Who waits."""
        return [*self._waiters, *self._exclusive]

    # -- the pieces

    def prepare_to_wait(self, state: int = TASK_UNINTERRUPTIBLE, exclusive: bool = False) -> None:
        """Queue the current task, if it is not, and set its state; test the condition after this."""
        task = self._kernel.sched.current
        if task.preempt_count >= SOFTIRQ_OFFSET:
            self._kernel.sched.might_sleep()
        (self._exclusive if exclusive else self._waiters)[task] = None
        task.waiting_for = self
        task.state = state

    def finish_wait(self) -> None:
        """Leave the queue and run on."""
        task = self._kernel.sched.current
        task.state = TASK_RUNNING
        task.waiting_for = None
        self._waiters.pop(task, None)
        self._exclusive.pop(task, None)

    def waitqueue_active(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiters or self._exclusive)

    # -- waking

    def wake_up(self, nr_exclusive: int = 1, states: int = TASK_NORMAL) -> int:
        """Wake every non-exclusive waiter and up to `nr_exclusive` exclusive ones; how many were asleep.

        A task that was woken is off the queue at once, so that the next call finds the next exclusive waiter.
        """
        sched = self._kernel.sched
        if sched.listener is not None:
            sched.listener("wake_up", self)
        woken = self.do_wake_up(nr_exclusive, states) if self._waiters or self._exclusive else 0
        if sched.after is not None:
            sched.after()
        return woken

    def do_wake_up(self, nr_exclusive: int = 1, states: int = TASK_NORMAL) -> int:
        """`wake_up` as part of a primitive, whose own scheduling point has been announced."""
        sched = self._kernel.sched
        # Linux holds the queue's lock here. A waiter that preempted us could queue itself anew, and be taken off again.
        sched.preempt_disable()
        try:
            woken = self._wake(self._waiters, len(self._waiters), states) if self._waiters else 0
            if self._exclusive:
                woken += self._wake(self._exclusive, nr_exclusive, states)
            return woken
        finally:
            sched.preempt_enable()

    def _wake(self, queue: dict[Task, None], limit: int, states: int) -> int:
        wake_up_state = self._kernel.sched.wake_up_state
        woken = 0
        for task in list(queue):
            if woken >= limit:
                break
            if wake_up_state(task, states):
                queue.pop(task, None)
                woken += 1
        return woken

    def wake_up_all(self) -> int:
        """Wake everybody."""
        return self.wake_up(nr_exclusive=len(self._exclusive))

    def wake_up_interruptible(self) -> int:
        """Like `wake_up`, but leave uninterruptible sleepers alone."""
        return self.wake_up(states=TASK_INTERRUPTIBLE)

    # -- waiting

    def wait_event(self, condition: Callable[[], object], exclusive: bool = False) -> None:
        """Sleep until `condition()` is true; it is tested before sleeping and after each wake-up."""
        self.do_wait(condition, TASK_UNINTERRUPTIBLE, None, exclusive, False)

    def wait_event_interruptible(self, condition: Callable[[], object], exclusive: bool = False) -> None:
        """Like `wait_event`; a signal ends it. Raises InterruptedError (EINTR)."""
        self.do_wait(condition, TASK_INTERRUPTIBLE, None, exclusive, False)

    def wait_event_killable(self, condition: Callable[[], object]) -> None:
        """Like `wait_event`; only SIGKILL ends it. Raises InterruptedError (EINTR)."""
        self.do_wait(condition, TASK_KILLABLE, None, False, False)

    def wait_event_timeout(self, condition: Callable[[], object], timeout_ns: int) -> int:
        """Like `wait_event`, for at most `timeout_ns`; 0 if it passed, else what is left of it, at least 1."""
        return self.do_wait(condition, TASK_UNINTERRUPTIBLE, timeout_ns, False, False)

    def wait_event_interruptible_timeout(self, condition: Callable[[], object], timeout_ns: int) -> int:
        """Both. Raises InterruptedError (EINTR)."""
        return self.do_wait(condition, TASK_INTERRUPTIBLE, timeout_ns, False, False)

    def do_wait(
        self,
        condition: Callable[[], object],
        state: int,
        timeout_ns: int | None,
        exclusive: bool,
        announced: bool = True,
    ) -> int:
        """All of the above in one; `announced` as part of a primitive, whose own scheduling point was announced."""
        kernel = self._kernel
        sched = kernel.sched
        if not announced and sched.listener is not None:
            sched.listener("wait" if exclusive else "wait_event", self)
        if condition():
            return max(timeout_ns or 1, 1)
        task = sched.current
        if task.preempt_count:
            sched.might_sleep()
        try:
            while True:
                self.prepare_to_wait(state, exclusive)
                if condition():
                    return max(timeout_ns or 1, 1)
                if timeout_ns == 0:
                    return 0
                if task.signals and kernel.signals.pending_in(task, state):
                    raise InterruptedError(errno.EINTR, "a signal ended the wait")
                if timeout_ns is None:
                    sched.schedule()
                else:
                    timeout_ns = kernel.timers.schedule_timeout(timeout_ns)
        except TaskUnwind:
            if exclusive and task not in self._exclusive:
                self.do_wake_up()  # what it was woken for, and is taken down before it sees, is somebody else's
            raise
        finally:
            self.finish_wait()

    def __repr__(self) -> str:
        waiters = [*self._waiters, *self._exclusive]
        who = ", ".join(f"{task.comm}-{task.pid}" for task in waiters) or "nobody"
        return f"<WaitQueueHead {self._name or hex(id(self))} waiters: {who}>"
