"""A web application makes its locks where its modules are imported: one loop after another finds them usable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lkl_green import lkl_start_kernel
from lkl_green.embed import await_, running
from lkl_green.errors import SchedulingWhileAtomic
from lkl_green.linux import Completion, KFifo, Mutex, Semaphore, current_kernel, msleep

if TYPE_CHECKING:
    from tests.embed.conftest import Kernels

MUTEX = Mutex(name="MUTEX")
CONNECTIONS = Semaphore(2, name="CONNECTIONS")
ORDERS: KFifo[int] = KFifo(8, name="ORDERS")
LOG: list[Any] = []


def handle(number: int) -> int:
    with CONNECTIONS, MUTEX:
        before = len(LOG)
        msleep(1)
        await_(anyio.sleep(0))
        LOG.append(number)
        assert len(LOG) == before + 1, "another request came in between"
    ORDERS.put(number)
    return number


@pytest.mark.anyio
async def test_requests_share_what_a_module_has_made(kernels: Kernels, configuration: dict[str, Any]) -> None:
    for _ in range(2):
        LOG.clear()
        async with kernels.running(kernels.start(**configuration)) as k, anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(k.call, handle, number)
            assert sorted([await k.call(ORDERS.get) for _ in range(5)]) == sorted(LOG) == list(range(5))
        assert (MUTEX.is_locked(), CONNECTIONS.count) == (False, 2)


@pytest.mark.anyio
async def test_a_coroutine_announces_before_or_after_a_kernel_thread_waits(
    kernels: Kernels, configuration: dict[str, Any]
) -> None:
    early, late = Completion(), Completion()
    early.complete()
    async with kernels.running(kernels.start(**configuration)) as k:
        await k.wait(early)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(k.wait, late)
                await anyio.wait_all_tasks_blocked()
                await k.call(late.complete)


@pytest.mark.anyio
async def test_a_block_that_is_cancelled_leaves_its_locks_free(kernels: Kernels, configuration: dict[str, Any]) -> None:
    mutex = Mutex()

    def holds_it_for_ever() -> None:
        mutex.lock()
        msleep(3_600_000)

    with anyio.move_on_after(0.05):
        async with kernels.running(kernels.start(**configuration)) as k:
            await k.call(holds_it_for_ever)
    assert not mutex.is_locked()
    async with kernels.running(kernels.start(**configuration)) as k:
        assert await k.call(mutex.trylock) is True


def test_one_asyncio_run_after_another(configuration: dict[str, Any]) -> None:
    async def main() -> list[int]:
        async with running(lkl_start_kernel(loglevel=0, **configuration)) as k:
            return await asyncio.gather(*(k.call(handle, number) for number in range(3)))

    for _ in range(3):
        LOG.clear()
        assert asyncio.run(main()) == sorted(LOG) == [0, 1, 2]
        assert [ORDERS.try_get() for _ in range(3)] == LOG, "the application reads what its last kernel has left"


@pytest.mark.anyio
async def test_two_kernels_in_one_loop_cannot_share_a_lock(kernels: Kernels) -> None:
    mutex = Mutex(name="shared")
    async with kernels.running(kernels.start(name="one")) as one, kernels.running(kernels.start(name="two")) as two:
        await one.call(mutex.lock)
        with pytest.raises(SchedulingWhileAtomic, match=r"kernel two runs here.*make one for each kernel"):
            await two.call(mutex.lock)
        assert mutex._kernel is await one.call(current_kernel)
