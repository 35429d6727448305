"""How a task of the loop makes a call into the kernel: hand it to a kernel thread, run a slice, wait for its end.

A call that does not sleep is over when the slice returns, and its caller has not waited for anything. Else the caller
waits until the driver deals with the end of the thread.
"""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from lkl_green.embed.kernel_call import raise_error
from lkl_green.embed.thread_pool import ThreadPool
from lkl_green.errors import CoroutineStuck
from lkl_green.kernel.state import SystemState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lkl_green.embed.driver import Driver
    from lkl_green.embed.kernel_call import Call


_HALTED = SystemState.HALTED


class CallRunner:
    """Runs the calls of one embedded kernel.

    Attributes:
        driver: runs the kernel.
    """

    __slots__ = ("_pool", "driver")

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._pool = ThreadPool(driver.kernel)

    async def run(self, call: Call, name: str) -> Any:
        """Run a call in a kernel thread called `name`; its result. Raises what it raised, and as `Embedded.call`."""
        driver = self.driver
        kernel = driver.kernel
        is_here, checkpoint = driver.is_here, driver.checkpoint
        if not is_here():
            driver.check("call()")
        # Before the call and not after it: a task that is cancelled here has done nothing yet.
        await checkpoint()
        if kernel.sched.system_state is _HALTED or driver.error is not None or driver.detached:
            driver.check("call()")
        # driver.is_idle() and driver.go_on(), without the two calls.
        was_idle = kernel.sched.is_idle() and not kernel.loop.running
        self._pool.run(call, copy_context(), name)
        if was_idle:
            driver.slice()
        else:
            driver.wake()
        if not call.done:
            await _finish(call)
        if call.error is not None:
            raise_error(call)
        return call.result

    run.__qualname__ = "Embedded.call"  # what Python names in its warning about a call that was never awaited


async def _finish(call: Call) -> None:
    """Wait for the end of a call; take its thread down if we are cancelled."""
    try:
        await until_done(call)
    except BaseException as error:
        call.kill()
        if not call.done and isinstance(error, call.driver.backend.cancelled):
            await outlast(call, partial(until_done, call))
        if call.undo is not None and call.error is None:
            call.undo()
        raise


async def outlast(call: Call, wait: Callable[[], Awaitable[None]]) -> None:
    """Wait for a thread that was taken down, whatever comes meanwhile; that is raised afterwards.

    A thread waits for what it awaits in the loop, which was cancelled. If that does not end in time the block ends with
    CoroutineStuck.
    """
    driver = call.driver
    came: BaseException | None = None
    deadline = anyio.current_time() + driver.halt_timeout_s
    driver.dying[call] = None
    if driver.has_ended():  # of the slice in which the thread was taken down
        call.kernel_has_gone()
    while not call.done:
        try:
            with anyio.CancelScope(shield=True, deadline=deadline):
                await wait()
        except BaseException as error:
            came = came or error
        if not call.done and anyio.current_time() >= deadline:
            driver.failed(CoroutineStuck([f"await_() of {call.task.comm}-{call.task.pid}"]))
    del driver.dying[call]
    if came is not None:
        raise came


async def until_done(call: Call) -> None:
    """Wait until the thread of a call has ended."""
    driver = call.driver
    driver.pending[call] = None
    waiter = call.waiter = driver.backend.new_waiter()
    await waiter.wait()
