"""Tasks of the event loop that await something for kernel threads.

A kernel thread leaves a request in the driver's outbox (see `lkl_green.embed.from_kernel`), and an await task serves
it. That is a task like any other: `current_task()`, cancel scopes and time-outs work in what it awaits. It runs in the
context of the kernel thread, the object itself where threads are greenlets: what one sets, the other sees.

An await task continues as long as its thread leaves the next request at once. So a thread that awaits in a loop does
not cost a task each time. Dropped: a task for the life of each thread. Nothing would tell it that the thread has ended.

An await task whose thread does not wait any more, or whose kernel has halted, is cancelled by the loop's own means.
"""

from __future__ import annotations

import errno
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
from greenlet import getcurrent

from lkl_green.errors import AwaitCancelled
from lkl_green.kernel.task import PF_KILL_BLOCKED, TASK_KILLABLE, TASK_RUNNING, TASK_UNINTERRUPTIBLE

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from contextvars import Context

    from lkl_green.embed.backend import LoopTask
    from lkl_green.embed.driver import Driver
    from lkl_green.kernel.task import Task


class AwaitTasks:
    """The await tasks of one embedded kernel.

    Attributes:
        kernel, driver: the kernel, and what runs it.
        tasks: those that have not ended.
        serving: the one inside which the slice runs that is under way; None if it runs in another task.
        in_os_threads: kernel threads are OS threads, not greenlets of the loop's OS thread.
    """

    __slots__ = ("driver", "in_os_threads", "kernel", "serving", "tasks")

    def __init__(self, driver: Driver) -> None:
        self.kernel = driver.kernel
        self.driver = driver
        self.tasks: dict[AwaitTask, None] = {}
        self.serving: AwaitTask | None = None
        self.in_os_threads = driver.kernel.host.foreign_threads_run_kernel

    def ends(self, task: AwaitTask) -> None:
        """A task has ended; virtual time may have waited for that."""
        self.tasks.pop(task, None)
        if self.kernel.clock.is_virtual:
            self.driver.wake()

    def cancel_all(self) -> None:
        """The kernel has halted."""
        for task in list(self.tasks):
            task.cancel()


class AwaitRequest:
    """One thing that a kernel thread waits for.

    Attributes:
        thread: the kernel thread.
        done: whether the outcome is there.
        abandoned: the thread does not wait any more.
        server: the await task that has it, once there is one.
    """

    __slots__ = (
        "_tasks",
        "abandoned",
        "awaitable",
        "context",
        "done",
        "error",
        "server",
        "thread",
        "timeout_ns",
        "value",
    )

    def __init__(self, tasks: AwaitTasks, awaitable: Awaitable[Any], timeout_ns: int | None) -> None:
        self._tasks = tasks
        self.thread: Task = tasks.kernel.sched.current
        self.awaitable: Awaitable[Any] | None = awaitable
        self.timeout_ns = timeout_ns
        # The thread's own context where it is a greenlet, a copy where it is an OS thread.
        context = None if tasks.in_os_threads else getcurrent().gr_context
        self.context: Context = copy_context() if context is None else context
        self.done = self.abandoned = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.server: AwaitTask | None = None

    # -- in the kernel

    def sleep(self) -> None:
        """Sleep until the outcome is there. Raises InterruptedError for a fatal signal."""
        kernel = self._tasks.kernel
        schedule = kernel.sched.schedule
        thread = self.thread
        thread.waiting_for = self
        try:
            while not self.done:
                if thread.signals and kernel.signals.fatal_signal_pending(thread):
                    raise InterruptedError(errno.EINTR, "a fatal signal ended await_()")
                thread.state = TASK_KILLABLE
                schedule()
        finally:
            thread.state = TASK_RUNNING
            thread.waiting_for = None

    def outlast(self) -> None:
        """The thread was killed: have what it awaits cancelled, and wait until that has ended.

        A halt of the kernel does not wait for it here. The block does, after the kernel has halted.
        """
        tasks, thread = self._tasks, self.thread
        kernel = tasks.kernel
        self.abandoned = True
        tasks.driver.outbox.append(self)
        thread.flags |= PF_KILL_BLOCKED
        thread.waiting_for = self
        try:
            while not self.done and not kernel.stopping:
                thread.state = TASK_UNINTERRUPTIBLE
                kernel.sched.schedule()
        finally:
            thread.state = TASK_RUNNING
            thread.flags &= ~PF_KILL_BLOCKED
            thread.waiting_for = None

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
        """Have it awaited; or the thread has abandoned it, and what awaits it has to stop."""
        if self.abandoned:
            if self.server is not None:
                self.server.cancel()
            elif self.awaitable is not None:
                close(self.awaitable)
                self.answer()
            return
        serving = self._tasks.serving
        # The task inside which the slice ran continues, if it has answered the last request of the same thread.
        if (
            serving is not None
            and serving.request is None
            and serving.thread is self.thread
            and serving.context is self.context
        ):
            serving.request = self
            self.server = serving
        else:
            AwaitTask(self._tasks, self)

    def answer(self) -> None:
        """The outcome is there: wake the thread."""
        self.done = True
        if self.thread.waiting_for is self:
            self._tasks.kernel.sched.wake_up_process(self.thread)

    def __repr__(self) -> str:
        return f"<await_({getattr(self.awaitable, '__qualname__', self.awaitable)!s})>"


class Cancellation:
    """A kernel thread that still waits wants what it awaits to be cancelled."""

    __slots__ = ("_request",)

    def __init__(self, request: AwaitRequest) -> None:
        self._request = request

    def in_loop(self) -> None:
        """Cancel it."""
        if self._request.server is not None:
            self._request.server.cancel()


class AwaitTask:
    """A task of the loop that awaits for one kernel thread, request by request.

    Attributes:
        thread: the kernel thread.
        context: the context variables of both.
        request: what it awaits; None once it is answered.
    """

    __slots__ = ("_cancelled", "_loop_task", "_started", "_tasks", "context", "request", "thread")

    def __init__(self, tasks: AwaitTasks, request: AwaitRequest) -> None:
        self._tasks = tasks
        self._cancelled = self._started = False
        self.thread = request.thread
        self.context = request.context
        self.request: AwaitRequest | None = request
        request.server = self
        tasks.tasks[self] = None
        driver = tasks.driver
        name = f"{tasks.kernel.name}: await_ of {self.thread.comm}-{self.thread.pid}"
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
        return f"{self.request!r} of {self.thread.comm}-{self.thread.pid}"

    async def _main(self) -> None:
        tasks = self._tasks
        driver = tasks.driver
        checkpoint = driver.checkpoint
        self._started = True
        try:
            while True:
                request = self.request
                assert request is not None
                if self._cancelled:
                    close(request.awaitable)
                    request.answer()
                    driver.wake()
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
                    if isinstance(error, driver.backend.cancelled):
                        self._stopped(request, error)
                        raise
                    request.error = self._not_cancelled(error)  # no task of the loop that is not ours raises it
                finally:
                    request.awaitable = awaitable = None
                was_idle = driver.is_idle()
                self.request = request.server = None
                request.answer()
                if was_idle:
                    tasks.serving, outer = self, tasks.serving
                    driver.slice()
                    tasks.serving = outer
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
            tasks.ends(self)

    def _not_cancelled(self, error: BaseException) -> BaseException:
        """What is left of SystemExit, KeyboardInterrupt, or a group of errors without cancellations in it."""
        if isinstance(error, BaseExceptionGroup):
            error = error.split(self._tasks.driver.backend.cancelled)[1] or cancelled_in_loop(self.thread, error)
        return error

    def _stopped(self, request: AwaitRequest, error: BaseException) -> None:
        """Cancelled, by us or by another task."""
        close(request.awaitable)
        request.error = cancelled_in_loop(self.thread, error)
        self.request = request.server = None
        request.answer()
        self._tasks.driver.wake()


def cancelled_in_loop(thread: Task, error: BaseException) -> AwaitCancelled:
    """The loop's cancellation, as an ordinary error: the kernel thread itself was not cancelled."""
    return AwaitCancelled(
        f"what {thread.comm}-{thread.pid} awaited was cancelled in the event loop, by {type(error).__name__}"
    )


def close(awaitable: Any) -> None:
    """Close a coroutine that will never be awaited, which Python would warn of."""
    closes = getattr(awaitable, "close", None)
    if closes is not None and hasattr(awaitable, "send"):
        closes()
