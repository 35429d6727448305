"""Mutexes, semaphores and spin locks.

On one CPU with cooperative switching nothing can come between two statements that do not sleep, so none of these needs
an atomic operation. What they need is to sleep properly and to hand over fairly (see `lkl_green.kernel.swait`), and to
notice misuse.

*Interrupts.* `up()` may be called from anywhere. A mutex belongs to a task (rule 120); a spin lock on one CPU is
`preempt_disable()` with a memory of who holds it (rule 121).
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Self

from lkl_green.errors import LockMisuse
from lkl_green.kernel.binding import Bindable, kernel_for
from lkl_green.kernel.swait import SimpleWaitQueue
from lkl_green.kernel.task import (
    HARDIRQ_MASK,
    SOFTIRQ_MASK,
    TASK_INTERRUPTIBLE,
    TASK_KILLABLE,
    TASK_UNINTERRUPTIBLE,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task


class Semaphore(SimpleWaitQueue):
    """A counting semaphore (kernel/locking/semaphore.c).

    Args:
        count: how many may go down before somebody has to wait.
        kernel: the kernel it belongs to; the current one if left out. Bound at first use if no kernel runs.
        name: shown in `repr` and deadlock reports.
    """

    __slots__ = ("count",)

    VALUES = ("count",)

    def __init__(self, count: int = 1, kernel: Kernel | None = None, name: str = "") -> None:
        if count < 0:
            raise ValueError(f"a semaphore's count cannot be negative: {count}")
        super().__init__(kernel, name)
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
        if task.preempt_count:
            sched.might_sleep()
        waiters = self._waiters
        if waiters is None:
            waiters = self._waiters = deque()
        waiters.append(task)
        task.waiting_for = self
        try:
            while True:
                task.state = TASK_UNINTERRUPTIBLE
                sched.schedule()
                if task.waiting_for is not self:
                    return
        except BaseException:
            self._give_up(task)
            raise

    def down_interruptible(self) -> None:
        """The same; a signal ends the wait. Raises InterruptedError (EINTR)."""
        if not self._down_at_once():
            self._wait(TASK_INTERRUPTIBLE)

    def down_killable(self) -> None:
        """The same; only SIGKILL ends the wait. Raises InterruptedError (EINTR)."""
        if not self._down_at_once():
            self._wait(TASK_KILLABLE)

    def down_timeout(self, timeout_ns: int) -> None:
        """The same, for at most `timeout_ns`. Raises TimeoutError (ETIME)."""
        if not self._down_at_once() and not self._wait(TASK_UNINTERRUPTIBLE, timeout_ns):
            raise TimeoutError(errno.ETIME, f"timed out waiting for {self!r}")

    def _down_at_once(self) -> bool:
        """The part of a `down()` before it sleeps; whether there was one to take."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("down", self)
        if self.count <= 0:
            return False
        self.count -= 1
        return True

    def down_trylock(self) -> bool:
        """Take one without sleeping; whether there was one (Linux returns 0 for success, rule 120)."""
        # `_down_at_once()` again but for the kind: to pass that as an argument would be a call more.
        sched = self._sched
        if sched.listener is not None:
            sched.listener("down_trylock", self)
        if self.count <= 0:
            return False
        self.count -= 1
        return True

    def up(self) -> None:
        """Give one back, to the longest waiter if there is one. By anyone, from anywhere (rule 120)."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("up", self)
        waiters = self._waiters
        if waiters:
            task = waiters.popleft()
            task.waiting_for = None
            sched.try_to_wake_up(task)
        else:
            self.count += 1
        if sched.after is not None:
            sched.after()

    _pass_on = up

    def __enter__(self) -> Self:
        self.down()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.up()

    def __repr__(self) -> str:
        return self._describe(f"count={self.count}")


class Mutex(SimpleWaitQueue):
    """A sleeping lock with an owner (kernel/locking/mutex.c).

    Args:
        kernel: the kernel it belongs to; the current one if left out. Bound at first use if no kernel runs.
        name: shown in `repr` and deadlock reports.
    """

    __slots__ = ("owner",)

    def __init__(self, kernel: Kernel | None = None, name: str = "") -> None:
        super().__init__(kernel, name)
        self.owner: Task | None = None

    def untie(self) -> None:
        """Forget an owner that has gone with its kernel, too."""
        super().untie()
        self.owner = None

    def users(self) -> Iterable[Task]:
        """Who holds it, and who waits."""
        return super().users() if self.owner is None else [self.owner, *super().users()]

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
                f"BUG: {task.comm}-{task.pid} unlocks {self!r}, which it does not hold; "
                "only the owner may unlock a mutex"
            )
        task.locks_held -= 1
        if self._waiters:
            # The heir owns it before it runs; waking it may already switch to it.
            self._own(self._waiters[0])
            self._serve_first()
        else:
            self.owner = None
        if sched.after is not None:
            sched.after()

    _pass_on = unlock

    def is_locked(self) -> bool:
        """Whether a task holds it (Linux: mutex_is_locked())."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("read", self)
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
        if task.preempt_count:
            self._check_context(task)
            sched.might_sleep()
        if self.owner is None:
            self._own(task)
            return
        if self.owner is task:
            raise LockMisuse(f"BUG: {task.comm}-{task.pid} locks {self!r} twice; a mutex is not recursive")
        self._wait(state)

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unlock()

    def __repr__(self) -> str:
        owner = f"held by {self.owner.comm}-{self.owner.pid}" if self.owner is not None else "free"
        return self._describe(owner)


class SpinLock(Bindable):
    """A lock that is held for a few statements and forbids sleeping meanwhile (rule 121).

    Nobody can be running on another CPU, so finding it held means that the holder slept or that an interrupt handler
    came in between: a deadlock on any machine, and an error here.

    Args:
        kernel: the kernel it belongs to; the current one if left out. Bound at first use if no kernel runs.
        name: shown in `repr`.
    """

    __slots__ = ("_kernel", "_name", "_sched", "owner")

    def __init__(self, kernel: Kernel | None = None, name: str = "") -> None:
        self._kernel = kernel if kernel is not None else kernel_for(self)
        self._sched = self._kernel.sched
        self._name = name
        self.owner: Task | None = None

    def bind(self, kernel: Kernel) -> None:
        """Belong to a kernel from now on."""
        self._kernel = kernel
        self._sched = kernel.sched

    def untie(self) -> None:
        """Forget an owner that has gone with its kernel."""
        self.owner = None

    def users(self) -> Iterable[Task]:
        """Who holds it."""
        return () if self.owner is None else [self.owner]

    def lock(self) -> None:
        """Lock and disable preemption. Raises LockMisuse if it is held."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("spin_lock", self)
        if self.owner is not None:
            raise LockMisuse(
                f"BUG: spinlock deadlock: {sched.current.comm}-{sched.current.pid} finds {self!r}; "
                "an interrupt handler takes a lock that tasks take without lock_irqsave(), or a task takes it twice"
            )
        sched.current.preempt_count += 1
        self.owner = sched.current

    def trylock(self) -> bool:
        """Lock if it is free; whether it was."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("spin_trylock", self)
        if self.owner is not None:
            return False
        sched.current.preempt_count += 1
        self.owner = sched.current
        return True

    def unlock(self) -> None:
        """Unlock and enable preemption again. Raises LockMisuse if it is not held by the caller."""
        self._release()
        sched = self._sched
        sched.preempt_enable()
        if sched.after is not None:
            sched.after()

    def _release(self) -> None:
        sched = self._sched
        if sched.listener is not None:
            sched.listener("spin_unlock", self)
        if self.owner is not sched.current:
            raise LockMisuse(f"BUG: {sched.current.comm}-{sched.current.pid} unlocks {self!r}, which it does not hold")
        self.owner = None

    def lock_irqsave(self) -> bool:
        """Disable interrupts, then lock; what `unlock_irqrestore` wants back."""
        flags = self._kernel.irq.local_irq_save()
        try:
            self.lock()
        except LockMisuse:
            self._kernel.irq.local_irq_restore(flags)
            raise
        return flags

    def unlock_irqrestore(self, flags: bool) -> None:
        """Unlock, restore interrupts, then enable preemption: what interrupted comes before who preempts."""
        self._release()
        self._kernel.irq.local_irq_restore(flags)
        sched = self._sched
        sched.preempt_enable()
        if sched.after is not None:
            sched.after()

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unlock()

    def __repr__(self) -> str:
        owner = f"held by {self.owner.comm}-{self.owner.pid}" if self.owner is not None else "free"
        return f"<SpinLock {self._name or hex(id(self))} {owner}>"
