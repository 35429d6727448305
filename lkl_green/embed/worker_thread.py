"""A kernel on an OS thread of its own, with calls that an event loop elsewhere awaits.

For a kernel that computes for long, or whose threads block, in an application whose loop must not wait for it. The OS
thread has a loop of its own, of the same kind, in which `running()` runs the kernel; a call is handed over from loop to
loop. So what kernel threads `await_()` runs in that inner loop: pass them values, not futures or streams of the outer.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from lkl_green.embed.current_loop import backend_here
from lkl_green.embed.running import running
from lkl_green.errors import KernelHalted
from lkl_green.host.native import Thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextvars import Context

    from lkl_green.embed.backend import Backend, LoopTask
    from lkl_green.embed.handle import Embedded
    from lkl_green.kernel.kernel import Kernel

T = TypeVar("T")


@asynccontextmanager
async def in_thread(start: Callable[[], Kernel], **options: Any) -> AsyncIterator[ThreadedKernel]:
    """Start a kernel on an OS thread of its own, and run it there while the block lasts.

    Args:
        start: calls `lkl_start_kernel()`; it runs on that thread, which will own the kernel.
        options: of `running()`.

    Yields:
        the kernel as this loop sees it.

    Raises:
        Exception: what `start` raises, and whatever `running()` does.
    """
    if not callable(start):
        raise TypeError(
            f"in_thread({start!r}): pass a function that starts the kernel, such as lkl_start_kernel itself; it is "
            "called on the new OS thread, to which the kernel then belongs"
        )
    thread = ThreadedKernel(backend_here(), start, options)
    halted: KernelHalted | None = None
    try:
        await thread.begin()
        yield thread
    except KernelHalted as error:
        halted = error
    finally:
        with anyio.CancelScope(shield=True):
            await thread.end()
    why = thread.error or halted  # the former says more
    if why is not None:
        raise why


class ThreadedKernel:
    """A kernel on an OS thread of its own, as the tasks of another loop see it.

    Attributes:
        kernel: the kernel; only what may be called from any OS thread, such as `lkl_trigger_irq()`, may be used here.
        error: what it died of.
    """

    kernel: Kernel

    def __init__(self, outer: Backend, start: Callable[[], Kernel], options: dict[str, Any]) -> None:
        self._outer = outer
        self._start = start
        self._options = options
        self._inner: Backend
        self._leave: anyio.Event
        self._embedded: Embedded | None = None
        self._ready = outer.new_waiter()
        self._ended = anyio.Event()
        self._thread = Thread(self._run, name="lkl_green kernel")
        self.error: BaseException | None = None

    # -- in the outer loop

    async def begin(self) -> None:
        """Wait until the kernel runs. Raises what kept it from that."""
        self._thread.start()
        await self._ready.wait()
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    async def end(self) -> None:
        """Let the inner loop leave its block, and wait for the thread's end."""
        if not self._ended.is_set() and self._embedded is not None:
            self._post(self._leave.set)
        await self._ended.wait()
        self._thread.join()

    async def call(self, fn: Callable[..., T], *args: Any, name: str | None = None) -> T:
        """Run `fn(*args)` as a kernel thread over there; see `Embedded.call`."""
        if self._ended.is_set() or self._embedded is None:
            raise KernelHalted("call() on a kernel whose OS thread has ended")
        job = _Job(self, fn, args, name)
        await self._outer.checkpoint()
        self._post(job.begin)
        try:
            await job.waiter.wait()
        except self._outer.cancelled:
            self._post(job.cancel)
            with anyio.CancelScope(shield=True):
                await job.ended.wait()
            raise
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def _post(self, function: Callable[[], object]) -> None:
        try:
            self._inner.call_threadsafe(function)
        except RuntimeError:
            if self._embedded is None or not self._thread.is_alive():
                raise KernelHalted("the OS thread of this kernel has ended") from None
            raise

    # -- on the OS thread

    def _run(self) -> None:
        try:
            # The same kind of loop: the caller's context variables say which it is.
            anyio.run(self._main, backend=self._outer.name)
        except BaseException as error:
            self.error = error
        finally:
            self._to_outer(self._has_ended)

    async def _main(self) -> None:
        self._inner = backend_here()
        self._leave = anyio.Event()
        self.kernel = self._start()
        try:
            async with running(self.kernel, **self._options) as k:
                self._embedded = k
                self._to_outer(self._ready.wake)
                await self._leave.wait()
        finally:
            self._embedded = None

    def _to_outer(self, function: Callable[[], object]) -> None:
        try:
            self._outer.call_threadsafe(function)
        except RuntimeError:
            return  # the outer loop was closed in the middle of the block; nobody waits for us any more

    def _has_ended(self) -> None:
        self._ready.wake()
        self._ended.set()


class _Job:
    """A call on its way from one loop to the other and back."""

    def __init__(self, owner: ThreadedKernel, fn: Callable[..., Any], args: tuple[Any, ...], name: str | None) -> None:
        self._owner = owner
        self._fn = fn
        self._args = args
        self._name = name
        self._context: Context = copy_context()
        self._task: LoopTask | None = None
        self.waiter = owner._outer.new_waiter()
        self.ended = anyio.Event()
        self.result: Any = None
        self.error: Exception | None = None

    # -- in the inner loop

    def begin(self) -> None:
        """Make the call there."""
        self._task = self._owner._inner.start(self._main, self._context, "call from another loop")

    def cancel(self) -> None:
        """The caller was cancelled."""
        if self._task is not None:
            self._task.cancel()

    async def _main(self) -> None:
        embedded = self._owner._embedded
        try:
            if embedded is None:
                raise KernelHalted("call() on a kernel that has halted")
            self.result = await embedded.call(self._fn, *self._args, name=self._name)
        except Exception as error:
            self.error = error
        except self._owner._inner.cancelled:  # by our caller, who does not ask, or because the loop here is at its end
            self.error = KernelHalted("the kernel, or the event loop it ran in, has ended during this call")
            raise
        finally:
            self._owner._to_outer(self._done)

    # -- in the outer loop

    def _done(self) -> None:
        self.waiter.wake()
        self.ended.set()
