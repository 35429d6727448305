"""How a task gets, keeps and gives up an execution context.

The kernel calls down through `Arch`; the architecture calls up through `KernelEntry`, which the kernel passes in at
boot, as rump kernels pass their upcalls to the hypervisor. Neither layer imports the other.

The switch itself is not a method of `Arch`. Each task carries `switch_to`, a callable that suspends the caller and
resumes that task, because `arch.switch_to(prev, next)` would cost a Python call more than the `greenlet.switch` behind
it, a fifth of the whole context switch. Its contract is that of Linux's switch_to(prev, next, last):

- before `next.switch_to()` is called, `entry.current` is set to `next` and `entry.last` to the task that is left;
- it returns, in the task that called it, when somebody resumes that task; `entry.last` is then the task that really ran
  before (rule 29), which is not the local `prev` as soon as three tasks take part;
- for a task that never ran, it starts `entry.ret_from_fork()` on a context of its own;
- it may raise an asynchronous exception (KeyboardInterrupt, RecursionError, MemoryError): either before anything was
  done, so that `next` did not run, or after the caller was resumed. Never in between.

`last` is LKL's abs_prev: written by the one who leaves, read by the one who is resumed, and exactly one of them runs
(rule 30). LKL's is static and would be shared by two kernels. Dropped: passing it as the value of the switch, which is
how Linux has it and `greenlet.switch(prev)` would do it, at a sixth of a bare switch for each.

A task may run in greenlets of its own, as SQLAlchemy's `greenlet_spawn()` makes them. So a greenlet is what Linux calls
the stack of a task, and `task.stack` is the one in which the task was when it last gave up the CPU. The scheduler
compares it each time. See `lkl_green.arch.stacks`.

A task ends when `ret_from_fork` returns. It returns the task to run next, and the architecture goes there without
coming back: what is left of the dead task's stack belongs to nobody.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from types import FrameType

    from greenlet import greenlet

    from lkl_green.host.ops import HostSemaphore, JmpBuf

# Thread flags, numbered as in LKL (v7).
TIF_SCHED_JB = 1 << 10  # the next switch away from this task ends in a long jump instead of a sleep
TIF_HOST_THREAD = 1 << 11  # the task runs on a thread of the application, which it does not own


class ContextInfo:
    """What the architecture alone uses of a task (Linux: `task->thread`).

    Attributes:
        base: the greenlet in which the task's function was called; all its other greenlets have it among their parents.
        context: the context variables the task starts with; None once it has started.
        thread_flags: TIF_* bits.
        tid: the host thread that runs the task; 0 where the architecture needs none.
        sched_sem: the host semaphore on which the task sleeps while it is switched out.
        sched_jb: where the host thread of a host task goes back to when the task sleeps for good.
        dead: set by `release_thread`; the host thread ends as soon as it sees it.

    Fork sets `thread_flags` and `context`, the architecture's `new_thread` whatever else it uses: storing what only
    another architecture reads would be a good part of the price of a task.
    """

    __slots__ = ("base", "context", "dead", "sched_jb", "sched_sem", "thread_flags", "tid")

    base: greenlet | None
    context: Context | None
    thread_flags: int
    tid: int
    sched_sem: HostSemaphore | None
    sched_jb: JmpBuf | None
    dead: bool


class ThreadInfo(ContextInfo):
    """The architecture's part of a task (Linux: `struct thread_info`).

    A class of its own keeps what each switch touches together in memory, next to what the scheduler touches.

    Attributes:
        switch_to: suspends the caller and resumes this task; see the module's essay.
        stack: the greenlet in which the task was when it last gave up the CPU; at first `base`.
    """

    __slots__ = ("stack", "switch_to")

    switch_to: Callable[[], Any]
    stack: greenlet | None


class KernelEntry(Protocol):
    """What the architecture calls in the kernel."""

    current: Any
    last: Any

    def ret_from_fork(self) -> Any:
        """Run the current task from its first instruction to its death; the task to run next."""

    def schedule_tail(self) -> None:
        """Finish a switch in a task that did not come out of `schedule()`."""

    def schedule(self) -> None:
        """Give up the CPU."""

    def interrupted(self, error: BaseException, /) -> None:
        """A signal handler raised `error` while a host thread slept: leave `lkl_run()` with it soon."""


class Arch(ABC):
    """One way of giving tasks their execution contexts.

    Attributes:
        name: "direct" or "semaphore".
        releases_threads: whether a dead task's context has to be taken away by its successor (`release_thread`).
    """

    name: str
    releases_threads: bool

    @abstractmethod
    def threads_init(self, swapper: ThreadInfo, entry: KernelEntry) -> None:
        """Boot: the calling context becomes that of `swapper`. Raises OSError(ENOMEM), leaving nothing allocated."""

    @abstractmethod
    def threads_cleanup(self) -> None:
        """Every task but swapper is gone: give back what `threads_init` and the pools hold."""

    @abstractmethod
    def new_thread(self, task: ThreadInfo) -> None:
        """Arrange for the newborn to be resumed in `ret_from_fork`, in `task.context`.

        Raises OSError(ENOMEM), with nothing left allocated.
        """

    @abstractmethod
    def release_thread(self, task: ThreadInfo) -> None:
        """Take the context of a dead task, or of one that never ran, away. Never called on its own stack (rule 44)."""

    def abandon(self, task: ThreadInfo, next: ThreadInfo) -> None:
        """Go to `next` and keep the current `task`, which did not let itself be unwound, where it is, for good."""
        next.switch_to()

    @abstractmethod
    def enter(self) -> None:
        """`lkl_run()` begins: the caller becomes the context of `swapper`."""

    @abstractmethod
    def leave(self) -> None:
        """`lkl_run()` ends: no kernel code runs until the next `enter`."""

    def leave_after_exception(self) -> None:
        """`lkl_run()` ends with an exception, which may have come in the middle of `enter`, `leave` or a switch."""
        self.leave()

    @abstractmethod
    def switch_from_idle(self, next: ThreadInfo) -> None:
        """Resume `next` from the context of `swapper`; returns when `swapper` is resumed."""

    @abstractmethod
    def stack_changed(self, task: ThreadInfo) -> None:
        """The current task gives up the CPU in `task.stack`, another greenlet than last time: resume it there."""

    @abstractmethod
    def runs_current(self) -> bool:
        """Whether the caller's context is that of the current task, swapper's not counted."""

    @abstractmethod
    def os_thread_of(self, task: ThreadInfo) -> int:
        """The `threading.get_ident()` of the OS thread that runs the current task `task`."""

    @abstractmethod
    def stack_of(self, task: ThreadInfo) -> FrameType | None:
        """The innermost frame of a task that is switched out; None if it never ran."""

    # -- host tasks: the tasks of OS threads that call lkl_syscall()

    def can_borrow(self) -> bool:
        """Whether a foreign OS thread may run kernel code itself, as its host task (LKL's way)."""
        return False

    def borrow(self, task: ThreadInfo, call: Callable[[], Any]) -> None:
        """Be host task `task` on the calling OS thread, from its being scheduled to its going to sleep.

        `call()` runs as the current task; it returns None, or the task to run next if the host task has died. Called
        again, it only prepares the task for going to sleep.

        An asynchronous exception that comes meanwhile is raised when the thread has left the kernel.
        """
        raise NotImplementedError

    def orphan_thread(self, task: ThreadInfo) -> None:
        """The OS thread that a host task borrowed has ended: give the task a context on which it can exit."""
        raise NotImplementedError
