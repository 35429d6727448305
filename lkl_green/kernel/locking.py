"""Mutexes, semaphores and spin locks.

On one CPU with cooperative switching nothing can come between two statements that do not sleep, so none of these needs
an atomic operation. What they need is to sleep properly, to hand over fairly, and to notice misuse.

*Hand-over.* `up()` and `unlock()` give the semaphore or the mutex to the longest waiter before that one runs. Nobody
can take it in between, so a waiter never finds it taken again, and the order of arrival is the order of service.
Dropped: releasing and letting the woken one compete, as Linux's mutex does to keep a CPU busy that spins. With one CPU
that buys nothing, and it lets a task that unlocks and locks again starve everybody.

*Waiting.* The waiters of a lock stand in a deque, and a waiter knows that it has been served by `waiting_for`, which
whoever serves it clears. A dict would make leaving the queue early cheaper, which only a time-out or a signal does, and
the hand-off dearer, which everybody does.

*Interrupts.* `up()` may be called from anywhere. A mutex belongs to a task (rule 120); a spin lock on one CPU is
`preempt_disable()` with a memory of who holds it (rule 121).
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from lkl_green.errors import LockMisuse
from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.task import (
    HARDIRQ_MASK,
    SOFTIRQ_MASK,
    TASK_INTERRUPTIBLE,
    TASK_KILLABLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
)

if TYPE_CHECKING:
    from types import TracebackType

    from lkl_green.kernel.boot import Kernel
    from lkl_green.kernel.task import Task


class Semaphore:
    """A counting semaphore (kernel/locking/semaphore.c).

    Args:
        count: how many may go down before somebody has to wait.
        kernel: the kernel it belongs to; the current one if left out.
        name: shown in `repr` and deadlock reports.
    """

    __slots__ = ("_kernel", "_name", "_sched", "_waiters", "count")

    def __init__(self, count: int = 1, kernel: Kernel | None = None, name: str = "") -> None:
        if count < 0:
            raise ValueError(f"a semaphore's count cannot be negative: {count}")
        self._kernel = kernel if kernel is not None else current_kernel()
        self._sched = self._kernel.sched
        self._name = name
        self._waiters: deque[Task] = deque()
        self.count = count

    def down(self) -> None:
        """Take one, sleeping until there is one."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("down", self)
        if self.count > 0:
            self.count -= 1
            return
        # The common sleep stands here in full: it is the hand-off that every producer and consumer pays for.
        task = sched.current
        self._waiters.append(task)
        task.waiting_for = self
        try:
            while task.waiting_for is self:
                task.state = TASK_UNINTERRUPTIBLE
                sched.schedule()
        except BaseException:
            self._give_up(task)
            raise

    def down_interruptible(self) -> None:
        """The same; a signal ends the wait. Raises InterruptedError (EINTR)."""
        self._down(TASK_INTERRUPTIBLE, None)

    def down_killable(self) -> None:
        """The same; only SIGKILL ends the wait. Raises InterruptedError (EINTR)."""
        self._down(TASK_KILLABLE, None)

    def down_timeout(self, timeout_ns: int) -> None:
        """The same, for at most `timeout_ns`. Raises TimeoutError (ETIME)."""
        self._down(TASK_UNINTERRUPTIBLE, timeout_ns)

    def down_trylock(self) -> bool:
        """Take one without sleeping; whether there was one (Linux returns 0 for success, rule 120)."""
        if self.count <= 0:
            return False
        self.count -= 1
        return True

    def up(self) -> None:
        """Give one back, to the longest waiter if there is one. By anyone, from anywhere (rule 120)."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("up", self)
        if self._waiters:
            task = self._waiters.popleft()
            task.waiting_for = None
            sched.wake_up_process(task)
        else:
            self.count += 1

    def _down(self, state: int, timeout_ns: int | None) -> None:
        kernel = self._kernel
        sched = self._sched
        if sched.listener is not None:
            sched.listener("down", self)
        if self.count > 0:
            self.count -= 1
            return
        task = sched.current
        self._waiters.append(task)
        task.waiting_for = self
        try:
            while task.waiting_for is self:
                task.state = state
                if kernel.signals.pending_in(task, state):
                    raise InterruptedError(errno.EINTR, f"a signal ended the wait for {self!r}")
                if timeout_ns is None:
                    sched.schedule()
                elif timeout_ns == 0:
                    raise TimeoutError(errno.ETIME, f"timed out waiting for {self!r}")
                else:
                    timeout_ns = kernel.timers.schedule_timeout(timeout_ns)
        except BaseException:
            self._give_up(task)
            raise

    def _give_up(self, task: Task) -> None:
        """The wait ended without the semaphore; one handed over meanwhile goes to the next."""
        task.state = TASK_RUNNING
        if task.waiting_for is self:
            task.waiting_for = None
            self._waiters.remove(task)
        else:
            self.up()

    def __enter__(self) -> Semaphore:
        self.down()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.up()

    def __repr__(self) -> str:
        who = ", ".join(f"{task.comm}-{task.pid}" for task in self._waiters) or "nobody"
        return f"<Semaphore {self._name or hex(id(self))} count={self.count} waiters: {who}>"


class Mutex:
    """A sleeping lock with an owner (kernel/locking/mutex.c).

    Args:
        kernel: the kernel it belongs to; the current one if left out.
        name: shown in `repr` and deadlock reports.
    """

    __slots__ = ("_kernel", "_name", "_sched", "_waiters", "owner")

    def __init__(self, kernel: Kernel | None = None, name: str = "") -> None:
        self._kernel = kernel if kernel is not None else current_kernel()
        self._sched = self._kernel.sched
        self._name = name
        self._waiters: deque[Task] = deque()
        self.owner: Task | None = None

    def lock(self) -> None:
        """Lock, sleeping until it is free. Raises LockMisuse if the caller holds it, or in an interrupt."""
        self._lock(TASK_UNINTERRUPTIBLE)

    def lock_interruptible(self) -> None:
        """The same; a signal ends the wait. Raises InterruptedError (EINTR)."""
        self._lock(TASK_INTERRUPTIBLE)

    def lock_killable(self) -> None:
        """The same; only SIGKILL ends the wait. Raises InterruptedError (EINTR)."""
        self._lock(TASK_KILLABLE)

    def trylock(self) -> bool:
        """Lock without sleeping; whether it was free."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("trylock", self)
        if self.owner is not None:
            return False
        self._check_context(sched.current)
        self._own(sched.current)
        return True

    def unlock(self) -> None:
        """Unlock; the longest waiter holds it from now on. Raises LockMisuse for anyone but the owner."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("unlock", self)
        task = sched.current
        if self.owner is not task:
            raise LockMisuse(
                f"BUG: {task.comm}-{task.pid} unlocks {self!r}, which it does not hold; only the owner may unlock a mutex"
            )
        task.locks_held -= 1
        if self._waiters:
            heir = self._waiters.popleft()
            self._own(heir)
            heir.waiting_for = None
            sched.wake_up_process(heir)
        else:
            self.owner = None

    def is_locked(self) -> bool:
        """Whether somebody holds it."""
        return self.owner is not None

    def _own(self, task: Task) -> None:
        self.owner = task
        task.locks_held += 1

    def _check_context(self, task: Task) -> None:
        if task.preempt_count & (HARDIRQ_MASK | SOFTIRQ_MASK):
            raise LockMisuse(f"BUG: {self!r} taken in an interrupt; use a SpinLock, or a Semaphore's down_trylock()")

    def _lock(self, state: int) -> None:
        sched = self._sched
        if sched.listener is not None:
            sched.listener("lock", self)
        task = sched.current
        if self.owner is None:
            self._check_context(task)
            self._own(task)
            return
        if self.owner is task:
            raise LockMisuse(f"BUG: {task.comm}-{task.pid} locks {self!r} twice; a mutex is not recursive")
        self._waiters.append(task)
        task.waiting_for = self
        try:
            while task.waiting_for is self:
                task.state = state
                if task.sigpending and self._kernel.signals.pending_in(task, state):
                    raise InterruptedError(errno.EINTR, f"a signal ended the wait for {self!r}")
                sched.schedule()
        except BaseException:
            self._give_up(task)
            raise

    def _give_up(self, task: Task) -> None:
        """The wait ended without the caller wanting the mutex any more, though it may have been handed over."""
        task.state = TASK_RUNNING
        if task.waiting_for is self:
            task.waiting_for = None
            self._waiters.remove(task)
        else:
            self.unlock()

    def __enter__(self) -> Mutex:
        self.lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unlock()

    def __repr__(self) -> str:
        owner = f"held by {self.owner.comm}-{self.owner.pid}" if self.owner is not None else "free"
        who = ", ".join(f"{task.comm}-{task.pid}" for task in self._waiters) or "nobody"
        return f"<Mutex {self._name or hex(id(self))} {owner} waiters: {who}>"


class SpinLock:
    """A lock that is held for a few statements and forbids sleeping meanwhile (rule 121).

    Nobody can be running on another CPU, so finding it held means that the holder slept or that an interrupt handler
    came in between: a deadlock on any machine, and an error here.

    Args:
        kernel: the kernel it belongs to; the current one if left out.
        name: shown in `repr`.
    """

    __slots__ = ("_kernel", "_name", "_sched", "owner")

    def __init__(self, kernel: Kernel | None = None, name: str = "") -> None:
        self._kernel = kernel if kernel is not None else current_kernel()
        self._sched = self._kernel.sched
        self._name = name
        self.owner: Task | None = None

    def lock(self) -> None:
        """Lock and disable preemption. Raises LockMisuse if it is held."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("spin_lock", self)
        if self.owner is not None:
            raise LockMisuse(
                f"BUG: spinlock deadlock: {sched.current.comm}-{sched.current.pid} finds {self!r}; an interrupt handler "
                "takes a lock that tasks take without lock_irqsave(), or a task takes it twice"
            )
        sched.current.preempt_count += 1
        self.owner = sched.current

    def trylock(self) -> bool:
        """Lock if it is free; whether it was."""
        if self.owner is not None:
            return False
        self.lock()
        return True

    def unlock(self) -> None:
        """Unlock and enable preemption again. Raises LockMisuse if it is not held by the caller."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("spin_unlock", self)
        if self.owner is not sched.current:
            raise LockMisuse(f"BUG: {sched.current.comm}-{sched.current.pid} unlocks {self!r}, which it does not hold")
        self.owner = None
        sched.preempt_enable()

    def lock_irqsave(self) -> bool:
        """Disable interrupts, then lock; what `unlock_irqrestore` wants back."""
        flags = self._kernel.irq.local_irq_save()
        self.lock()
        return flags

    def unlock_irqrestore(self, flags: bool) -> None:
        """Unlock, then restore interrupts."""
        self.unlock()
        self._kernel.irq.local_irq_restore(flags)

    def __enter__(self) -> SpinLock:
        self.lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unlock()

    def __repr__(self) -> str:
        owner = f"held by {self.owner.comm}-{self.owner.pid}" if self.owner is not None else "free"
        return f"<SpinLock {self._name or hex(id(self))} {owner}>"
