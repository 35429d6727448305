"""Kernel threads that are `async def` functions: kernel code between awaits, awaits between kernel code."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lkl_green.linux import Mutex, current, msleep, schedule

if TYPE_CHECKING:
    from tests.embed.conftest import Kernels


@pytest.fixture(params=[{}, {"switch": "semaphore"}], ids=["direct", "hosted"])
def greenlets(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The configurations in which kernel threads are greenlets."""
    return dict(request.param)


@pytest.mark.anyio
async def test_kernel_code_and_awaits_take_turns(kernels: Kernels, greenlets: dict[str, Any], log: list[Any]) -> None:
    async def work(name: str) -> str:
        for step in range(3):
            log.append((current().comm, step))
            await anyio.sleep(0.001)
            msleep(1)
        return name

    async with kernels.running(kernels.start(**greenlets)) as k:
        assert await k.call(work, "done") == "done"
    assert log == [("work", 0), ("work", 1), ("work", 2)]


@pytest.mark.anyio
async def test_several_at_once_with_scopes_around_kernel_sleeps(kernels: Kernels, greenlets: dict[str, Any]) -> None:
    """Scopes look at the current task, which is the thread's own in all of its code."""

    async def work(number: int) -> int:
        with anyio.fail_after(10):
            await anyio.sleep(0.001)
            msleep(number % 3)
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 0.001)
                msleep(1)
        with anyio.move_on_after(0.001) as scope:
            msleep(2)
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        return number

    results: list[int] = []
    async with kernels.running(kernels.start(**greenlets)) as k:

        async def one(number: int) -> None:
            results.append(await k.call(work, number))

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(one, number)
    assert sorted(results) == list(range(8))


@pytest.mark.anyio
async def test_an_event_that_is_set_in_the_same_slice(kernels: Kernels, greenlets: dict[str, Any]) -> None:
    event = anyio.Event()

    async def waits() -> str:
        await event.wait()
        return "the event"

    def sets() -> None:
        schedule()
        event.set()

    async with kernels.running(kernels.start(**greenlets)) as k:
        thread = k.spawn(waits)
        k.spawn(sets)
        assert await thread.join() == "the event"


@pytest.mark.anyio
async def test_exceptions_go_both_ways(kernels: Kernels, greenlets: dict[str, Any]) -> None:
    async def faulty() -> None:
        await anyio.sleep(0)
        raise LookupError("in the loop")

    async def work() -> None:
        try:
            await faulty()
        except LookupError as error:
            raise ValueError("in the kernel") from error

    async with kernels.running(kernels.start(**greenlets)) as k:
        with pytest.raises(ValueError, match="in the kernel"):
            await k.call(work)


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["loop", "kernel"])
async def test_cancelling_unwinds_the_coroutine(
    kernels: Kernels, greenlets: dict[str, Any], where: str, log: list[Any]
) -> None:
    async def work() -> None:
        try:
            log.append("begun")
            if where == "loop":
                await anyio.sleep_forever()
            msleep(1_000_000)
        finally:
            log.append("unwound")

    async with kernels.running(kernels.start(**greenlets)) as k:
        async with anyio.create_task_group() as group:
            group.start_soon(k.call, work)
            while not log:
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()
        while len(log) < 2:
            await anyio.sleep(0.001)
        assert log == ["begun", "unwound"]
        assert await k.call(lambda: "goes on") == "goes on"


@pytest.mark.anyio
async def test_halting_unwinds_them(kernels: Kernels, greenlets: dict[str, Any], log: list[Any]) -> None:
    async def work(number: int) -> None:
        log.append("begun")
        try:
            if number % 2:
                await anyio.sleep_forever()
            msleep(1_000_000)
        finally:
            log.append("unwound")

    async with kernels.running(kernels.start(**greenlets)) as k:
        for number in range(4):
            k.spawn(work, number)
        while len(log) < 4:
            await anyio.sleep(0.001)
    assert log.count("unwound") == 4


@pytest.mark.anyio
async def test_locks_of_the_kernel_are_held_across_awaits(kernels: Kernels, greenlets: dict[str, Any]) -> None:
    kernel = kernels.start(**greenlets)
    lock = Mutex(kernel)
    inside: list[str] = []

    async def work(name: str) -> None:
        with lock:
            inside.append(f"{name} in")
            await anyio.sleep(0.001)
            inside.append(f"{name} out")

    async with kernels.running(kernel) as k, anyio.create_task_group() as group:
        for name in ("a", "b", "c"):
            group.start_soon(k.call, work, name)
    assert [entry[2:] for entry in inside] == ["in", "out"] * 3


@pytest.mark.asyncio
async def test_the_current_task_is_always_the_same(kernels: Kernels) -> None:
    async def work() -> set[Any]:
        tasks = set()
        for _ in range(3):
            tasks.add(asyncio.current_task())
            msleep(1)
            tasks.add(asyncio.current_task())
            await asyncio.sleep(0)
        return tasks

    async with kernels.running() as k:
        k.spawn(msleep, 5)
        assert len(await k.call(work)) == 1
