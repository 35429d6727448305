"""Cancelling at every point, many times: nothing is left, neither tasks nor threads nor descriptors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from lkl_green.embed import await_, to_host_thread
from lkl_green.linux import Mutex, msleep, pipe, schedule

if TYPE_CHECKING:
    from lkl_green.embed import Embedded
    from tests.embed.conftest import Kernels

from tests.embed.conftest import descriptors


async def some_steps() -> int:
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    return 3


def thread(lock: Mutex) -> int:
    """A bit of everything in which a kernel thread sleeps."""
    with lock:
        schedule()
        steps = await_(some_steps())
        msleep(0.01)
        steps += await_(some_steps(), timeout_ns=10**9)
    return steps


async def story(k: Embedded, lock: Mutex) -> None:
    """A bit of everything in which async code waits for the kernel."""
    assert await k.call(thread, lock) == 6
    reader, writer = await k.call(pipe)
    async with k.stream(reader) as receiver, k.stream(writer) as sender:
        await sender.send(b"bytes")
        assert await receiver.receive() == b"bytes"
        spawned = k.spawn(thread, lock)
        try:
            await spawned.join()
        finally:
            with anyio.CancelScope(shield=True):
                await spawned.cancel()
        await receiver.receive()  # for ever: the last point at which it can be cancelled


async def cancelled_after(turns: int, k: Embedded, lock: Mutex) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(story, k, lock)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_cancelled_at_every_point(kernels: Kernels, configuration: dict[str, Any]) -> None:
    kernel = kernels.start(**configuration)
    lock = Mutex(kernel)
    async with kernels.running(kernel) as k:
        files = kernel.fs.nr_files
        for turns in range(60):
            await cancelled_after(turns, k, lock)
            assert await k.call(thread, lock) == 6, "the lock is free, and the kernel works"
        await anyio.sleep(0.002)
        left = [task for task in kernel.pids if task.pid > 3 and task.comm != "kcall"]
        assert not left, "threads are left over"
        assert len(kernel.timers) == 0, "timers are left over"
        assert kernel.fs.nr_files <= files + 60 * 2, "files that nobody closed can only be those of cancelled calls"
        assert not kernel.embedding.await_tasks.tasks
        assert not kernel.embedding.driver.pending


@pytest.mark.anyio
async def test_the_block_cancelled_at_every_point(kernels: Kernels) -> None:
    for turns in range(0, 60, 3):
        kernel = kernels.start()
        lock = Mutex(kernel)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def cancel(turns: int = turns, scope: anyio.CancelScope = scope) -> None:
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

                group.start_soon(cancel)
                async with kernels.running(kernel) as k:
                    await story(k, lock)
        assert kernel.halted or kernel.embedding is None
        kernel.lkl_sys_halt()  # it was cancelled before the block had begun


@pytest.mark.anyio
async def test_descriptors_are_given_back(kernels: Kernels) -> None:
    async def once() -> None:
        async with kernels.running() as k:
            k.kernel.host.poller()  # as a file of the host does
            await k.call(schedule)
            await k.call(lambda: to_host_thread(int, "1"))

    await once()
    before = len(descriptors())
    for _ in range(10):
        await once()
    assert len(descriptors()) <= before


@pytest.mark.asyncio
async def test_tasks_of_the_loop_are_given_back(kernels: Kernels) -> None:
    before = asyncio.all_tasks()
    for _ in range(3):
        async with kernels.running() as k:
            await asyncio.gather(*(k.call(lambda: await_(some_steps())) for _ in range(20)))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
