"""The driver: runs a kernel in slices inside an event loop.

    driver's task            slice | checkpoint | slice | checkpoint | ... sleep until a timer or an interrupt
    a task that calls in     ... await k.call(fn): slice, here and now, if the kernel has nothing else to do

*Slices.* The kernel runs in slices, and the loop's other tasks run between them. While the kernel is busy, a task of
the loop, the driver's task, runs one slice after another (`lkl_green.embed.embedding`). While it is idle, a task that
gives it something to do, a call or an answer that a kernel thread waits for, runs the slice at once, inside itself:
waking another task for that would cost as much as the whole call. A slice is never run inside a slice, and only on the
OS thread that owns the kernel.

*The outbox.* Kernel threads never touch the loop: they leave a message, and sleep. After each slice the driver deals
with the messages, outside the kernel and on the loop's OS thread, whatever OS thread or greenlet the kernel thread runs
on. So all three configurations work, and the order of what happens is the order in which the kernel did it.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from lkl_green.embed import scopes
from lkl_green.embed.idle_sleep import IdleSleep
from lkl_green.errors import KernelHalted, LoopGone, WrongLoop
from lkl_green.kernel.loop import RunReason, RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.embed.backend import Backend
    from lkl_green.embed.doorbell import Doorbell
    from lkl_green.embed.slice_budget import SliceBudget
    from lkl_green.host.poller import Poller
    from lkl_green.kernel.kernel import Kernel

_IDLE = RunReason.IDLE


class Message(Protocol):
    """What a kernel thread leaves for the loop."""

    def in_loop(self) -> None:
        """Deal with it, between two slices."""


class Ending(Protocol):
    """Something that a halted kernel must not leave waiting."""

    def kernel_has_gone(self) -> None:
        """The kernel will not do it any more."""


class Killable(Protocol):
    """A coroutine that can be ended in its own task while the kernel runs."""

    def kill(self) -> None:
        """Take its kernel thread down."""


class Driver:
    """Runs the slices of one kernel in one event loop.

    Args:
        kernel, backend: the kernel and the loop.
        budget: how long a slice may take.
        doorbell: what the kernel rings between slices.
        fail: ends the block of `running()`.
        halt_timeout_s: how long a thread that was taken down may wait for what it awaits in the loop.

    Attributes:
        kernel, backend, budget, halt_timeout_s: as given.
        checkpoint, is_here: the backend's: lets the loop run its other tasks once; whether the caller runs in it.
        outbox: what kernel threads have left for the loop.
        pending: calls and waits of the loop's tasks that the kernel works at.
        dying: calls whose threads were taken down and are waited for.
        coroutines: those of kernel threads, on their way; see `trampoline`.
        stepping: the coroutine of a kernel thread for which the slice runs that is under way; see `trampoline`.
        idle_sleep: the sleep of the driver's task.
        error: what ended the kernel.
        detached: the kernel does not run in this loop any more.
        slices: how many were run.
        status: how the last one ended.
    """

    __slots__ = (
        "_doorbell",
        "_fail",
        "_is_virtual",
        "_run",
        "_scopes",
        "_unwatch",
        "backend",
        "budget",
        "checkpoint",
        "coroutines",
        "detached",
        "dying",
        "error",
        "halt_timeout_s",
        "idle_sleep",
        "is_here",
        "kernel",
        "outbox",
        "pending",
        "slices",
        "status",
        "stepping",
    )

    def __init__(
        self,
        kernel: Kernel,
        backend: Backend,
        budget: SliceBudget,
        doorbell: Doorbell,
        fail: Callable[[], object],
        halt_timeout_s: float,
    ) -> None:
        self.kernel = kernel
        self.halt_timeout_s = halt_timeout_s
        self.backend = backend
        self.budget = budget
        self.outbox: deque[Message] = deque()
        self.pending: dict[Ending, None] = {}
        self.dying: dict[Ending, None] = {}
        self.coroutines: dict[Killable, None] = {}
        self.stepping: object | None = None
        self.idle_sleep = IdleSleep(kernel.clock, backend.new_alarm())
        self.error: BaseException | None = None
        self.detached = False
        self.slices = 0
        self.status = RunStatus(RunReason.BUDGET, None)
        self.is_here = backend.is_here
        self.checkpoint = backend.checkpoint
        self._scopes = backend.scope_probe()
        self._doorbell = doorbell
        self._fail = fail
        self._run = kernel.loop.run_slice
        self._is_virtual = kernel.clock.is_virtual
        self._unwatch: Callable[[], object] | None = None

    # -- whether the kernel may be asked for anything

    def check(self, what: str) -> None:
        """Raises WrongLoop, LoopGone or KernelHalted if the calling task cannot ask for anything now."""
        if not self.backend.is_here():
            raise self._elsewhere(what)
        if self.kernel.halted or self.error is not None or self.detached:
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

    def has_ended(self) -> bool:
        """Whether the kernel has halted, or is about to."""
        return self.kernel.halted or self.error is not None or self.detached

    # -- slices

    def slice(self) -> None:
        """Run the kernel for a while, and deal with its messages. Never raises: errors end the block."""
        probe = self._scopes
        find, innermost = probe.holder, probe.innermost
        holder = find()
        scope = None if holder is None else innermost(holder)
        self.slices += 1
        self._doorbell.rung = False
        budget = self.budget
        run = self._run
        try:
            self.status = status = run(budget.max_switches, budget.budget_ns)
        except BaseException as error:
            self.failed(error)
            self.deal_with_messages()
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
        idle_sleep = self.idle_sleep
        # False if this is a slice of the driver's own task. Most often the kernel has become idle and nothing is due.
        if idle_sleep.sleeps and (status.reason is not _IDLE or status.next_event_ns is not None or self._is_virtual):
            idle_sleep.sleep_less(status)

    def deal_with_messages(self) -> None:
        """Deal with what kernel threads have left."""
        outbox = self.outbox
        while outbox:
            outbox.popleft().in_loop()

    def _scope_left_open(self, before: Any) -> None:
        """A kernel thread sleeps with a cancel scope open, which is allowed in a coroutine of its own only."""
        if self.stepping is None:
            self.failed(scopes.left_open(self.kernel, self._scopes.look()))
            self._scopes.close(before)

    def is_idle(self) -> bool:
        """Whether a slice would do nothing but what is asked for next."""
        return self.kernel.sched.is_idle() and not self.kernel.loop.running

    def go_on(self, was_idle: bool) -> None:
        """The kernel was given something to do: do it here if it `was_idle`, else in its turn."""
        if was_idle:
            self.slice()
        else:
            self.idle_sleep.wake()

    def wake(self) -> None:
        """The kernel has something to do, in a slice of the driver's task; on the loop's OS thread."""
        self.idle_sleep.wake()

    def failed(self, error: BaseException) -> None:
        """The kernel, or the driver, cannot continue: end the block with `error`."""
        if self.error is None:
            self.error = error
        for call in list(self.dying):  # whose cancelled callers wait, shielded, for threads that never run again
            call.kernel_has_gone()
        self._fail()
        self.idle_sleep.wake()

    # -- descriptors

    def _watch_descriptors(self, poller: Poller) -> None:
        """The kernel has files of the host: be woken when one of them is ready.

        A duplicate is watched, because the kernel closes the poller when it halts, in the middle of a slice.
        """
        fd = os.dup(poller.fileno())
        unwatch = self.backend.watch(fd, self.idle_sleep.wake)

        def done() -> None:
            unwatch()
            os.close(fd)

        self._unwatch = done

    def stop_watching(self) -> None:
        """Let go of the kernel's descriptors."""
        if self._unwatch is not None:
            self._unwatch()
