"""What goes wrong around an embedded kernel has a name, and nothing hangs."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lkl_green import Kernel, KernelPanic, lkl_start_kernel
from lkl_green.embed import await_, running
from lkl_green.errors import AwaitCancelled, LoopGone, ScopeAcrossSwitch, WrongLoop
from lkl_green.linux import Completion, current_kernel, msleep, request_irq, schedule

if TYPE_CHECKING:
    from tests.embed.conftest import Kernels


@pytest.mark.anyio
async def test_a_cancel_scope_that_is_open_across_a_switch_is_named(kernels: Kernels) -> None:
    def careless() -> None:
        with anyio.move_on_after(10) as scope:
            msleep(1)
        assert scope

    with pytest.raises(ScopeAcrossSwitch, match="careless"):
        async with kernels.running() as k:
            await k.call(careless)


@pytest.mark.anyio
async def test_a_cancel_scope_between_two_switches_is_fine(kernels: Kernels) -> None:
    def careful() -> str:
        msleep(1)
        with anyio.move_on_after(10):
            result = "no switch in here"
        msleep(1)
        return result

    async with kernels.running() as k:
        assert await k.call(careful) == "no switch in here"


@pytest.mark.anyio
async def test_a_slice_that_blocks_the_loop_is_reported_with_thread_and_line(kernels: Kernels) -> None:
    def blocks() -> None:
        time.sleep(0.2)  # the line that is reported

    async with kernels.running(None, slow_slice_s=0.05) as k:
        await k.call(blocks)
        reports = k.slow_slices
        await k.call(msleep, 100)
    assert len(reports) == 1
    assert "blocks-" in reports[0]
    line = blocks.__code__.co_firstlineno + 1
    assert f"test_guards.py:{line}" in reports[0]


@pytest.mark.asyncio
async def test_a_task_of_asyncio_that_was_cancelled_is_awaited(kernels: Kernels) -> None:
    task = asyncio.create_task(asyncio.sleep(100))
    asyncio.get_running_loop().call_later(0.002, task.cancel)

    async with kernels.running() as k:
        with pytest.raises(AwaitCancelled):
            await k.call(lambda: await_(task))


@pytest.mark.asyncio
async def test_cancelling_the_driver_ends_the_block(kernels: Kernels) -> None:
    with pytest.raises(LoopGone, match="cancelled the task"):
        async with kernels.running() as k:
            await k.call(msleep, 1)
            for task in asyncio.all_tasks():
                if "lkl_run" in task.get_name():
                    task.cancel()
            await asyncio.sleep(10)


def test_asyncio_run_that_is_interrupted_halts_the_kernel(log: list[Any]) -> None:
    started: list[Kernel] = []

    def init() -> None:
        try:
            log.append("sleeps")
            msleep(1_000_000)
        finally:
            log.append("taken down")

    async def main() -> None:
        kernel = lkl_start_kernel(init, loglevel=0)
        started.append(kernel)
        async with running(kernel):
            while not log:
                await asyncio.sleep(0.001)
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert log == ["sleeps", "taken down"]
    assert started[0].halted


def test_a_loop_that_is_closed_under_its_kernel(log: list[Any]) -> None:
    """Nobody left the block: interrupts are lost, system calls refused, and the kernel can still be halted."""
    kernel = lkl_start_kernel(loglevel=0)
    loop = asyncio.new_event_loop()
    block = running(kernel)

    async def enter() -> Any:
        return await block.__aenter__()

    loop.run_until_complete(enter())
    embedding = kernel.embedding
    for task in asyncio.all_tasks(loop):
        task.get_coro().close()  # type: ignore[union-attr]
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    assert isinstance(embedding.driver.error, LoopGone)

    thread = threading.Thread(target=lambda: log.append(kernel.lkl_syscall(39)))
    thread.start()
    thread.join(10)
    assert log == [-108], "ESHUTDOWN, and not for ever"
    kernel.lkl_sys_halt()
    embedding.detach()


@pytest.mark.anyio
async def test_ctrl_c_in_a_kernel_thread_leaves_through_the_block(kernels: Kernels) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with kernels.running() as k:
            k.spawn(interrupted)
            await anyio.sleep(10)


@pytest.mark.anyio
async def test_a_signal_handler_interrupts_an_idle_loop(kernels: Kernels) -> None:
    def wait_for_signal() -> str:
        kernel = current_kernel()
        done = Completion()
        irq = kernel.lkl_get_free_irq("signal")
        request_irq(irq, lambda irq: done.complete(), "signal")
        signal.signal(signal.SIGUSR1, lambda *_: kernel.lkl_trigger_irq(irq))
        timer = threading.Timer(0.02, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
        timer.start()
        done.wait_for_completion()
        timer.join()
        return "interrupted"

    before = signal.getsignal(signal.SIGUSR1)
    try:
        async with kernels.running() as k:
            assert await k.call(wait_for_signal) == "interrupted"
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.anyio
async def test_a_panic_in_a_call_of_the_caller_reaches_both(kernels: Kernels) -> None:
    with pytest.raises(KernelPanic, match="on purpose"):
        async with kernels.running() as k:
            await k.call(k.kernel.panic, "on purpose")
            await k.call(schedule)


def test_calls_from_another_event_loop_of_the_same_os_thread_are_refused() -> None:
    """The loop that runs the kernel stands still meanwhile; the OS thread alone does not tell."""
    kernel = lkl_start_kernel(loglevel=0)
    loop, other = asyncio.new_event_loop(), asyncio.new_event_loop()
    block = running(kernel)
    entered: list[Any] = []

    async def enter_and_leave(left: asyncio.Event) -> None:
        async with block as k:
            entered.append((k, left))
            loop.stop()
            await left.wait()

    async def leave() -> None:
        entered[0][1].set()
        await task

    async def call_from_elsewhere() -> None:
        with pytest.raises(WrongLoop, match="another event loop"):
            await entered[0][0].call(schedule)

    try:
        task = loop.create_task(enter_and_leave(asyncio.Event()))
        loop.run_forever()
        other.run_until_complete(call_from_elsewhere())
        loop.run_until_complete(leave())
    finally:
        loop.close()
        other.close()
    assert kernel.halted
