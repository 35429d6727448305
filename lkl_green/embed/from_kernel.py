"""What kernel threads call to use the event loop: `await_()` and `to_host_thread()`.

A kernel thread cannot await: it runs inside whichever task of the loop runs the slice, and cannot suspend that one. So
it leaves a request, and sleeps killably. In the loop an *await task* awaits the thing for it, and wakes it with the
outcome.

    kernel thread                     loop
    await_(thing): request, sleep     (after the slice) an await task: value = await thing
    ...                               wake the thread, run a slice
    value, or what was raised   <---+
    await_(another): request, sleep   the same await task continues with it

If a thread is killed while it waits, its await task is cancelled, and the thread goes on when that has ended: what was
awaited has cleaned up by then. Only a halt does not wait; the end of the block does. A time-out is the loop's, measured
on the loop's clock: under virtual time the kernel's stands still meanwhile.
"""

from __future__ import annotations

from functools import partial
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar

import anyio.to_thread

from lkl_green.embed.await_task import AwaitRequest, Cancellation, close
from lkl_green.embed.trampoline import Trampoline
from lkl_green.errors import AwaitOutsideKernelThread, NotEmbedded, TaskUnwind
from lkl_green.kernel.current import running_here

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextvars import Context

    from lkl_green.embed.await_task import AwaitTasks

T = TypeVar("T")


def await_(awaitable: Awaitable[T], timeout_ns: int | None = None) -> T:
    """Wait, in a kernel thread, until the event loop has awaited something; its result.

    Args:
        awaitable: a coroutine, a future of this loop, or whatever else can be awaited.
        timeout_ns: how long at most, on the loop's clock.

    Raises:
        TimeoutError: the time has passed; what was awaited has been cancelled.
        AwaitOutsideKernelThread, NotEmbedded: the caller is not a kernel thread, or no loop runs its kernel.
        AwaitCancelled: it was cancelled in the loop.
        InterruptedError: EINTR, a fatal signal; it is cancelled.
        BaseException: whatever the awaitable raises.
    """
    tasks = _await_tasks_of_caller(awaitable)
    request = AwaitRequest(tasks, awaitable, timeout_ns)
    tasks.driver.outbox.append(request)
    try:
        request.sleep()
    except BaseException:
        if not request.done:
            request.outlast()
        raise
    if tasks.in_os_threads:
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
    tasks = _await_tasks_of_caller(coroutine)
    if tasks.in_os_threads:
        return await_(coroutine)
    driver = tasks.driver
    trampoline = Trampoline(driver, tasks.kernel.sched.current, coroutine)
    request = AwaitRequest(tasks, trampoline, None)
    trampoline.cancel = partial(driver.outbox.append, Cancellation(request))
    driver.outbox.append(request)
    try:
        result: T = trampoline.run()
    except TaskUnwind:
        request.abandoned = True
        driver.outbox.append(request)
        raise
    return result


def _await_tasks_of_caller(awaitable: Any) -> AwaitTasks:
    """Those of the calling kernel thread's kernel. Raises, and closes the awaitable, if no loop can await it."""
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
    tasks: AwaitTasks = kernel.embedding.await_tasks
    return tasks


def _write_back(context: Context) -> None:
    """Take over into the calling thread's context what was set in a copy of it."""
    for variable, value in context.items():
        if variable.get(None) is not value:
            variable.set(value)
