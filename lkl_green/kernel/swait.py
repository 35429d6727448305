"""Sleeping until one is served: what semaphores, mutexes and completions have in common.

*Hand-over.* Whoever has something to give gives it to the longest waiter before that one runs. Nobody can take it in
between, so a waiter never wakes up to find it gone, and the order of arrival is the order of service. Dropped: counting
up and letting the woken one compete, as Linux does to keep CPUs busy that spin. With one CPU that buys nothing, and it
lets a task that releases and takes again starve everybody.

*Being served* is `task.waiting_for` being cleared by the giver. A wake-up for another reason finds it still set, and
the task sleeps on. Waiters stand in a deque: leaving early, which only a time-out, a signal or a kill does, searches
it, and the hand-off, which everybody does, is two operations that cannot be made cheaper. A dict is the other way
round.

*Leaving early.* A task whose wait ends with an exception may have been served already. Then it passes on what it got
and does not want, or that would be lost.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from lkl_green.kernel.binding import Bindable, kernel_for
from lkl_green.kernel.task import TASK_RUNNING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.sched import Scheduler
    from lkl_green.kernel.task import Task


class SimpleWaitQueue(Bindable):
    """Waiters that are served one by one, in order of arrival.

    Args:
        kernel: the kernel it belongs to; the current one if left out. Bound at first use if no kernel runs.
        name: shown in `repr` and deadlock reports.
    """

    __slots__ = ("_kernel", "_name", "_sched", "_waiters")

    def __init__(self, kernel: Kernel | None = None, name: str = "") -> None:
        self._kernel = kernel = kernel if kernel is not None else kernel_for(self)
        self._sched: Scheduler = kernel.sched
        self._name = name
        # Made when somebody waits: an empty deque takes 600 bytes, and most completions are never waited for.
        self._waiters: deque[Task] | None = None

    def bind(self, kernel: Kernel) -> None:
        """Belong to a kernel from now on."""
        self._kernel = kernel
        self._sched = kernel.sched

    def untie(self) -> None:
        """Forget waiters that have gone with their kernel."""
        self._waiters = None

    def users(self) -> Iterable[Task]:
        """Who waits."""
        return self._waiters or ()

    def _queue(self, task: Task) -> None:
        if task.preempt_count:
            self._sched.might_sleep()
        if self._waiters is None:
            self._waiters = deque()
        self._waiters.append(task)
        task.waiting_for = self

    def _serve_first(self) -> Task:
        """Take the longest waiter off the queue, served, and wake it."""
        assert self._waiters is not None
        task = self._waiters.popleft()
        task.waiting_for = None
        self._sched.try_to_wake_up(task)
        return task

    def _pass_on(self) -> None:
        """Give what the current task was served with, and does not want, to somebody else."""
        raise NotImplementedError

    def _wait(self, state: int, timeout_ns: int | None = None) -> int:
        """Sleep until served; what is left of the timeout, at least 1, or 0 if it passed first.

        Raises InterruptedError (EINTR) if a signal ends a sleep in `state`.
        """
        sched = self._sched
        task = sched.current
        self._queue(task)
        try:
            while task.waiting_for is self:
                task.state = state
                if task.signals and self._kernel.signals.pending_in(task, state):
                    raise InterruptedError(errno.EINTR, f"a signal ended the wait for {self!r}")
                if timeout_ns is None:
                    sched.schedule()
                elif timeout_ns == 0:
                    self._leave(task)
                    return 0
                else:
                    timeout_ns = self._kernel.timers.schedule_timeout(timeout_ns)
        except BaseException:
            self._give_up(task)
            raise
        return max(timeout_ns or 1, 1)

    def _leave(self, task: Task) -> None:
        task.state = TASK_RUNNING
        task.waiting_for = None
        assert self._waiters is not None
        self._waiters.remove(task)

    def _give_up(self, task: Task) -> None:
        """The current task's wait ended with an exception."""
        if task.waiting_for is self:
            self._leave(task)
        else:
            task.state = TASK_RUNNING
            self._pass_on()

    def _describe(self, state: str) -> str:
        who = ", ".join(f"{task.comm}-{task.pid}" for task in self._waiters or ()) or "nobody"
        return f"<{type(self).__name__} {self._name or hex(id(self))} {state} waiters: {who}>"
