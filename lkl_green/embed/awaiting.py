"""`await_()`: a kernel thread waits for something of the event loop.

A kernel thread cannot await: it runs inside whichever task of the loop runs the slice, and cannot suspend that one. So
it leaves a request, and sleeps killably. In the loop a task awaits the thing for it, its *companion*, and wakes it with
the outcome.

    kernel thread                     loop
    await_(thing): request, sleep     (after the slice) a companion: value = await thing
    ...                               wake the thread, run a slice
    value, or what was raised   <---+
    await_(another): request, sleep   the same companion goes on with it

A companion is a task like any other: `current_task()`, cancel scopes and time-outs work in what it awaits. It runs in
the context of the kernel thread, the object itself where threads are greenlets: what one sets, the other sees. As long
as its thread comes back with the next request at once it goes on, and so a thread that awaits in a loop costs no task
each time; else it ends. Dropped: a companion for the life of each thread. Nothing tells it that the thread has gone.

A thread that is killed while it waits leaves at once; its companion is cancelled and ends in its own time, before the
end of the block. A time-out is the loop's, measured on the loop's clock: under virtual time the kernel's stands still
meanwhile.
"""

from __future__ import annotations

import errno
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import anyio
import anyio.to_thread
from greenlet import getcurrent

from lkl_green.embed.trampoline import Trampoline
from lkl_green.errors import AwaitCancelled, AwaitOutsideKernelThread, NotEmbedded, TaskUnwind
from lkl_green.kernel.current import running_here
from lkl_green.kernel.task import TASK_KILLABLE, TASK_RUNNING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextvars import Context

    from lkl_green.embed.backend import LoopTask
    from lkl_green.embed.driver import Driver
    from lkl_green.kernel.task import Task

T = TypeVar("T")


def await_(awaitable: Awaitable[T], timeout_ns: int | None = None) -> T:
    """Wait, in a kernel thread, until the event loop has awaited something; its result.

    Args:
        awaitable: a coroutine, a future of this loop, or whatever else can be awaited.
        timeout_ns: how long at most, on the loop's clock.

    Raises:
        TimeoutError: the time has passed; what was awaited has been cancelled.
        AwaitOutsideKernelThread, NotEmbedded: there is no loop to await it, or nobody to wait.
        AwaitCancelled: somebody else has cancelled it, in the loop.
        InterruptedError: EINTR, a fatal signal; it is cancelled.
        BaseException: whatever the awaitable raises.
    """
    driver = _embedding_of_caller(awaitable)
    request = Request(driver, awaitable, timeout_ns)
    driver.outbox.append(request)
    try:
        request.sleep()
    except BaseException:
        if not request.done:
            request.abandoned = True
            driver.outbox.append(request)
        raise
    if driver.in_os_threads:
        _write_back(request.context)
    if request.error is not None:
        request.raise_error()
    value: T = request.value
    return value


def to_host_thread(fn: Callable[..., T], *args: Any) -> T:
    """Call a blocking function on an OS thread of the loop's pool; the kernel thread sleeps meanwhile.

    A kernel thread that is killed does not wait for it; the OS thread goes on to its end. Raises what `fn` raises.
    """
    if args:
        fn = partial(fn, *args)
    return await_(anyio.to_thread.run_sync(fn, abandon_on_cancel=True))


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine of a kernel thread whose function is `async def`.

    Where kernel threads are OS threads the loop cannot be used from them: there all of it runs in the loop.
    """
    driver = _embedding_of_caller(coroutine)
    if driver.in_os_threads:
        return await_(coroutine)
    trampoline = Trampoline(driver, driver.kernel.sched.current, coroutine)
    request = Request(driver, trampoline, None)
    driver.outbox.append(request)
    try:
        result: T = trampoline.run()
    except TaskUnwind:
        request.abandoned = True
        driver.outbox.append(request)
        raise
    return result


def _embedding_of_caller(awaitable: Any) -> Driver:
    """The driver of the calling kernel thread's kernel; raises, and closes the awaitable, if there is none."""
    kernel = running_here.kernel
    try:
        if kernel is None:
            raise AwaitOutsideKernelThread(
                "await_() outside of a kernel thread: only kernel threads need it. Code of the event loop says `await`"
            )
        if kernel.embedding is None or not kernel.embedding.can_await:
            raise NotEmbedded(
                f"await_() in kernel {kernel.name}, which no event loop runs: run it with `async with running(kernel)`"
            )
        kernel.sched.might_sleep()
        if type(awaitable) is not CoroutineType and not isawaitable(awaitable):
            raise TypeError(f"await_({awaitable!r}): this cannot be awaited; pass a coroutine, a task or a future")
    except BaseException:
        close(awaitable)
        raise
    driver: Driver = kernel.embedding
    return driver


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


def _write_back(context: Context) -> None:
    """Take over into the calling thread's context what was set in a copy of it."""
    for variable, value in context.items():
        if variable.get(None) is not value:
            variable.set(value)


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


__all__ = ["Companion", "Request", "await_", "run_coroutine", "to_host_thread"]
