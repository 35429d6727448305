"""Completions: "this has happened" (kernel/sched/completion.c, rule 119).

A completion counts: each `complete()` lets one waiter through, whether it waits already or comes later, in order of
arrival. `complete_all()` lets everybody through for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.host.native import get_ident
from lkl_green.kernel.swait import SimpleWaitQueue
from lkl_green.kernel.task import TASK_INTERRUPTIBLE, TASK_KILLABLE, TASK_UNINTERRUPTIBLE

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel

_ALL = 1 << 31


class Completion(SimpleWaitQueue):
    """Something that one task waits for and another one announces.

    Args:
        kernel: the kernel it belongs to; the current one if left out. Bound at first use if no kernel runs.
        name: shown in `repr` and deadlock reports.

    Attributes:
        done: how many may still go through without waiting.
    """

    __slots__ = ("done",)

    VALUES = ("done",)

    def __init__(self, kernel: Kernel | None = None, name: str = "") -> None:
        super().__init__(kernel, name)
        self.done = 0

    def complete(self) -> None:
        """Let one waiter through. From any kernel context, interrupt handlers included.

        Raises WrongThread on an OS thread that does not run the kernel, if a task waits and none runs: the kernel may
        be asleep, and would not notice. While a task runs, such a call is not recognised.
        """
        sched = self._sched
        if sched.listener is not None:
            sched.listener("complete", self)
        if self._waiters:
            if sched.current is sched.swapper and get_ident() != sched.owner:
                sched.check_thread("complete()")
            self._serve_first()
        elif self.done != _ALL:
            self.done += 1
        if sched.after is not None:
            sched.after()

    _pass_on = complete

    def complete_all(self) -> None:
        """Let every waiter through, now and later. Raises WrongThread as `complete()` does."""
        sched = self._sched
        if self._waiters and sched.current is sched.swapper and get_ident() != sched.owner:
            sched.check_thread("complete_all()")
        if sched.listener is not None:
            sched.listener("complete_all", self)
        self.done = _ALL
        if self._waiters:
            sched.preempt_disable()  # a waiter that preempted us could reinitialise it, wait again and be served again
            try:
                while self._waiters:
                    self._serve_first()
            finally:
                sched.preempt_enable()
        if sched.after is not None:
            sched.after()

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
        sched = self._sched
        if sched.listener is not None:
            sched.listener("wait_for_completion", self)
        if self.done:
            self.try_wait_for_completion()
            return
        # The common sleep, written out: a call less for each wait.
        task = sched.current
        self._queue(task)
        try:
            while task.waiting_for is self:
                task.state = TASK_UNINTERRUPTIBLE
                sched.schedule()
        except BaseException:
            self._give_up(task)
            raise

    def wait_for_completion_interruptible(self) -> None:
        """The same; a signal ends it. Raises InterruptedError (EINTR)."""
        self._wait_unless_done(TASK_INTERRUPTIBLE, None)

    def wait_for_completion_killable(self) -> None:
        """The same; only SIGKILL ends it. Raises InterruptedError (EINTR)."""
        self._wait_unless_done(TASK_KILLABLE, None)

    def wait_for_completion_timeout(self, timeout_ns: int) -> int:
        """Sleep for at most `timeout_ns`; 0 if it passed, else what is left of it, at least 1."""
        return self._wait_unless_done(TASK_UNINTERRUPTIBLE, timeout_ns)

    def _wait_unless_done(self, state: int, timeout_ns: int | None) -> int:
        sched = self._sched
        if sched.listener is not None:
            sched.listener("wait_for_completion", self)
        if self.done:
            self.try_wait_for_completion()
            return max(timeout_ns or 1, 1)
        return self._wait(state, timeout_ns)

    def __repr__(self) -> str:
        return self._describe(f"done={'all' if self.done == _ALL else self.done}")
