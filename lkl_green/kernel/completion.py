"""Completions: "this has happened" (kernel/sched/completion.c, rule 119).

A completion counts: each `complete()` lets one waiter through, whether it waits already or comes later, in order of
arrival. `complete_all()` lets everybody through for good.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.task import TASK_INTERRUPTIBLE, TASK_KILLABLE, TASK_RUNNING, TASK_UNINTERRUPTIBLE

if TYPE_CHECKING:
    from lkl_green.kernel.boot import Kernel
    from lkl_green.kernel.task import Task

_ALL = 1 << 31


class Completion:
    """Something that one task waits for and another one announces.

    Args:
        kernel: the kernel it belongs to; the current one if left out.
        name: shown in `repr` and deadlock reports.
    """

    __slots__ = ("_kernel", "_name", "_sched", "_waiters", "done")

    def __init__(self, kernel: Kernel | None = None, name: str = "") -> None:
        self._kernel = kernel = kernel if kernel is not None else current_kernel()
        self._sched = kernel.sched
        self._name = name
        self._waiters: deque[Task] | None = None
        self.done = 0

    def complete(self) -> None:
        """Let one waiter through. From any kernel context, interrupt handlers included."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("complete", self)
        if self.done != _ALL:
            self.done += 1
        if self._waiters:
            self._wake_first()

    def complete_all(self) -> None:
        """Let every waiter through, now and later."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("complete_all", self)
        self.done = _ALL
        waiters, self._waiters = self._waiters, None
        for task in waiters or ():
            task.waiting_for = None
            sched.wake_up_process(task)

    def _wake_first(self) -> None:
        assert self._waiters is not None
        task = self._waiters.popleft()
        task.waiting_for = None
        self._sched.wake_up_process(task)

    def reinit_completion(self) -> None:
        """Make it wait again after `complete_all()`."""
        self.done = 0

    def completion_done(self) -> bool:
        """Whether a waiter would be let through at once."""
        return self.done > 0

    def try_wait_for_completion(self) -> bool:
        """Go through without sleeping, if that is possible."""
        if not self.done:
            return False
        if self.done != _ALL:
            self.done -= 1
        return True

    def wait_for_completion(self) -> None:
        """Sleep until let through."""
        if not self.done or self._sched.listener is not None:
            self._wait(TASK_UNINTERRUPTIBLE, None)
        elif self.done != _ALL:
            self.done -= 1

    def wait_for_completion_interruptible(self) -> None:
        """The same; a signal ends it. Raises InterruptedError (EINTR)."""
        self._wait(TASK_INTERRUPTIBLE, None)

    def wait_for_completion_killable(self) -> None:
        """The same; only SIGKILL ends it. Raises InterruptedError (EINTR)."""
        self._wait(TASK_KILLABLE, None)

    def wait_for_completion_timeout(self, timeout_ns: int) -> int:
        """Sleep for at most `timeout_ns`; 0 if it passed, else what is left of it, at least 1."""
        return self._wait(TASK_UNINTERRUPTIBLE, timeout_ns)

    def _wait(self, state: int, timeout_ns: int | None) -> int:
        sched = self._sched
        if sched.listener is not None:
            sched.listener("wait_for_completion", self)
        task = sched.current
        while not self.done:
            if timeout_ns == 0:
                return 0
            if self._waiters is None:
                self._waiters = deque()
            self._waiters.append(task)
            task.waiting_for = self
            task.state = state
            try:
                if task.sigpending and self._kernel.signals.pending_in(task, state):
                    raise InterruptedError(errno.EINTR, "a signal ended the wait for a completion")
                if timeout_ns is None:
                    sched.schedule()
                else:
                    timeout_ns = self._kernel.timers.schedule_timeout(timeout_ns)
            except BaseException:
                self._give_up(task)
                raise
            if task.waiting_for is self:
                self._leave(task)
        if self.done != _ALL:
            self.done -= 1
        return max(timeout_ns or 1, 1)

    def _leave(self, task: Task) -> None:
        """Woken by something else than `complete()`: out of the queue."""
        task.state = TASK_RUNNING
        task.waiting_for = None
        if self._waiters:
            self._waiters.remove(task)

    def _give_up(self, task: Task) -> None:
        """The wait ends with an exception; if it was this task's turn, the next one takes it."""
        if task.waiting_for is self:
            self._leave(task)
            return
        task.state = TASK_RUNNING
        if self.done and self._waiters:
            self._wake_first()

    def __repr__(self) -> str:
        done = "all" if self.done == _ALL else self.done
        who = ", ".join(f"{task.comm}-{task.pid}" for task in self._waiters or ()) or "nobody"
        return f"<Completion {self._name or hex(id(self))} done={done} waiters: {who}>"
