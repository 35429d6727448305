"""`await_()`: kernel threads wait for what the event loop awaits."""

from __future__ import annotations

import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lkl_green import KernelHalted, KernelPanic
from lkl_green.embed import await_, to_host_thread
from lkl_green.errors import (
    AwaitOutsideKernelThread,
    CoroutineStuck,
    NotEmbedded,
    SchedulingWhileAtomic,
    TaskKilled,
)
from lkl_green.linux import (
    Completion,
    Timer,
    current,
    kthread_run,
    ktime_get,
    msleep,
    preempt_disable,
    preempt_enable,
    schedule,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.embed.conftest import Kernels

pytestmark = pytest.mark.anyio

who: ContextVar[str] = ContextVar("who", default="nobody")


async def answer(value: Any = 42) -> Any:
    return value


async def slow(value: Any = 42) -> Any:
    await anyio.sleep(0.001)
    return value


@pytest.mark.parametrize("coroutine", [answer, slow])
async def test_a_kernel_thread_gets_the_result(
    kernels: Kernels, configuration: dict[str, Any], coroutine: Callable[..., Any]
) -> None:
    def work() -> list[Any]:
        return [await_(coroutine(number)) for number in range(3)]

    async with kernels.running(kernels.start(**configuration)) as k:
        assert await k.call(work) == [0, 1, 2]


async def test_an_exception_is_raised_in_the_kernel_thread(kernels: Kernels, configuration: dict[str, Any]) -> None:
    async def faulty() -> None:
        await anyio.sleep(0)
        raise LookupError("in the loop")

    def work() -> str:
        try:
            await_(faulty())
        except LookupError as error:
            return str(error)
        return "no error"

    async with kernels.running(kernels.start(**configuration)) as k:
        assert await k.call(work) == "in the loop"


async def test_the_kernel_goes_on_while_a_thread_awaits(kernels: Kernels, log: list[Any]) -> None:
    event = anyio.Event()

    def waits() -> None:
        await_(event.wait())
        log.append("the event")

    def works() -> None:
        for step in range(3):
            log.append(step)
            msleep(1)

    async with kernels.running() as k:
        thread = k.spawn(waits)
        await k.call(works)
        event.set()
        await thread.join()
    assert log == [0, 1, 2, "the event"]


async def test_a_time_out_cancels_what_is_awaited(
    kernels: Kernels, configuration: dict[str, Any], log: list[Any]
) -> None:
    async def forever() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cancelled")

    def work() -> str:
        try:
            await_(forever(), timeout_ns=2_000_000)
        except TimeoutError:
            log.append("timed out")
        return await_(answer("and on it goes"), timeout_ns=10**9)

    async with kernels.running(kernels.start(**configuration)) as k:
        assert await k.call(work) == "and on it goes"
    assert log == ["cancelled", "timed out"]


async def test_a_killed_thread_leaves_and_what_it_awaits_is_cancelled(
    kernels: Kernels, configuration: dict[str, Any], log: list[Any]
) -> None:
    begun = anyio.Event()

    async def forever() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cancelled in the loop")

    def work() -> None:
        try:
            await_(forever())
        except TaskKilled:
            log.append("killed in the kernel")
            raise

    async with kernels.running(kernels.start(**configuration)) as k:
        async with anyio.create_task_group() as group:
            group.start_soon(k.call, work)
            await begun.wait()
            group.cancel_scope.cancel()
        while len(log) < 2:
            await anyio.sleep(0.001)
        assert sorted(log) == ["cancelled in the loop", "killed in the kernel"]


async def test_what_was_not_begun_is_closed_when_its_thread_is_killed(kernels: Kernels, log: list[Any]) -> None:
    async def never() -> None:
        log.append("begun")

    def work() -> None:
        await_(never())

    async with kernels.running() as k:
        thread = k.spawn(work)
        await k.call(schedule)  # it has left its request now, and the loop has not begun with it
        await thread.cancel()
    assert log in ([], ["begun"])


async def test_halting_cancels_what_kernel_threads_await(kernels: Kernels, log: list[Any]) -> None:
    begun = []

    async def forever(number: int) -> None:
        begun.append(number)
        try:
            await anyio.sleep_forever()
        finally:
            log.append(number)

    async with kernels.running() as k:
        for number in range(3):
            k.spawn(lambda number=number: await_(forever(number)))
        while len(begun) < 3:
            await anyio.sleep(0.001)
    assert sorted(log) == [0, 1, 2]


async def test_a_coroutine_that_ignores_its_cancellation_is_named(kernels: Kernels) -> None:
    begun, leave = anyio.Event(), anyio.Event()

    async def stubborn() -> None:
        begun.set()
        with anyio.CancelScope(shield=True):
            while not leave.is_set():
                with suppress(anyio.get_cancelled_exc_class()):
                    await leave.wait()

    try:
        with pytest.raises(CoroutineStuck, match="stubborn") as info:
            async with kernels.running(None, halt_timeout_s=0.02) as k:
                k.spawn(lambda: await_(stubborn()))
                await begun.wait()
        assert len(info.value.coroutines) == 1
    finally:
        leave.set()
        await anyio.sleep(0.002)


async def test_async_functions_are_kernel_threads(kernels: Kernels, configuration: dict[str, Any]) -> None:
    async def work(number: int) -> int:
        await anyio.sleep(0.001)
        return number + await slow(1)

    async with kernels.running(kernels.start(**configuration)) as k:
        assert await k.call(work, 41) == 42


async def test_a_task_that_awaits_for_a_kernel_thread_is_a_task_like_any_other(kernels: Kernels) -> None:
    async def nested() -> list[int]:
        results: list[int] = []

        async def one(number: int) -> None:
            await anyio.sleep(0.001)
            results.append(number)

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(one, number)
        with anyio.move_on_after(0.001):
            await anyio.sleep_forever()
        return sorted(results)

    async with kernels.running() as k:
        assert await k.call(lambda: [await_(nested()), await_(nested())]) == [[0, 1, 2], [0, 1, 2]]


async def test_context_variables_follow_the_kernel_thread(kernels: Kernels, configuration: dict[str, Any]) -> None:
    async def change(name: str) -> str:
        seen = who.get()
        await anyio.sleep(0)
        who.set(name)
        return seen

    def work() -> list[str]:
        who.set("thread")
        return [await_(change("first")), who.get(), await_(change("second")), who.get()]

    async with kernels.running(kernels.start(**configuration)) as k:
        assert await k.call(work) == ["thread", "first", "first", "second"]
        assert who.get() == "nobody"


async def test_a_blocking_function_runs_on_an_os_thread(kernels: Kernels) -> None:
    meanwhile = threading.Event()

    def blocks(here: int) -> bool:
        return meanwhile.wait(10) and threading.get_ident() != here

    def other() -> None:
        msleep(1)
        meanwhile.set()

    async with kernels.running() as k:
        k.spawn(other)
        assert await k.call(lambda: to_host_thread(blocks, threading.get_ident()))


async def test_what_a_blocking_function_raises_is_raised(kernels: Kernels) -> None:
    async with kernels.running() as k:
        with pytest.raises(ValueError, match="invalid literal"):
            await k.call(lambda: to_host_thread(int, "x"))


async def test_futures_and_events_of_the_loop_are_awaited(kernels: Kernels) -> None:
    event = anyio.Event()
    async with kernels.running() as k, anyio.create_task_group() as group:
        group.start_soon(k.call, lambda: await_(event.wait()))
        await anyio.sleep(0.001)
        event.set()


async def test_await_is_for_kernel_threads(kernels: Kernels) -> None:
    with pytest.raises(AwaitOutsideKernelThread, match="says `await`"):
        await_(answer())
    async with kernels.running():
        with pytest.raises(AwaitOutsideKernelThread):
            await_(answer())


async def test_await_needs_an_event_loop(kernels: Kernels) -> None:
    kernel = kernels.start(lambda: await_(answer()))
    with pytest.raises(KernelPanic, match="which no event loop runs") as info:
        kernel.run()
    assert isinstance(info.value.__cause__, NotEmbedded)


async def test_await_is_a_sleep_and_forbidden_where_sleeping_is(kernels: Kernels) -> None:
    def atomic() -> None:
        preempt_disable()
        try:
            await_(answer())
        finally:
            preempt_enable()

    def in_a_timer() -> str:
        errors: list[str] = []

        def callback(_timer: Timer) -> None:
            try:
                await_(answer())
            except SchedulingWhileAtomic as error:
                errors.append(str(error))

        timer = Timer(callback)
        timer.add_timer(ktime_get() + 1000)
        msleep(1)
        return errors[0]

    async with kernels.running() as k:
        with pytest.raises(SchedulingWhileAtomic):
            await k.call(atomic)
        assert "must not sleep" in await k.call(in_a_timer)


async def test_what_cannot_be_awaited_is_refused(kernels: Kernels) -> None:
    async with kernels.running() as k:
        with pytest.raises(TypeError, match="cannot be awaited"):
            await k.call(lambda: await_(42))  # type: ignore[arg-type]


async def test_threads_that_threads_have_made_await_as_well(kernels: Kernels, log: list[Any]) -> None:
    def child(number: int, done: Completion) -> None:
        log.append((await_(slow(number)), current().comm))
        done.complete()

    def parent() -> None:
        done = Completion()
        for number in range(3):
            kthread_run(child, number, done, name="child/%d")
        for _ in range(3):
            done.wait_for_completion()

    async with kernels.running() as k:
        await k.call(parent)
    assert sorted(log) == [(0, "child/0"), (1, "child/1"), (2, "child/2")]


async def test_an_await_after_the_kernel_was_told_to_halt_is_not_begun(kernels: Kernels, log: list[Any]) -> None:
    def work() -> None:
        try:
            msleep(1_000_000)
        finally:
            await_(answer(log.append("awaited")))

    async with kernels.running() as k:
        thread = k.spawn(work)
        await anyio.sleep(0.001)
        await k.halt()
        with pytest.raises(KernelHalted):
            await thread.join()
