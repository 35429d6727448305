"""Companions: tasks of the event loop that await something for a kernel thread.

A companion is a task like any other: `current_task()`, cancel scopes and time-outs work in what it awaits. It runs in
the context of the kernel thread, the object itself where threads are greenlets: what one sets, the other sees. As long
as its thread comes back with the next request at once it goes on, and so a thread that awaits in a loop costs no task
each time; else it ends. Dropped: a companion for the life of each thread. Nothing tells it that the thread has gone.

What it awaits is a request, which the thread leaves in the driver's outbox; see `lkl_green.embed.awaiting`. A companion
whose thread does not wait any more, or whose kernel has halted, is cancelled by the loop's own means.
"""

from __future__ import annotations

import errno
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
from greenlet import getcurrent

from lkl_green.errors import AwaitCancelled
from lkl_green.kernel.task import TASK_KILLABLE, TASK_RUNNING

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from contextvars import Context

    from lkl_green.embed.backend import LoopTask
    from lkl_green.embed.driver import Driver
    from lkl_green.kernel.task import Task


class Request:
    """One thing that a kernel thread waits for.

    Attributes:
        task: the kernel thread.
        done: whether the outcome is there.
        abandoned: the thread does not wait any more.
        companion: the task of the loop that awaits it, once there is one.
    """

    __slots__ = (
        "abandoned",
        "awaitable",
        "companion",
        "context",
        "done",
        "driver",
        "error",
        "task",
        "timeout_ns",
        "value",
    )

    def __init__(self, driver: Driver, awaitable: Awaitable[Any], timeout_ns: int | None) -> None:
        self.driver = driver
        self.task: Task = driver.kernel.sched.current
        self.awaitable: Awaitable[Any] | None = awaitable
        self.timeout_ns = timeout_ns
        # The thread's own context where it is a greenlet, a copy where it is an OS thread.
        context = None if driver.in_os_threads else getcurrent().gr_context
        self.context: Context = copy_context() if context is None else context
        self.done = self.abandoned = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.companion: Companion | None = None

    # -- in the kernel

    def sleep(self) -> None:
        """Sleep until the outcome is there. Raises InterruptedError for a fatal signal."""
        kernel = self.driver.kernel
        schedule = kernel.sched.schedule
        task = self.task
        task.waiting_for = self
        try:
            while not self.done:
                if task.signals and kernel.signals.fatal_signal_pending(task):
                    raise InterruptedError(errno.EINTR, "a fatal signal ended await_()")
                task.state = TASK_KILLABLE
                schedule()
        finally:
            task.state = TASK_RUNNING
            task.waiting_for = None

    def raise_error(self) -> NoReturn:
        """Raise what the awaitable has raised."""
        error, self.error = self.error, None
        assert error is not None
        try:
            raise error
        finally:
            del error

    # -- in the loop

    def in_loop(self) -> None:
        """Give it to a companion; or it was abandoned, and the companion has to stop."""
        if self.abandoned:
            if self.companion is not None:
                self.companion.cancel()
            elif self.awaitable is not None:
                close(self.awaitable)
            return
        serving = self.driver.serving
        # The companion in whose task the slice ran goes on, if it is done with the last request of the same thread.
        if (
            serving is not None
            and serving.request is None
            and serving.task is self.task
            and serving.context is self.context
        ):
            serving.request = self
            self.companion = serving
        else:
            Companion(self)

    def answer(self) -> None:
        """The outcome is there: wake the thread."""
        self.done = True
        if self.task.waiting_for is self:
            self.driver.kernel.sched.wake_up_process(self.task)

    def __repr__(self) -> str:
        return f"<await_({getattr(self.awaitable, '__qualname__', self.awaitable)!s})>"


class Companion:
    """A task of the loop that awaits for one kernel thread, request by request.

    Attributes:
        task: the kernel thread.
        request: what it awaits; None once it is answered.
    """

    __slots__ = ("_cancelled", "_driver", "_loop_task", "_started", "context", "request", "task")

    def __init__(self, request: Request) -> None:
        self._driver = driver = request.driver
        self._cancelled = self._started = False
        self.task = request.task
        self.context = request.context
        self.request: Request | None = request
        request.companion = self
        driver.companions[self] = None
        name = f"{driver.kernel.name}: await_ of {self.task.comm}-{self.task.pid}"
        self._loop_task: LoopTask = driver.backend.start(self._main, request.context, name)

    def cancel(self) -> None:
        """Its thread does not wait any more, or the kernel has halted."""
        if self._cancelled:
            return
        self._cancelled = True
        if self.request is not None:
            self.request.abandoned = True
        # asyncio does not run a task at all that is cancelled before it begins; the coroutine would never be closed.
        if self._started:
            self._loop_task.cancel()

    def __repr__(self) -> str:
        return f"{self.request!r} of {self.task.comm}-{self.task.pid}"

    async def _main(self) -> None:
        driver = self._driver
        checkpoint = driver.checkpoint
        self._started = True
        try:
            while True:
                request = self.request
                assert request is not None
                if self._cancelled:
                    close(request.awaitable)
                    return
                awaitable = request.awaitable
                assert awaitable is not None
                try:
                    if request.timeout_ns is None:
                        request.value = await awaitable
                    else:
                        with anyio.fail_after(request.timeout_ns / 1e9):
                            request.value = await awaitable
                except Exception as error:
                    request.error = error
                except BaseException as error:
                    self._stopped(request, error)
                    raise
                finally:
                    request.awaitable = awaitable = None
                was_idle = driver.is_idle()
                self.request = request.companion = None
                request.answer()
                if was_idle:
                    driver.serving, outer = self, driver.serving
                    driver.slice()
                    driver.serving = outer
                else:
                    driver.wake()
                if self.request is None:
                    return
                try:
                    await checkpoint()
                except BaseException as error:
                    self._stopped(self.request, error)
                    raise
        finally:
            driver.companion_ends(self)

    def _stopped(self, request: Request, error: BaseException) -> None:
        """Cancelled, by us or by somebody else; or KeyboardInterrupt, which is the loop's to raise."""
        close(request.awaitable)
        request.error = cancelled_in_loop(self.task, error)
        self.request = request.companion = None
        request.answer()
        self._driver.wake()


def cancelled_in_loop(task: Task, error: BaseException) -> AwaitCancelled:
    """The loop's cancellation, as an ordinary error: it is not the kernel thread that was cancelled."""
    return AwaitCancelled(
        f"what {task.comm}-{task.pid} awaited was cancelled in the event loop, by {type(error).__name__}"
    )


def close(awaitable: Any) -> None:
    """Close a coroutine that will never be awaited, which Python would warn of."""
    closes = getattr(awaitable, "close", None)
    if closes is not None and hasattr(awaitable, "send"):
        closes()
