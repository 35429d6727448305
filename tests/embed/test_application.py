"""Applications do with an embedded kernel what they do with other things: from several tasks, and by hand."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lkl_green import Deadlock, KernelHalted, KernelPanic, lkl_start_kernel
from lkl_green.embed import Guest, await_, in_thread, running
from lkl_green.errors import AlreadyEmbedded, AwaitCancelled, LoopGone
from lkl_green.linux import Completion, current, current_kernel, msleep, request_irq

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lkl_green.embed import Embedded
    from tests.embed.conftest import Kernels

HALTS: dict[str, Callable[[Embedded], object]] = {
    "lkl_sys_halt()": lambda k: k.kernel.lkl_sys_halt(),
    "power_off()": lambda k: k.kernel.power_off(),
    "panic()": lambda k: k.kernel.panic("by hand"),
}


# -- one task enters, another one leaves: fixtures of pytest-asyncio, notebook cells, start-up and shutdown hooks


def test_a_later_task_of_the_same_loop_uses_and_leaves_the_block(log: list[Any]) -> None:
    def sleeper() -> None:
        try:
            msleep(1_000_000)
        finally:
            log.append("taken down")

    async def use(k: Embedded) -> None:
        k.spawn(sleeper)
        assert await k.call(lambda: "a later task") == "a later task"

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        k = runner.run(stack.enter_async_context(running(lkl_start_kernel(loglevel=0))))
        runner.run(use(k))
        runner.run(stack.aclose())
    assert log == ["taken down"]
    assert k.kernel.halted


def test_a_panic_between_two_tasks_comes_out_where_the_block_is_left() -> None:
    async def use(k: Embedded) -> None:
        k.spawn(lambda: 1 / 0)
        await k.halted()
        with pytest.raises(KernelHalted, match="division by zero"):
            await k.call(msleep, 1)
        await asyncio.sleep(0.01)  # nobody is cancelled: who entered the block has ended

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        k = runner.run(stack.enter_async_context(running(lkl_start_kernel(loglevel=0))))
        runner.run(use(k))
        with pytest.raises(KernelPanic, match="division by zero"):
            runner.run(stack.aclose())
    assert k.kernel.halted


def test_a_block_that_nobody_leaves_is_left_at_the_end_of_asyncio_run(log: list[Any]) -> None:
    def sleeper() -> None:
        try:
            msleep(1_000_000)
        finally:
            log.append("taken down")

    async def main() -> tuple[Any, Embedded]:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: log.append(context))
        block = running(lkl_start_kernel(loglevel=0))
        k = await block.__aenter__()
        k.spawn(sleeper)
        await asyncio.sleep(0.01)
        return block, k

    block, k = asyncio.run(main())
    assert log == ["taken down"]
    assert k.kernel.halted
    del block
    gc.collect()


# -- a service whose handlers are kernel threads


@pytest.mark.anyio
async def test_an_asgi_application_answers_many_requests_at_once(kernels: Kernels, log: list[Any]) -> None:
    httpx = pytest.importorskip("httpx")

    def page(path: str) -> bytes:
        if path == "/slow":
            try:
                msleep(1_000_000)
            finally:
                log.append("taken down")
        msleep(1)
        return f"{path} by {current().comm}".encode()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        body = await k.call(page, scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def get(path: str) -> None:
        log.append((await client.get(path)).text)

    async with (
        kernels.running() as k,
        httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://kernel") as client,
    ):
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(get, f"/{number}")
        assert sorted(log) == sorted(f"/{number} by page" for number in range(200))
        log.clear()
        with anyio.move_on_after(0.05):
            await get("/slow")
        assert log == ["taken down"]
        await get("/after")
        assert log[1:] == ["/after by page"]


# -- the kernel's own methods, called by a task of the loop


@pytest.mark.anyio
async def test_a_system_call_by_hand_stops_the_loop_and_is_heard_of(kernels: Kernels) -> None:
    async with kernels.running() as k, anyio.create_task_group() as group:
        sys = k.kernel.sys
        reader, writer = sys.pipe2(0)
        said: list[bytes] = []

        def read() -> None:
            said.append(await_(later(b"asked, ")) + current_kernel().sys.read(reader, 10) + await_(later(b" and told")))

        async def later(text: bytes) -> bytes:
            await anyio.sleep(0)
            return text

        group.start_soon(k.call, read)
        await anyio.sleep(0.01)
        sys.write(writer, b"written")
        await wait_until(lambda: said)
        assert said == [b"asked, written and told"]


@pytest.mark.anyio
async def test_a_system_call_by_hand_hears_of_interrupts(kernels: Kernels) -> None:
    """The host's doorbell is the loop's, but the loop stands still."""
    kernel = kernels.start()
    done = Completion(kernel, "device")
    async with kernels.running(kernel) as k:
        irq = kernel.lkl_get_free_irq("device")
        await k.call(request_irq, irq, lambda irq: done.complete(), "device")
        reader, writer = kernel.sys.pipe2(0)

        def device() -> None:
            done.wait_for_completion()
            current_kernel().sys.write(writer, b"ready")

        k.spawn(device)
        timer = threading.Timer(0.01, kernel.lkl_trigger_irq, (irq,))
        timer.start()
        assert kernel.sys.read(reader, 10) == b"ready"
        timer.join()


@pytest.mark.anyio
async def test_a_system_call_by_hand_that_only_the_loop_could_end_is_a_deadlock(kernels: Kernels) -> None:
    async with kernels.running() as k:
        reader, _ = k.kernel.sys.pipe2(0)
        with pytest.raises(Deadlock, match=r"`await k\.sys\.read"):
            k.kernel.sys.read(reader, 10)
        assert await k.call(lambda: "the kernel goes on") == "the kernel goes on"


@pytest.mark.anyio
async def test_the_loop_of_one_s_own_is_refused(kernels: Kernels) -> None:
    async with kernels.running() as k:
        for method in (k.kernel.run, k.kernel.pause):
            with pytest.raises(AlreadyEmbedded, match="leave the block"):
                method()
        assert await k.call(lambda: "the kernel goes on") == "the kernel goes on"


@pytest.mark.parametrize("how", HALTS)
@pytest.mark.anyio
async def test_halting_by_hand_ends_what_waits(kernels: Kernels, how: str) -> None:
    ended: list[str] = []

    async def expect_the_end(waiting: Awaitable[object]) -> None:
        with anyio.CancelScope(shield=True), pytest.raises(KernelHalted):
            await waiting
        ended.append("the kernel has halted")

    async def main() -> None:
        async with anyio.create_task_group() as group, kernels.running() as k:
            group.start_soon(expect_the_end, k.call(msleep, 1_000_000))
            group.start_soon(expect_the_end, k.spawn(msleep, 1_000_000).join())
            await anyio.sleep(0.01)
            HALTS[how](k)
            await k.halted()

    if how == "panic()":
        with pytest.raises((KernelPanic, BaseExceptionGroup)) as info:
            await main()
        error = info.value.exceptions[0] if isinstance(info.value, BaseExceptionGroup) else info.value
        assert isinstance(error, KernelPanic)
    else:
        await main()
    assert len(ended) == 2


def test_a_system_call_of_a_guest_s_application_asks_for_a_step(log: list[Any]) -> None:
    wanted = threading.Event()
    with Guest(lkl_start_kernel(loglevel=0), schedule_wakeup=wanted.set) as guest:
        sys = guest.kernel.sys
        reader, writer = sys.pipe2(0)
        guest.spawn(lambda: current_kernel().sys.read(reader, 10), done=lambda result, error: log.append(result))
        guest.step()
        wanted.clear()
        sys.write(writer, b"written")
        assert wanted.is_set()
        guest.step()
        assert log == [b"written"]


# -- what is no kernel, no function, or has gone


@pytest.mark.anyio
async def test_what_is_no_kernel_is_refused(kernels: Kernels) -> None:
    with pytest.raises(TypeError, match="pass what lkl_start_kernel"):
        async with running(lkl_start_kernel):  # type: ignore[arg-type]
            pass
    kernel = kernels.start()
    with pytest.raises(TypeError, match="a function that starts the kernel"):
        async with in_thread(kernel):  # type: ignore[arg-type]
            pass
    kernel.lkl_sys_halt()


@pytest.mark.parametrize("method", ["call", "spawn"])
@pytest.mark.anyio
async def test_what_is_no_function_is_refused_on_the_spot(kernels: Kernels, method: str) -> None:
    async def work() -> None: ...

    async with kernels.running() as k:
        for thing in (None, 5, "work"):
            with pytest.raises(TypeError, match="this is no function; pass the function and its arguments"):
                getattr(k, method)(thing)
        with pytest.raises(TypeError, match=rf"pass the function itself: {method}\(function, \*args\)"):
            getattr(k, method)(work())
        assert await k.call(lambda: "the kernel goes on") == "the kernel goes on"


@pytest.mark.anyio
async def test_a_call_that_nobody_awaits_is_called_by_its_name(kernels: Kernels) -> None:
    async with kernels.running() as k:
        with pytest.warns(RuntimeWarning, match="coroutine 'Embedded.call' was never awaited"):
            k.call(msleep, 1)


def look_at(future: asyncio.Future[None]) -> None:
    future.result()


async def await_a(future: asyncio.Future[None]) -> None:
    await asyncio.sleep(0)
    await future


@pytest.mark.parametrize("function", [look_at, await_a])
@pytest.mark.asyncio
async def test_a_future_that_was_cancelled_is_an_error_of_the_call(
    kernels: Kernels, configuration: dict[str, Any], function: Callable[[Any], Any]
) -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    async with kernels.running(kernels.start(**configuration)) as k:
        with pytest.raises(AwaitCancelled, match=function.__name__):
            await k.call(function, future)
        assert await k.call(lambda: "the kernel goes on") == "the kernel goes on"


@pytest.mark.anyio
async def test_a_call_that_ends_the_application_returns_nothing(kernels: Kernels, log: list[Any]) -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        async with kernels.running() as k:
            log.append(await k.call(leave))
    assert log == []


def test_a_call_after_the_end_of_the_loop_says_so() -> None:
    kernel = lkl_start_kernel(loglevel=0)
    loop = asyncio.new_event_loop()
    block = running(kernel)

    async def enter() -> Embedded:
        return await block.__aenter__()

    k = loop.run_until_complete(enter())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    with pytest.raises(LoopGone, match="is closed"):
        asyncio.run(k.call(msleep, 1))
    kernel.lkl_sys_halt()


async def wait_until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.001)
