"""The driver: who calls `lkl_run()` inside an event loop, and when.

    driver's task            slice | checkpoint | slice | checkpoint | ... sleep until a timer or an interrupt
    a task that calls in     ... await k.call(fn): slice, here and now, if the kernel has nothing else to do

*Slices.* The kernel runs in slices between which the loop's other tasks run. A task of the driver's own does it while
the kernel is busy. When the kernel is idle, whoever gives it something to do, a call or an answer that a kernel thread
waits for, runs the slice on the spot, inside its own task: waking another task for that would cost as much as the whole
call. A slice is never run inside a slice, and only ever on the OS thread that owns the kernel.

*The outbox.* Kernel threads never touch the loop: they leave a message, and sleep. After each slice the messages are
dealt with, outside the kernel and on the loop's OS thread, whatever OS thread or greenlet the kernel thread runs on.
So all three configurations work, and the order of what happens is the order in which the kernel did it.
"""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from lkl_green.embed import scopes
from lkl_green.embed.doorbell import Doorbell
from lkl_green.embed.turns import Turns
from lkl_green.embed.workers import Workers
from lkl_green.errors import Deadlock, KernelHalted, LoopGone, WrongLoop
from lkl_green.kernel.loop import RunReason, RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.embed.backend import Backend
    from lkl_green.embed.companion import Companion
    from lkl_green.embed.pace import Pace
    from lkl_green.embed.trampoline import Trampoline
    from lkl_green.host.poller import Poller
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task

_IDLE = RunReason.IDLE


class Message(Protocol):
    """What a kernel thread leaves for the loop."""

    def in_loop(self) -> None:
        """Deal with it, between two slices."""


class Ending(Protocol):
    """Something a halted kernel must not leave waiting."""

    def kernel_has_gone(self) -> None:
        """The kernel will not do it any more."""


class Driver:
    """Runs one kernel in one event loop.

    Attributes:
        kernel, backend: which and where.
        outbox: what kernel threads have left for the loop.
        pending: calls and waits of the loop's tasks that the kernel works at.
        companions: tasks of the loop that await something for kernel threads.
        serving: the companion in whose task the slice runs that is under way.
        stepping: the coroutine of a kernel thread for which the slice runs that is under way.
        error: what ended the kernel.
        checkpoint, is_here: the backend's: lets the loop run its other tasks once; whether the caller runs in it.
        in_os_threads: kernel threads are OS threads, and not greenlets of this one.
        can_await: whether kernel threads may use `await_()`.
        closing: the block is over; what is left is waiting for init.
        slices: how many were run.
        status: what the last one has come to.
        pace: how long the next one may take.
    """

    can_await = True

    __slots__ = (
        "_doorbell",
        "_fail",
        "_is_virtual",
        "_open_ended",
        "_run",
        "_scopes",
        "_turns",
        "_unwatch",
        "backend",
        "checkpoint",
        "closing",
        "companions",
        "ended",
        "error",
        "in_os_threads",
        "is_here",
        "kernel",
        "outbox",
        "pace",
        "pending",
        "serving",
        "slices",
        "status",
        "stepping",
        "workers",
    )

    def __init__(self, kernel: Kernel, backend: Backend, pace: Pace, fail: Callable[[], object]) -> None:
        self.kernel = kernel
        self.backend = backend
        self.outbox: deque[Message] = deque()
        self.pending: dict[Ending, None] = {}
        self.companions: dict[Companion, None] = {}
        self.serving: Companion | None = None
        self.stepping: Trampoline | None = None
        self.workers = Workers(kernel)
        self.error: BaseException | None = None
        self.closing = False
        self.slices = 0
        self._scopes = backend.scope_probe()
        self.ended = anyio.Event()
        self.pace = pace
        self._fail = fail
        self._turns = Turns(self)
        self._doorbell = Doorbell(kernel.host, partial(backend.call_threadsafe, self._heard), self._loop_has_gone)
        self.status = RunStatus(RunReason.BUDGET, None)
        self.is_here = backend.is_here
        self.checkpoint = backend.checkpoint
        self._run = kernel.loop.run_slice
        self._is_virtual = kernel.clock.is_virtual
        self.in_os_threads = kernel.host.foreign_threads_run_kernel
        self._open_ended = kernel.open_ended
        self._unwatch: Callable[[], object] | None = None

    # -- life cycle

    def attach(self) -> None:
        """The kernel is ours: calls may come at any time, so that being idle is no deadlock."""
        self.kernel.embedding = self
        self.kernel.open_ended = True
        self._doorbell.hang_up()

    def detach(self) -> None:
        """The kernel is nobody's again."""
        self._doorbell.take_down()
        if self._unwatch is not None:
            self._unwatch()
        self.kernel.open_ended = self._open_ended
        self.kernel.embedding = None

    def close_soon(self) -> None:
        """Nobody calls in any more: from now on a kernel that can never go on is deadlocked."""
        self.closing = True
        self.kernel.open_ended = self._open_ended
        self._turns.wake()

    def check(self, what: str) -> None:
        """Raises WrongLoop, LoopGone or KernelHalted if a task cannot ask for anything now."""
        if not self.backend.is_here():
            raise self._elsewhere(what)
        if self.kernel.halted or self.error is not None or self.kernel.embedding is not self:
            why = "its `async with running()` is over, or its init has returned"
            if self.error is not None:
                why = f"{type(self.error).__name__}: {self.error}"
            raise KernelHalted(f"{what} on kernel {self.kernel.name}, which has halted: {why}") from self.error

    def _elsewhere(self, what: str) -> WrongLoop | LoopGone:
        name = self.kernel.name
        if self.backend.is_closed():
            return LoopGone(
                f"{what}: the event loop in which kernel {name} ran is closed. Leave the block of running() before "
                "that, and start a kernel in each loop"
            )
        return WrongLoop(
            f"{what}: kernel {name} runs in another event loop. Await it there, or hand the call over with "
            "asyncio.run_coroutine_threadsafe() or anyio.from_thread.run()"
        )

    # -- the kernel's methods, called by tasks of the loop

    def syscall_of_owner(self, nr: int, params: tuple[Any, ...]) -> int:
        """A system call that does not await, and stops the loop until it is done."""
        with self._doorbell.silent():
            try:
                return self.kernel.host_tasks.syscall_of_owner(nr, params)
            except Deadlock as error:
                raise Deadlock(
                    f"{error}\nThe call keeps the event loop from running, whose tasks might have ended it: await it, "
                    "as in `await k.sys.read(...)`"
                ) from None

    def touched(self) -> None:
        """Somebody has told the kernel to stop, or has stopped it."""
        self._doorbell.ring()

    def has_ended(self) -> bool:
        """Whether the kernel has halted, or is about to."""
        return self.kernel.halted or self.error is not None or self.kernel.embedding is not self

    def _loop_has_gone(self) -> None:
        """Somebody rang and nobody will ever hear it: answer those who would wait for ever."""
        if self.error is None:
            self.error = LoopGone(
                f"the event loop that ran kernel {self.kernel.name} was closed under it. Leave the block of running() "
                "before the loop is closed; halt the kernel with lkl_sys_halt()"
            )
        self.kernel.host_tasks.refuse_all()

    # -- slices

    def slice(self) -> None:
        """Run the kernel for a while, and deal with what it says. Never raises: errors end the block."""
        probe = self._scopes
        find, innermost = probe.holder, probe.innermost
        holder = find()
        scope = None if holder is None else innermost(holder)
        self.slices += 1
        self._doorbell.rung = False
        pace = self.pace
        run = self._run
        try:
            self.status = status = run(pace.max_switches, pace.budget_ns)
        except BaseException as error:
            self.failed(error)
            self._deal_with_messages()
            return
        if holder is None:
            holder = find()
        if holder is not None and innermost(holder) is not scope:
            self._scope_left_open(scope)
        outbox = self.outbox
        while outbox:
            outbox.popleft().in_loop()
        if self._unwatch is None and self.kernel.host.made_poller is not None:
            self._watch_descriptors(self.kernel.host.made_poller)
        turns = self._turns
        # They sleep, or this is their own slice; most often the kernel has become idle and nothing is due.
        if turns.sleeps and (status.reason is not _IDLE or status.next_event_ns is not None or self._is_virtual):
            turns.sleep_less(status)

    def _scope_left_open(self, before: Any) -> None:
        """A kernel thread sleeps with a scope open: that must not be, but in a coroutine of its own."""
        if self.stepping is None:
            self.failed(scopes.left_open(self.kernel, self._scopes.look()))
            self._scopes.close(before)

    def _watch_descriptors(self, poller: Poller) -> None:
        """The kernel has files of the host: be woken when one of them is ready.

        A duplicate is watched, because the kernel closes the poller when it halts, in the middle of a slice.
        """
        fd = os.dup(poller.fileno())
        unwatch = self.backend.watch(fd, self._turns.wake)

        def done() -> None:
            unwatch()
            os.close(fd)

        self._unwatch = done

    def _deal_with_messages(self) -> None:
        outbox = self.outbox
        while outbox:
            outbox.popleft().in_loop()

    def is_idle(self) -> bool:
        """Whether a slice would do nothing but what is asked for next."""
        return self.kernel.sched.is_idle() and not self.kernel.loop.running

    def companion_ends(self, companion: Companion) -> None:
        """The loop awaits nothing more for a kernel thread; virtual time may have waited for that."""
        self.companions.pop(companion, None)
        if self.kernel.clock.is_virtual:
            self._turns.wake()

    def wake(self) -> None:
        """The kernel has something to do; on the loop's OS thread."""
        self._turns.wake()

    def _heard(self) -> None:
        """Somebody has rung; in a callback of the loop, because waking the driver's task takes another turn of it."""
        if not self.has_ended():
            self.go_on(self.is_idle())
        elif self.kernel.embedding is self:
            self._deal_with_messages()
            self._turns.wake()

    def go_on(self, was_idle: bool) -> None:
        """The kernel was given something to do: do it here if it `was_idle`, else in its turn."""
        if was_idle:
            self.slice()
        else:
            self._turns.wake()

    def failed(self, error: BaseException) -> None:
        """The kernel, or the driver, cannot go on: end the block with `error`."""
        if self.error is None:
            self.error = error
        self._fail()
        self._turns.wake()

    # -- the driver's task

    async def drive(self) -> None:
        """Run the kernel until it halts. Errors are left in `error`."""
        try:
            await self._turns.run()
        except GeneratorExit:  # nobody will resume any task of this loop
            self._loop_has_gone()
            raise
        except BaseException as error:
            cancelled = isinstance(error, self.backend.cancelled)
            self.failed(LoopGone("the event loop has cancelled the task that runs the kernel") if cancelled else error)
            self.ended.set()
            if cancelled:
                raise
        self.ended.set()

    # -- the end

    def halt(self, timeout_s: float) -> None:
        """Halt the kernel, if it has not, and let everybody go who waits for it. Raises HaltTimeout."""
        try:
            self.kernel.lkl_sys_halt(timeout_s)
        finally:
            self._deal_with_messages()
            for one in list(self.pending):
                one.kernel_has_gone()
            for companion in list(self.companions):
                companion.cancel()
            self._turns.wake()

    def abandoned(self, task: Task) -> bool:
        """Whether a task was given up, because it goes on sleeping while it is killed."""
        return task in self.kernel.reboot.abandoned
