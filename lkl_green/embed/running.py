"""`async with running(kernel) as k:`: a kernel for as long as a block lasts.

    async with running(kernel) as k:         the driver begins
        await k.call(fn)                     ...
                                             the block's end: init runs until it returns; without init, halt
    # here the kernel has halted, whatever happened

The block is a parent of the kernel as a task group is one of its tasks. If the kernel dies, of an oops or a panic, the
block is cancelled and KernelPanic comes out of it, not wrapped into a group. If the block ends with an exception, or is
cancelled, the kernel is halted and the exception is raised again.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING

import anyio

from lkl_green.embed.current_loop import backend_here
from lkl_green.embed.embedding import Embedding
from lkl_green.embed.handle import Embedded
from lkl_green.embed.monitor import SliceMonitor
from lkl_green.embed.slice_budget import SliceBudget
from lkl_green.errors import AlreadyEmbedded, CoroutineStuck, KernelHalted, WrongThread
from lkl_green.kernel.kernel import Kernel
from lkl_green.kernel.reboot import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def running(
    kernel: Kernel,
    budget_ns: int | None = None,
    max_switches: int | None = None,
    halt_timeout_s: float = DEFAULT_TIMEOUT_S,
    slow_slice_s: float | None = None,
) -> AsyncIterator[Embedded]:
    """Run a kernel in this event loop, asyncio or trio, while the block lasts.

    Args:
        kernel: started in this OS thread; nothing else may run it meanwhile.
        budget_ns: how long a slice of the kernel may take before the loop's other tasks run; if left out, adapted to
            some hundred microseconds.
        max_switches: how many scheduling points a slice may have; adapted to the time budget if left out.
        halt_timeout_s: how long kernel threads, and what they await, may take to end.
        slow_slice_s: report slices that keep the loop waiting for longer than this, in `slow_slices` and as a kernel
            message, with the kernel thread and its line; None: do not watch.

    Yields:
        the kernel as async code sees it.

    Raises:
        KernelPanic: the kernel died; `__cause__` is the exception of the oops.
        Deadlock: after the block, init waits for what can never come.
        AlreadyEmbedded, WrongThread, KernelHalted: it cannot be run here.
        HaltTimeout, CoroutineStuck: something did not end.
        LoopGone: the event loop cancelled the driver, or was closed.
    """
    _check(kernel)
    backend = backend_here()
    with backend.new_block() as block:
        embedding = Embedding(kernel, backend, SliceBudget(budget_ns, max_switches), block.cancel, halt_timeout_s)
        driver = embedding.driver
        monitor = None if slow_slice_s is None else SliceMonitor(driver, slow_slice_s)
        embedding.attach()
        try:
            if monitor is not None:
                monitor.start()
            backend.start(embedding.drive, copy_context(), f"{kernel.name}: lkl_run()")
            yield Embedded(embedding, monitor)
            if kernel.has_init and not kernel.halted:
                embedding.close_soon()
                await embedding.ended.wait()
        except KernelHalted:
            if driver.error is None:  # else that is why, and says more
                raise
        finally:
            if monitor is not None:
                monitor.stop()
            with anyio.CancelScope(shield=True):
                await _end(embedding, halt_timeout_s)
    if driver.error is not None:
        raise driver.error


def _check(kernel: Kernel) -> None:
    if not isinstance(kernel, Kernel):
        raise TypeError(f"running({kernel!r}): this is no kernel; pass what lkl_start_kernel() returns")
    if kernel.embedding is not None:
        raise AlreadyEmbedded(
            f"running() of kernel {kernel.name}, which an event loop runs already: a kernel has one driver. "
            "Pass on what the first `async with` gave you"
        )
    if not kernel.lkl_is_running():
        raise KernelHalted(f"running() of kernel {kernel.name}, which has halted: start another one")
    try:
        kernel.loop.check_caller("running()")
    except WrongThread as error:
        raise WrongThread(f"{error}. Start the kernel in the coroutine that runs it, or use in_thread()") from None


async def _end(embedding: Embedding, timeout_s: float) -> None:
    """Halt the kernel and wait for what it has left in the loop."""
    try:
        await embedding.end_coroutines(timeout_s)
        embedding.halt(timeout_s)
    finally:
        with anyio.move_on_after(timeout_s):
            await embedding.ended.wait()
        await _wait_for_await_tasks(embedding, timeout_s)
        embedding.detach()


async def _wait_for_await_tasks(embedding: Embedding, timeout_s: float) -> None:
    """They were cancelled, and should end at once. Raises CoroutineStuck if one does not."""
    tasks = embedding.await_tasks.tasks
    deadline = anyio.current_time() + timeout_s
    pause_s = 0.0
    while tasks:
        await anyio.sleep(pause_s)
        pause_s = min(0.01, 2 * pause_s + 0.0001)
        if anyio.current_time() > deadline:
            embedding.detach()
            raise CoroutineStuck(list(map(str, tasks)))
