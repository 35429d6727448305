"""A kernel on an OS thread of its own, called from an event loop."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lkl_green import Kernel, KernelHalted, KernelPanic
from lkl_green.embed import await_, in_thread
from lkl_green.linux import current, current_kernel, kthread_run, msleep

if TYPE_CHECKING:
    from tests.embed.conftest import Kernels

pytestmark = pytest.mark.anyio

who: ContextVar[str] = ContextVar("who", default="nobody")


async def test_calls_are_awaited_and_run_elsewhere(kernels: Kernels) -> None:
    def work(number: int) -> tuple[int, str, str, bool]:
        msleep(1)
        return number, current().comm, who.get(), threading.get_ident() != here

    here = threading.get_ident()
    who.set("caller")
    async with in_thread(kernels.start) as k:
        assert await k.call(work, 1) == (1, "work", "caller", True)
        assert await k.call(work, 2, name="two") == (2, "two", "caller", True)


async def test_the_loop_goes_on_while_the_kernel_blocks(kernels: Kernels, log: list[Any]) -> None:
    leave = threading.Event()
    async with in_thread(kernels.start) as k, anyio.create_task_group() as group:
        group.start_soon(k.call, leave.wait, 10)
        for _ in range(3):
            await anyio.sleep(0.001)
            log.append("tick")
        leave.set()
    assert log == ["tick"] * 3


async def test_exceptions_and_cancellation_come_through(kernels: Kernels, log: list[Any]) -> None:
    def sleeper() -> None:
        try:
            log.append("sleeps")
            msleep(1_000_000)
        finally:
            log.append("taken down")

    async with in_thread(kernels.start) as k:
        with pytest.raises(ZeroDivisionError):
            await k.call(lambda: 1 / 0)
        async with anyio.create_task_group() as group:
            group.start_soon(k.call, sleeper)
            while not log:
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()
        assert log == ["sleeps", "taken down"]
        assert await k.call(lambda: "goes on") == "goes on"


async def test_kernel_threads_await_in_their_own_loop(kernels: Kernels) -> None:
    async def answer() -> int:
        await anyio.sleep(0.001)
        return 42

    async with in_thread(kernels.start) as k:
        assert await k.call(lambda: await_(answer())) == 42


async def test_a_kernel_that_cannot_be_started_says_so(kernels: Kernels) -> None:
    def start() -> Kernel:
        raise OSError("no memory")

    with pytest.raises(OSError, match="no memory"):
        async with in_thread(start):
            pass


async def test_an_oops_comes_out_of_the_block(kernels: Kernels) -> None:
    def faulty() -> None:
        raise ZeroDivisionError

    with pytest.raises(KernelPanic):
        async with in_thread(kernels.start) as k:
            await k.call(kthread_run, faulty)
            while not k.kernel.halted:
                await anyio.sleep(0.001)
            while True:
                with pytest.raises(KernelHalted):
                    await k.call(time.monotonic)
                break


async def test_a_panic_during_a_call_comes_out_of_the_block(kernels: Kernels) -> None:
    def faulty() -> None:
        current_kernel().panic("on purpose")
        msleep(1)

    with pytest.raises(KernelPanic, match="on purpose"):
        async with in_thread(kernels.start) as k:
            await k.call(faulty)


async def test_after_the_block_nothing_can_be_called(kernels: Kernels) -> None:
    async with in_thread(kernels.start) as k:
        pass
    with pytest.raises(KernelHalted, match="has ended"):
        await k.call(time.monotonic)
