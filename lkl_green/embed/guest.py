"""A kernel as a guest in a loop of another kind: Tk, Qt, a game, anything that can call a function.

Such a loop may give the kernel what it needs in one of three ways:

    every frame                    guest.step()
    after a time                   after(guest.delay_ms, step)
    when a descriptor is readable  watch(guest.fileno(), step)       or schedule_wakeup(), from another OS thread

A guest never sleeps and never runs for longer than its budget.
"""

from __future__ import annotations

from contextlib import nullcontext
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Self

from lkl_green.embed.doorbell import Doorbell
from lkl_green.embed.slice_budget import SliceBudget
from lkl_green.embed.thread_pool import start_thread
from lkl_green.errors import AlreadyEmbedded, KernelHalted
from lkl_green.kernel.loop import RunReason, RunStatus, RunUntil
from lkl_green.kernel.taskend import TaskEnd

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.kernel import Kernel


class Guest:
    """Runs a kernel step by step.

    Args:
        kernel: started in this OS thread.
        schedule_wakeup: called, from any OS thread and from signal handlers, when something comes for an idle kernel;
            it makes the loop call `step()` soon. Without it, use `fileno()`.
        budget_ns: how long a step may take; a few frames of a game fit a millisecond, the default.
        max_switches: how many scheduling points a step may have; adapted to the time budget if left out.

    Attributes:
        kernel: as given.
        can_await: whether kernel threads may use `await_()`: there is no event loop that awaits.

    Raises:
        AlreadyEmbedded, KernelHalted, WrongThread: it cannot be run here.
    """

    can_await = False

    def __init__(
        self,
        kernel: Kernel,
        schedule_wakeup: Callable[[], object] | None = None,
        budget_ns: int = 1_000_000,
        max_switches: int | None = None,
    ) -> None:
        if kernel.embedding is not None:
            raise AlreadyEmbedded(f"Guest of kernel {kernel.name}, which another loop runs already")
        if not kernel.lkl_is_running():
            raise KernelHalted(f"Guest of kernel {kernel.name}, which has halted: start another one")
        kernel.loop.check_caller("Guest()")
        self.kernel = kernel
        self._budget = SliceBudget(budget_ns, max_switches)
        self._status = RunStatus(RunReason.BUDGET, None)
        self._ended: list[tuple[Callable[..., object], Any, Exception | None]] = []
        self._open_ended, kernel.open_ended = kernel.open_ended, True
        kernel.embedding = self
        self._doorbell: Doorbell | None = None
        if schedule_wakeup is not None:
            self._doorbell = Doorbell(kernel.host, schedule_wakeup, lambda: None)
            self._doorbell.hang_up()

    def step(self) -> RunStatus:
        """Run the kernel for a while; see `Kernel.lkl_run`. Virtual time jumps if the kernel is idle.

        Raises:
            KernelPanic: the kernel died; `__cause__` is the exception of the oops.
        """
        kernel = self.kernel
        budget = self._budget
        if self._doorbell is not None:
            self._doorbell.rung = False
        sched, time = kernel.sched, kernel.host.time
        points, begin = sched.points, time()
        if kernel.clock.is_virtual and self._may_jump():
            kernel.loop.pause(self._status)
        try:
            self._status = kernel.lkl_run(RunUntil.IDLE, budget.max_switches, budget.budget_ns)
        finally:
            self._tell()
        budget.learn(time() - begin, sched.points - points, 0)
        return self._status

    def _may_jump(self) -> bool:
        kernel = self.kernel
        idle = self._status.reason is RunReason.IDLE and self._status.next_event_ns is not None
        return idle and not kernel.irq.expected and not kernel.readiness.expected and not kernel.halted

    def _tell(self) -> None:
        ended, self._ended = self._ended, []
        for done, result, error in ended:
            done(result, error)

    # -- when to call step() again

    @property
    def delay_ns(self) -> int | None:
        """How long the kernel needs no step: 0 if it is busy, None if only something from outside can wake it."""
        kernel = self.kernel
        if kernel.halted:
            return None
        if self._status.reason is not RunReason.IDLE or kernel.loop.has_events or not kernel.sched.is_idle():
            return 0
        next_ns = self.next_event_ns
        if next_ns is None:
            return None
        return 0 if kernel.clock.is_virtual else max(next_ns - kernel.clock.peek_ns(), 0)

    def delay_ms(self, longest: int = 1000) -> int:
        """The same for loops that count in milliseconds, rounded up, and with a limit."""
        delay = self.delay_ns
        return longest if delay is None else min(-(-delay // 1_000_000), longest)

    @property
    def next_event_ns(self) -> int | None:
        """When the first timer is due, on `kernel.clock`."""
        return None if self.kernel.halted else self.kernel.loop.next_event_ns

    def fileno(self) -> int:
        """A descriptor that becomes readable when something comes for an idle kernel; gone once it has halted."""
        return self.kernel.host.poller().fileno()

    # -- the kernel's methods, called by the application

    def syscall_of_owner(self, nr: int, params: tuple[Any, ...]) -> int:
        """A system call, which stops the loop until it is done."""
        bell = self._doorbell
        with nullcontext() if bell is None else bell.silent():
            return self.kernel.host_tasks.syscall_of_owner(nr, params)

    def touched(self) -> None:
        """The kernel was told to stop, or was stopped: the next step says so."""
        if self._doorbell is not None:
            self._doorbell.ring()

    # -- work

    def spawn(self, fn: Callable[..., Any], *args: Any, done: Callable[[Any, Exception | None], object]) -> None:
        """Start a kernel thread; the step in which it ends calls `done(result, error)`.

        Raises:
            KernelHalted: it has.
            OSError: there is no room for another thread.
        """
        kernel = self.kernel
        kernel.check_running("spawn()")

        def run(_arg: object) -> None:
            result, failure = None, None
            try:
                result = fn(*args)
            except Exception as error:
                failure = error
            self._ended.append((done, result, failure))

        start_thread(kernel, TaskEnd(), run, None, getattr(fn, "__name__", "thread"), copy_context())
        kernel.host.doorbell()

    # -- the end

    def close(self) -> None:
        """Halt the kernel, if it has not, and leave it. Raises HaltTimeout."""
        if self.kernel.embedding is not self:
            return
        try:
            self.kernel.lkl_sys_halt()
        finally:
            if self._doorbell is not None:
                self._doorbell.take_down()
            self.kernel.open_ended = self._open_ended
            self.kernel.embedding = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()
