"""Who calls into the kernel may rely on it: what a cancelled call awaited has ended, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lkl_green import KernelHalted, KernelPanic
from lkl_green.embed import await_
from lkl_green.errors import CoroutineStuck
from lkl_green.linux import Completion, kthread_should_stop, msleep, schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.embed.conftest import Kernels

pytestmark = pytest.mark.anyio

SWITCHES = ["direct", "semaphore"]


def fails() -> None:
    raise ZeroDivisionError


def flat(error: BaseException) -> list[BaseException]:
    """The errors in a group, and in groups in it."""
    if isinstance(error, BaseExceptionGroup):
        return [each for inner in error.exceptions for each in flat(inner)]
    return [error]


# -- a panic comes out at once


def sleeps_in_kernel() -> None:
    msleep(100_000)


def awaits() -> None:
    await_(anyio.sleep(100))


async def sleeps_in_loop() -> None:
    await anyio.sleep(100)


PENDING = [sleeps_in_kernel, awaits, sleeps_in_loop]


@pytest.mark.parametrize("pending", PENDING, ids=lambda function: function.__name__)
async def test_a_panic_beside_pending_calls_in_a_group(kernels: Kernels, pending: Callable[[], Any]) -> None:
    with pytest.raises(KernelPanic, match="ZeroDivisionError"):
        async with kernels.running() as k, anyio.create_task_group() as group:
            group.start_soon(k.call, pending)
            group.start_soon(k.call, pending)
            await anyio.sleep(0.01)
            k.spawn(fails)
            await anyio.sleep(10)


# -- killed means: what was awaited has ended


class Query:
    """Something awaited that takes a while to clean up."""

    def __init__(self) -> None:
        self.log: list[str] = []

    async def __call__(self) -> None:
        self.log.append("begin")
        try:
            await anyio.sleep(10)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.02)
            self.log.append("end")

    def awaited(self) -> None:
        await_(self())

    def awaited_twice_over(self) -> None:
        async def outer() -> None:
            await anyio.sleep(0)
            await_(self())

        await_(outer())

    async def awaited_by_coroutine(self) -> None:
        with anyio.move_on_after(10):
            await anyio.sleep(0)
            await_(self())

    async def in_a_group(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self)
            await anyio.sleep(0)
            msleep(10_000)

    async def after_kernel_sleep(self) -> None:
        try:
            msleep(10_000)
        finally:
            with anyio.CancelScope(shield=True):
                self.log.append("begin")
                await anyio.sleep(0.01)
            self.log.append("end")


QUERIES = ["__call__", "awaited", "awaited_by_coroutine", "in_a_group", "after_kernel_sleep"]


@pytest.mark.parametrize("how", QUERIES)
@pytest.mark.parametrize("switch", SWITCHES)
async def test_a_cancelled_call_returns_when_what_it_awaited_has_ended(kernels: Kernels, how: str, switch: str) -> None:
    query = Query()
    async with kernels.running(kernels.start(switch=switch)) as k:
        for _ in range(2):
            query.log.clear()
            with anyio.move_on_after(0.03) as scope:
                await k.call(query if how == "__call__" else getattr(query, how))
            assert scope.cancelled_caught
            assert query.log == ["begin", "end"]
        assert await k.call(lambda: 1) == 1, "the kernel goes on"


async def test_a_cancelled_thread_has_ended_too(kernels: Kernels) -> None:
    query = Query()
    async with kernels.running() as k:
        for how in (query.awaited, query.after_kernel_sleep, query.in_a_group):
            query.log.clear()
            thread = k.spawn(how)
            await anyio.sleep(0.01)
            await thread.cancel()
            assert query.log == ["begin", "end"]
            with pytest.raises(KernelHalted, match="taken down"):
                await thread.join()


@pytest.mark.parametrize("end", ["block", "error", "cancelled", "halt"])
@pytest.mark.parametrize("how", ["__call__", "in_a_group", "after_kernel_sleep"])
async def test_the_end_of_the_block_lets_coroutines_clean_up_in_their_tasks(
    kernels: Kernels, how: str, end: str
) -> None:
    query = Query()
    left: list[BaseException] = []
    with anyio.CancelScope() as scope:
        try:
            async with kernels.running() as k:
                k.spawn(query if how == "__call__" else getattr(query, how))
                await anyio.sleep(0.02)
                if end == "error":
                    raise LookupError
                if end == "cancelled":
                    scope.cancel()
                    await anyio.sleep(1)
                if end == "halt":
                    await k.halt()
        except LookupError as error:
            left.append(error)
    assert query.log == ["begin", "end"]
    assert bool(left) == (end == "error")
    assert scope.cancelled_caught == (end == "cancelled")


async def test_what_never_ends_is_named(kernels: Kernels) -> None:
    async def never() -> None:
        with anyio.CancelScope(shield=True):
            for _ in range(3):
                try:
                    await anyio.sleep(0.5)
                except anyio.get_cancelled_exc_class():  # asyncio's own cancellation knows no shields
                    continue

    with pytest.raises(CoroutineStuck, match="await_"):
        async with kernels.running(halt_timeout_s=0.05) as k:
            with anyio.move_on_after(0.01):
                await k.call(lambda: await_(never()))


# -- what is awaited lets nothing out but cancellation


def leave_with(error: BaseException) -> Callable[[], None]:
    async def leave() -> None:
        raise error

    def thread() -> None:
        await_(leave())

    return thread


class Leaves(BaseException):
    """Neither an error of the program nor a cancellation."""


@pytest.mark.parametrize("error", [Leaves(), BaseExceptionGroup("both", [Leaves(), ValueError()])], ids=str)
async def test_other_exceptions_go_to_the_waiting_thread(kernels: Kernels, error: BaseException) -> None:
    seen: list[BaseException] = []

    def thread() -> None:
        try:
            leave_with(error)()
        except BaseException as raised:
            seen.append(raised)

    async with kernels.running() as k:
        await k.call(thread)
    assert [type(each) for each in flat(seen[0])] == [type(each) for each in flat(error)]


async def test_the_program_ends_of_system_exit_in_what_is_awaited(kernels: Kernels) -> None:
    with pytest.raises(SystemExit) as left:
        async with kernels.running() as k:
            await k.call(leave_with(SystemExit(7)))
    assert left.value.code == 7


async def test_an_error_in_clean_up_beside_a_cancellation(kernels: Kernels) -> None:
    async def bad_clean_up() -> None:
        try:
            await anyio.sleep(10)
        finally:
            raise ValueError("clean-up failed")

    async def work() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(bad_clean_up)
            group.start_soon(anyio.sleep, 10)

    async with kernels.running() as k:
        with anyio.move_on_after(0.02):
            await k.call(lambda: await_(work()))
        assert await k.call(lambda: 1) == 1


# -- waiting


async def test_all_who_join_a_thread_go_on(kernels: Kernels) -> None:
    joined: list[int] = []

    async def join(number: int) -> None:
        joined.append(number + await thread.join())

    async with kernels.running() as k, anyio.create_task_group() as group:
        thread = k.spawn(lambda: msleep(20) or 10)
        for number in range(3):
            group.start_soon(join, number)
    assert sorted(joined) == [10, 11, 12]


async def test_a_joiner_and_a_canceller_both_go_on(kernels: Kernels) -> None:
    async def join() -> None:
        with pytest.raises(KernelHalted, match="taken down"):
            await thread.join()

    async with kernels.running() as k, anyio.create_task_group() as group:
        thread = k.spawn(msleep, 10_000)
        group.start_soon(join)
        await anyio.sleep(0.01)
        await thread.cancel()


# -- asyncio alone


def run_in_asyncio(main: Callable[[], Coroutine[Any, Any, Any]], factory: Any = None) -> Any:
    async def limited() -> Any:
        if factory is not None:
            asyncio.get_running_loop().set_task_factory(factory)
        async with asyncio.timeout(10):
            return await main()

    return asyncio.run(limited())


def test_a_time_out_that_is_over_hits_nothing_behind_it(kernels: Kernels) -> None:
    async def late() -> str:
        async with asyncio.timeout(0.01):
            msleep(30)
        await asyncio.sleep(0)
        return "ok"

    async def group() -> str:
        async def fails() -> None:
            raise ValueError

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                await asyncio.sleep(0)
                msleep(10)
        except* ValueError:
            pass
        await asyncio.sleep(0)
        return "ok"

    async def main() -> None:
        async with kernels.running() as k:
            assert await k.call(late) == "ok"
            assert await k.call(group) == "ok"

    run_in_asyncio(main)


def test_cancelling_twice_does_not_let_the_caller_go_early(kernels: Kernels) -> None:
    log: list[str] = []

    def thread() -> None:
        try:
            msleep(10_000)
        finally:
            log.append("end")

    async def main() -> None:
        async with kernels.running(max_switches=1) as k:
            busy = [k.spawn(spin) for _ in range(50)]
            task = asyncio.create_task(k.call(thread))
            await asyncio.sleep(0.02)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert log == ["end"]
            for each in busy:
                await each.cancel()

    def spin() -> None:
        while not kthread_should_stop():
            schedule()

    run_in_asyncio(main)


@pytest.mark.parametrize("kind", ["without context", "eager"])
def test_any_task_factory_will_do(kernels: Kernels, kind: str) -> None:
    if kind == "eager" and sys.version_info < (3, 12):
        pytest.skip("eager tasks are new in Python 3.12")

    async def quick() -> int:
        return 1

    async def awaiting() -> int:
        await asyncio.sleep(0)
        return await_(quick()) + await_(quick())

    async def main() -> None:
        async with kernels.running() as k:
            results = await asyncio.gather(*(k.call(lambda: await_(quick()) + await_(quick())) for _ in range(2)))
            assert results == [2, 2]
            assert await k.call(awaiting) == 2

    def without_context(loop: Any, coroutine: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coroutine, loop=loop)

    eager = getattr(asyncio, "eager_task_factory", None)
    run_in_asyncio(main, eager if kind == "eager" else without_context)


async def test_a_completion_is_not_lost_with_its_waiter(kernels: Kernels) -> None:
    """It was taken, and the task that was to have it is cancelled in the same turn of the loop."""
    completion = Completion()
    got: list[bool] = []

    async def wait() -> None:
        await k.wait(completion)
        got.append(True)

    async with kernels.running() as k:
        for _ in range(20):
            got.clear()
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.sleep(0.002)
                await k.call(completion.complete)
                group.cancel_scope.cancel()
            if not got:
                with anyio.fail_after(1):
                    await k.wait(completion)


CTRL_C = """
import signal, trio
from lkl_green import lkl_start_kernel
from lkl_green.embed import running

def compute():
    signal.raise_signal(signal.SIGINT)
    for _ in range(100_000):
        pass
    print("not interrupted")

async def main():
    async with running(lkl_start_kernel(loglevel=0)) as k:
        await k.call(compute)

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    trio.run(main)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_interrupts_a_thread_that_computes_under_trio() -> None:
    pytest.importorskip("trio")
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
