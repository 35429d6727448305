"""`threading.Lock` and `threading.RLock` for kernel threads.

*A scheduling point stands before each operation.* It is announced to `sched.listener`; after that nothing comes
between looking at the lock and taking it, because only one kernel thread runs and none is switched to in between.

*Who comes next.* Python promises no order. With nobody listening, a released lock goes to the longest waiter: in a
cooperative kernel a thread that releases and takes again in a loop would otherwise starve the others. A schedule
explorer wants to see every order, so for a listener a released lock is free and all waiters compete: whom the scheduler
picks first has it.

*Outside the kernel* (a fixture, a module that is imported, another OS thread of the test runner) the same object works
as the native lock does. The interpreter switches OS threads at calls and backward jumps only, so a look and a store
without a call between them are one step there, too; whoever has to wait queues a native lock first and looks again.

*After a kill.* When a kernel halts it raises TaskKilled in each thread, and `finally` blocks run. There nobody must
wait for a lock again: a killed thread takes what it wants, and a lock whose holder died of it is free.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from lkl_green.errors import Escape
from lkl_green.green.waiter import NS_PER_S, Waiter, look, rest
from lkl_green.host.native import allocate_lock, get_ident, monotonic
from lkl_green.kernel.current import running_here
from lkl_green.kernel.task import TASK_DEAD, Task

if TYPE_CHECKING:
    from types import TracebackType

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.sched import Scheduler

TIMEOUT_MAX_S = 9223372036.0  # _thread.TIMEOUT_MAX


class Outsider:
    """An OS thread outside the kernel that holds a lock."""

    __slots__ = ("comm", "pid")

    def __init__(self) -> None:
        self.comm = "outside"
        self.pid = get_ident()


class Lock:
    """A lock; whoever likes may release it.

    Attributes:
        owner: the task that took it, an Outsider, or None while it is free.
    """

    __slots__ = ("__weakref__", "_waiters", "owner")

    def __init__(self) -> None:
        self.owner: Any = None
        self._waiters: deque[Any] | None = None  # Waiters of kernel threads, native locks of others

    # -- taking

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, waiting for at most `timeout` s, or for ever; whether it was taken (threading.Lock.acquire)."""
        kernel = running_here.kernel
        if kernel is None:
            return self._acquire_outside(_checked_limit_ns(blocking, timeout))
        sched = kernel.sched
        if sched.listener is not None:
            if blocking and timeout != -1:
                sched.listener("timed_lock", self)
            else:
                sched.listener("lock" if blocking else "trylock", self)
        if self.owner is None and timeout == -1:
            self.owner = sched.current
            return True
        return self._acquire_slow(kernel, _checked_limit_ns(blocking, timeout))

    __enter__ = acquire

    def _acquire_slow(self, kernel: Kernel, timeout_ns: int | None) -> bool:
        task = kernel.sched.current
        expires_ns = None
        while self.owner is not None:
            if task.killed or _died_of_kill(self.owner):
                break
            if timeout_ns is not None:
                if timeout_ns <= 0:
                    rest(kernel)  # or a loop that tries again and again never lets the holder run
                    return False
                if expires_ns is None:
                    expires_ns = kernel.timers.now_ns() + timeout_ns
            if self._wait(kernel, timeout_ns) and self.owner is task:
                return True
            if expires_ns is not None:
                timeout_ns = expires_ns - kernel.timers.now_ns()
        self.owner = task
        return True

    def _wait(self, kernel: Kernel, timeout_ns: int | None) -> bool:
        """Sleep until a release lets this thread go on; whether one did."""
        if type(self.owner) is Outsider and timeout_ns is None:
            raise Escape(
                f"{self!r} is held outside the kernel, where nobody can release it while a kernel thread waits for "
                "it: release it before the kernel runs, or take it inside"
            )
        waiter = Waiter(kernel, self)
        if self._waiters is None:
            self._waiters = deque()
        self._waiters.append(waiter)
        try:
            return waiter.wait(timeout_ns)
        except BaseException:
            if waiter.released and self.owner is waiter.task:
                self._free(kernel.sched)
            raise
        finally:
            if not waiter.released:
                self._waiters.remove(waiter)

    # -- giving back

    def release(self) -> None:
        """Give it back. Raises RuntimeError if it is free."""
        kernel = running_here.kernel
        if kernel is None:
            self._release_outside()
            return
        sched = kernel.sched
        if sched.listener is not None:
            sched.listener("unlock", self)
            if self.owner is not None:
                self._free(sched)
                if sched.after is not None:
                    sched.after()
                return
        elif self.owner is not None:
            if self._waiters:
                self._free(sched)
            else:
                self.owner = None
            rest(kernel)
            return
        if not sched.current.killed and not kernel.stopping:  # what ended the schedule may have left it free
            raise RuntimeError("release unlocked lock")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _free(self, sched: Scheduler) -> None:
        """Hand over to the longest waiter; with a listener, let all of them compete."""
        waiters = self._waiters
        if not waiters:
            self.owner = None
        elif sched.listener is None and type(waiters[0]) is Waiter:
            waiter = waiters.popleft()
            self.owner = waiter.task
            waiter.release()
        else:
            self.owner = None
            self._wake_all()

    def _wake_all(self) -> None:
        waiters = self._waiters
        while waiters:
            waiters.popleft().release()

    # -- outside the kernel

    def _acquire_outside(self, timeout_ns: int | None) -> bool:
        expires_s = None if timeout_ns is None else monotonic() + timeout_ns / NS_PER_S
        while True:
            owner = self.owner
            if owner is None or _died_of_kill(owner):
                me = Outsider()
                if self.owner is owner:
                    self.owner = me
                    return True
            left_s = -1.0 if expires_s is None else expires_s - monotonic()
            if expires_s is not None and left_s <= 0:
                return False
            if type(owner) is Task and expires_s is None:
                raise Escape(
                    f"{self!r} is held by a kernel thread, which cannot release it while the application waits for it: "
                    "run the kernel until it has"
                )
            self._wait_outside(left_s)

    def _wait_outside(self, timeout_s: float) -> None:
        waiter = allocate_lock()
        waiter.acquire()
        if self._waiters is None:
            self._waiters = deque()
        self._waiters.append(waiter)
        if self.owner is None or not waiter.acquire(timeout=timeout_s):
            try:
                self._waiters.remove(waiter)
            except ValueError:  # it was woken for a release that somebody else may want now
                self._wake_all()

    def _release_outside(self) -> None:
        if self.owner is None:
            raise RuntimeError("release unlocked lock")
        self.owner = None
        self._wake_all()

    # -- what threading.Condition uses, and curious people

    def locked(self) -> bool:
        """Whether somebody holds it."""
        kernel = running_here.kernel
        if kernel is not None:
            look(kernel, self)
        return self.owner is not None

    def _release_save(self) -> object:
        """Give it back as part of another operation, whose scheduling point has been announced."""
        kernel = running_here.kernel
        if kernel is None:
            self._release_outside()
        else:
            self._free(kernel.sched)
        return None

    def _acquire_restore(self, _state: object) -> None:
        self.acquire()

    def _is_owned(self) -> bool:
        return self.owner is not None

    def _at_fork_reinit(self) -> None:
        self.owner = None
        self._waiters = None

    acquire_lock = acquire
    release_lock = release
    locked_lock = locked

    def __repr__(self) -> str:
        return f"<{self._describe()} at {id(self):#x}>"

    def _describe(self) -> str:
        owner = self.owner
        if owner is None:
            return f"unlocked {type(self).__name__} object"
        waiting = [waiter.task for waiter in self._waiters or () if type(waiter) is Waiter]
        text = f"locked {type(self).__name__} object held by {owner.comm}-{owner.pid}"
        if waiting:
            text += ", waited for by " + ", ".join(f"{task.comm}-{task.pid}" for task in waiting)
        return text


class RLock(Lock):
    """A lock that its owner may take again.

    Attributes:
        count: how often the owner has taken it.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, or take it again; see `Lock.acquire`."""
        kernel = running_here.kernel
        if kernel is not None:
            owner = self.owner
            if owner is not None and owner is kernel.sched.current:
                self.count += 1
                return True
        elif self._is_owned():
            self.count += 1
            return True
        if Lock.acquire(self, blocking, timeout):
            self.count = 1
            return True
        return False

    __enter__ = acquire

    def release(self) -> None:
        """Undo one `acquire()`. Raises RuntimeError for anyone but the owner."""
        if not self._is_owned():
            kernel = running_here.kernel
            if kernel is not None and (kernel.sched.current.killed or kernel.stopping):
                return
            raise RuntimeError("cannot release un-acquired lock")
        if self.count > 1:
            self.count -= 1
            return
        Lock.release(self)

    def _is_owned(self) -> bool:
        owner = self.owner
        if owner is None:
            return False
        kernel = running_here.kernel
        if kernel is not None:
            return owner is kernel.sched.current
        return type(owner) is Outsider and owner.pid == get_ident()

    def _recursion_count(self) -> int:
        return self.count if self._is_owned() else 0

    def _release_save(self) -> object:
        if not self._is_owned():
            raise RuntimeError("cannot release un-acquired lock")
        count, self.count = self.count, 0
        super()._release_save()
        return count

    def _acquire_restore(self, state: Any) -> None:
        Lock.acquire(self)
        self.count = state

    def _at_fork_reinit(self) -> None:
        super()._at_fork_reinit()
        self.count = 0

    def _describe(self) -> str:
        return f"{super()._describe()} count={self.count if self.owner is not None else 0}"


def _died_of_kill(owner: Any) -> bool:
    """Whether a halting kernel ended the holder before it could give the lock back."""
    return type(owner) is Task and bool(owner.killed) and owner.state == TASK_DEAD


def _checked_limit_ns(blocking: Any, timeout: Any) -> int | None:
    """The arguments of acquire() as a limit in ns; 0 does not wait, None waits for ever."""
    if timeout == -1:
        return None if blocking else 0
    if not blocking:
        raise ValueError("can't specify a timeout for a non-blocking call")
    if not isinstance(timeout, int | float):
        raise TypeError(f"'{type(timeout).__name__}' object cannot be interpreted as an integer")
    if timeout < 0:
        raise ValueError("timeout value must be a non-negative number")
    if timeout > TIMEOUT_MAX_S:
        raise OverflowError("timeout value is too large")
    return int(timeout * NS_PER_S)
