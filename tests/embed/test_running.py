"""`running()`: a kernel shares an event loop with other tasks, for as long as a block lasts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lkl_green import Deadlock, Kernel, KernelHalted, KernelPanic
from lkl_green.embed import await_, running
from lkl_green.errors import AlreadyEmbedded, WrongThread
from lkl_green.linux import (
    Completion,
    WaitQueueHead,
    current_kernel,
    kthread_run,
    ktime_get,
    msleep,
    request_irq,
    schedule,
    wait_event,
)

if TYPE_CHECKING:
    from tests.embed.conftest import Kernels

pytestmark = pytest.mark.anyio

PATIENCE_NS = 10_000_000_000


async def test_init_runs_while_the_block_lasts_and_the_block_waits_for_it(kernels: Kernels, log: list[Any]) -> None:
    def init() -> str:
        for step in range(3):
            log.append(f"kernel {step}")
            msleep(2)
        return "init is done"

    kernel = kernels.start(init)
    async with kernels.running(kernel):
        log.append("the block is over at once")
    assert log == ["the block is over at once", "kernel 0", "kernel 1", "kernel 2"]
    assert kernel.init_result == "init is done"


async def test_a_kernel_without_init_halts_at_the_end_of_the_block(kernels: Kernels, log: list[Any]) -> None:
    def sleeper() -> None:
        try:
            msleep(1_000_000)
        finally:
            log.append("taken down")

    async with kernels.running() as k:
        k.spawn(sleeper)
        await k.call(log.append, "asleep by now")
    assert log == ["asleep by now", "taken down"]
    assert k.kernel.halted


async def test_other_tasks_run_while_the_kernel_is_saturated(kernels: Kernels) -> None:
    ticks = 0

    async def ticker() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.001)
            ticks += 1

    def busy() -> None:
        end = ktime_get() + PATIENCE_NS
        while ticks < 20 and ktime_get() < end:
            schedule()

    async with kernels.running() as k, anyio.create_task_group() as group:
        group.start_soon(ticker)
        for _ in range(2):
            k.spawn(busy)
        await k.call(busy)
        group.cancel_scope.cancel()
    assert ticks >= 20


@pytest.mark.parametrize("budget", [{"budget_ns": 1}, {"max_switches": 1}, {"budget_ns": 10_000_000}])
async def test_the_budget_of_a_slice_can_be_set(kernels: Kernels, budget: dict[str, int]) -> None:
    def count() -> int:
        for _ in range(300):
            schedule()
        return 300

    async with kernels.running(None, **budget) as k:
        k.spawn(count)
        assert await k.call(count) == 300


@pytest.mark.parametrize("budget", [{"budget_ns": 0}, {"max_switches": -1}])
async def test_a_budget_that_lets_nothing_run_is_refused(kernels: Kernels, budget: dict[str, int]) -> None:
    kernel = kernels.start()
    with pytest.raises(ValueError, match="nothing would ever run"):
        async with running(kernel, **budget):
            pass
    assert kernel.embedding is None
    kernel.lkl_sys_halt()


async def test_an_hour_of_virtual_time_takes_none(kernels: Kernels, log: list[Any]) -> None:
    def init() -> None:
        for _ in range(60):
            msleep(60_000)
        log.append(ktime_get() // 10**9)

    kernel = kernels.start(init, clock="virtual")
    async with kernels.running(kernel):
        pass
    assert log == [3600]


async def test_virtual_time_waits_for_what_the_loop_awaits(kernels: Kernels, log: list[Any]) -> None:
    async def slow_answer() -> str:
        await anyio.sleep(0.02)
        return "answer"

    def asks() -> None:
        log.append((await_(slow_answer()), ktime_get() < 1_000_000_000))

    def sleeps() -> None:
        msleep(1000)
        log.append("a second later")

    def init() -> None:
        kthread_run(sleeps)
        kthread_run(asks)
        msleep(2000)

    async with kernels.running(kernels.start(init, clock="virtual")):
        pass
    assert log == [("answer", True), "a second later"]


async def test_an_interrupt_of_another_os_thread_wakes_the_loop(kernels: Kernels) -> None:
    def wait_for_device() -> str:
        kernel = current_kernel()
        done = Completion()
        irq = kernel.lkl_get_free_irq("device")
        request_irq(irq, lambda irq: done.complete(), "device")
        timer = threading.Timer(0.01, kernel.lkl_trigger_irq, (irq,))
        timer.start()
        done.wait_for_completion()
        timer.join()
        return "interrupted"

    async with kernels.running() as k:
        assert await k.call(wait_for_device) == "interrupted"


async def test_the_kernel_rings_the_loop_within_the_block_and_the_host_outside_of_it(kernels: Kernels) -> None:
    kernel = kernels.start()
    host = kernel.host
    assert host.doorbell == host.idle_wake
    async with kernels.running(kernel):
        assert host.doorbell != host.idle_wake
    assert host.doorbell == host.idle_wake


async def test_a_system_call_of_another_os_thread_is_answered(kernels: Kernels) -> None:
    async with kernels.running() as k:
        assert await anyio.to_thread.run_sync(k.kernel.sys.getpid) == 1


async def test_an_oops_comes_out_of_the_block_and_cancels_it(kernels: Kernels, log: list[Any]) -> None:
    def faulty() -> None:
        msleep(1)
        raise ZeroDivisionError("kernel code")

    kernel = kernels.start()
    with pytest.raises(KernelPanic, match="kernel code") as info:
        async with kernels.running(kernel) as k:
            k.spawn(faulty)
            try:
                await anyio.sleep_forever()
            finally:
                log.append("cancelled")
    assert isinstance(info.value.__cause__, ZeroDivisionError)
    assert log == ["cancelled"]


async def test_an_oops_that_kills_only_its_thread_leaves_the_block_alone(kernels: Kernels) -> None:
    def faulty() -> None:
        raise ZeroDivisionError

    async with kernels.running(kernels.start(on_oops="kill")) as k:
        thread = k.spawn(faulty)
        with pytest.raises(ZeroDivisionError):
            await thread.join()
        assert await k.call(lambda: 1) == 1


async def test_an_exception_of_the_block_comes_out_as_it_is(kernels: Kernels) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with kernels.running() as k:
            k.spawn(msleep, 1000)
            raise LookupError("mine")


async def test_cancelling_the_block_halts_the_kernel(kernels: Kernels, log: list[Any]) -> None:
    def init() -> None:
        try:
            log.append("init sleeps")
            msleep(1_000_000)
        finally:
            log.append("init was taken down")

    async def cancel(scope: anyio.CancelScope) -> None:
        while not log:
            await anyio.sleep(0.001)
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(cancel, group.cancel_scope)
        async with kernels.running(kernels.start(init)):
            await anyio.sleep_forever()
    assert log == ["init sleeps", "init was taken down"]


async def test_cancelling_while_the_block_waits_for_init_halts_the_kernel(kernels: Kernels) -> None:
    with anyio.move_on_after(0.01) as scope:
        async with kernels.running(kernels.start(msleep, 1_000_000)):
            pass
    assert scope.cancelled_caught


async def test_an_init_that_can_never_go_on_is_a_deadlock_once_the_block_is_over(kernels: Kernels) -> None:
    def init() -> None:
        Completion(name="never").wait_for_completion()

    async def work() -> None:
        async with kernels.running(kernels.start(init)) as k:
            assert await k.call(lambda: "not yet: somebody may still call in")

    with pytest.raises(Deadlock, match="never"):
        await work()


async def test_power_off_ends_the_block_early(kernels: Kernels, log: list[Any]) -> None:
    async with kernels.running() as k:
        await k.halt()
        log.append("halted")
        with pytest.raises(KernelHalted, match="has halted"):
            await k.call(log.append, "never")
        with pytest.raises(KernelHalted):
            k.spawn(log.append, "never")
    assert log == ["halted"]


async def test_halted_is_awaited(kernels: Kernels) -> None:
    async with kernels.running(kernels.start(msleep, 1)) as k:
        await k.halted()
        assert k.kernel.halted


async def test_two_drivers_for_one_kernel_are_refused(kernels: Kernels) -> None:
    kernel = kernels.start()
    async with kernels.running(kernel) as k:
        with pytest.raises(AlreadyEmbedded, match="one driver"):
            async with running(kernel):
                pass
        assert await k.call(lambda: "the first one goes on") == "the first one goes on"


async def test_a_halted_kernel_is_refused(kernels: Kernels) -> None:
    kernel = kernels.start()
    kernel.lkl_sys_halt()
    with pytest.raises(KernelHalted, match="start another one"):
        async with running(kernel):
            pass


async def test_a_kernel_of_another_os_thread_is_refused(kernels: Kernels) -> None:
    started: list[Kernel] = []
    leave = threading.Event()

    def owner() -> None:
        started.append(kernels.start())
        leave.wait(20)
        started[0].lkl_sys_halt()

    thread = threading.Thread(target=owner)
    thread.start()
    try:
        while not started:
            await anyio.sleep(0.001)
        with pytest.raises(WrongThread, match=r"does not own.* Start the kernel in the coroutine that runs it"):
            async with running(started[0]):
                pass
    finally:
        leave.set()
        thread.join()


async def test_two_kernels_in_one_loop_do_not_notice_each_other(kernels: Kernels, log: list[Any]) -> None:
    def count(name: str) -> None:
        for step in range(3):
            log.append((name, step))
            msleep(1)

    async with kernels.running() as a, kernels.running() as b, anyio.create_task_group() as group:
        group.start_soon(a.call, count, "a")
        group.start_soon(b.call, count, "b")
    assert [entry for entry in log if entry[0] == "a"] == [("a", 0), ("a", 1), ("a", 2)]
    assert [entry for entry in log if entry[0] == "b"] == [("b", 0), ("b", 1), ("b", 2)]


async def test_a_task_wakes_kernel_threads_by_hand(kernels: Kernels, log: list[Any]) -> None:
    """What `irq` does from other OS threads, a task may do directly, between two slices."""
    kernel = kernels.start()
    queue = WaitQueueHead(kernel)

    async with kernels.running(kernel) as k:
        thread = k.spawn(wait_event, queue, lambda: log)
        await anyio.sleep(0.001)
        log.append("ready")
        await k.call(queue.wake_up)
        await thread.join()
