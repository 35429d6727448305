"""Calls from async code into the kernel: results, exceptions, cancellation, and what a called thread is."""

from __future__ import annotations

import errno
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lkl_green import HaltTimeout, KernelHalted
from lkl_green.errors import KernelBug, TaskKilled, WrongLoop
from lkl_green.kernel.unistd import NR_getpid
from lkl_green.linux import (
    SIGKILL,
    Completion,
    Mutex,
    Semaphore,
    current,
    current_kernel,
    do_exit,
    kthread_run,
    kthread_should_stop,
    kthread_stop,
    msleep,
    preempt_disable,
    schedule,
    send_sig,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.embed.conftest import Kernels

pytestmark = pytest.mark.anyio

who: ContextVar[str] = ContextVar("who", default="nobody")


async def test_a_call_runs_in_a_kernel_thread_and_returns_its_result(
    kernels: Kernels, configuration: dict[str, Any]
) -> None:
    def work(a: int, b: int) -> tuple[int, str]:
        msleep(1)
        return a * b, current().comm

    async with kernels.running(kernels.start(**configuration)) as k:
        assert await k.call(work, 6, 7) == (42, "work")
        assert await k.call(work, 1, 2, name="by another name") == (2, "by another name")


async def test_an_exception_is_raised_in_the_caller_and_is_no_oops(
    kernels: Kernels, configuration: dict[str, Any]
) -> None:
    def faulty() -> None:
        msleep(1)
        raise LookupError("not here")

    async with kernels.running(kernels.start(**configuration)) as k:
        for _ in range(2):
            with pytest.raises(LookupError, match="not here"):
                await k.call(faulty)
        assert k.kernel.printk.tainted == 0


async def test_do_exit_ends_the_call_with_its_code(kernels: Kernels) -> None:
    async with kernels.running() as k:
        assert await k.call(do_exit, 5) == 5


async def test_many_calls_at_once_sleep_side_by_side(kernels: Kernels, configuration: dict[str, Any]) -> None:
    results: list[int] = []

    def work(number: int) -> int:
        msleep(5 - number % 5)
        return number

    async with kernels.running(kernels.start(**configuration)) as k:

        async def one(number: int) -> None:
            results.append(await k.call(work, number))

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(one, number)
    assert sorted(results) == list(range(100))


async def test_cancelling_a_call_takes_its_thread_down_and_not_the_kernel(
    kernels: Kernels, configuration: dict[str, Any], log: list[Any]
) -> None:
    def sleeper() -> None:
        try:
            msleep(1_000_000)
        except TaskKilled:
            log.append("killed")
            raise
        finally:
            log.append("cleaned up")

    async with kernels.running(kernels.start(**configuration)) as k:
        with anyio.move_on_after(0.01) as scope:
            await k.call(sleeper)
        assert scope.cancelled_caught
        assert log == ["killed", "cleaned up"]
        assert await k.call(lambda: "the kernel goes on") == "the kernel goes on"


def in_a_completion() -> None:
    Completion(name="never").wait_for_completion()


def in_a_semaphore() -> None:
    Semaphore(0).down()


def in_a_killable_sleep() -> None:
    Completion(name="never").wait_for_completion_killable()


def while_it_runs() -> None:
    while True:
        schedule()


def in_the_end_of_a_killed_thread() -> None:
    try:
        msleep(1_000_000)
    finally:
        msleep(1_000_000)


def in_a_thread_that_swallows_it() -> None:
    while True:
        try:
            msleep(1_000_000)
        except TaskKilled:
            continue


@pytest.mark.parametrize(
    "sleep",
    [in_a_completion, in_a_semaphore, in_a_killable_sleep, while_it_runs, in_the_end_of_a_killed_thread],
)
async def test_cancelling_ends_every_kind_of_sleep(
    kernels: Kernels, configuration: dict[str, Any], sleep: Callable[[], None]
) -> None:
    async with kernels.running(kernels.start(**configuration)) as k:
        with anyio.move_on_after(0.005) as scope:
            await k.call(sleep)
        assert scope.cancelled_caught
        tasks = [task for task in k.kernel.pids if task.comm == sleep.__name__[:15]]
        assert not tasks, "the cancelled caller has not waited for the end of its thread"


async def test_a_thread_that_swallows_its_end_is_given_up(kernels: Kernels) -> None:
    kernel = kernels.start()
    with pytest.raises(HaltTimeout, match="in_a_thread_tha"):
        async with kernels.running(kernel, halt_timeout_s=0.1) as k:
            with anyio.move_on_after(0.005) as scope:
                await k.call(in_a_thread_that_swallows_it)
            assert scope.cancelled_caught
            assert await k.call(lambda: "the kernel goes on") == "the kernel goes on"
            # It is never resumed. The kernel keeps it, because collecting its frames would run them.
            assert [task.comm for task in kernel.reboot.abandoned] == ["in_a_thread_tha"]


async def test_a_caller_that_is_cancelled_before_it_begins_calls_nothing(kernels: Kernels, log: list[Any]) -> None:
    async with kernels.running() as k:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await k.call(log.append, "never")
        assert log == []


async def test_a_mutex_is_released_when_its_holder_is_cancelled(kernels: Kernels) -> None:
    kernel = kernels.start()
    lock = Mutex(kernel)

    def hold() -> None:
        with lock:
            msleep(1_000_000)

    def take() -> str:
        with lock:
            return "mine"

    async with kernels.running(kernel) as k:
        async with anyio.create_task_group() as group:
            group.start_soon(k.call, hold)
            await anyio.sleep(0.002)
            group.cancel_scope.cancel()
        assert await k.call(take) == "mine"


async def test_context_variables_are_the_callers(kernels: Kernels, configuration: dict[str, Any]) -> None:
    def work() -> str:
        seen = who.get()
        who.set("kernel thread")
        msleep(1)
        return f"{seen}, then {who.get()}"

    async with kernels.running(kernels.start(**configuration)) as k:
        for name in ("alice", "bob"):
            who.set(name)
            assert await k.call(work) == f"{name}, then kernel thread"
            assert who.get() == name


async def test_a_reused_thread_looks_like_a_new_one(kernels: Kernels, configuration: dict[str, Any]) -> None:
    def look() -> tuple[Any, ...]:
        task = current()
        found = (task.comm, task.preempt_count, task.signals, task.prio, kthread_should_stop(), who.get())
        who.set("somebody else")
        return found

    async with kernels.running(kernels.start(**configuration)) as k:
        first = await k.call(look)
        for _ in range(3):
            assert await k.call(look) == first
        assert len([task for task in k.kernel.pids if task.pid > 3]) == 1, "four calls in a row need one thread"


async def test_a_thread_with_something_left_is_not_reused(kernels: Kernels) -> None:
    async with kernels.running(kernels.start(loglevel=0)) as k:
        await k.call(preempt_disable)
        assert await k.call(lambda: current().preempt_count) == 0
        await k.call(Mutex(k.kernel).lock)
        assert await k.call(lambda: current().locks_held) == 0
        assert k.kernel.printk.tainted == 2, "exiting with a lock held, or without preemption, is worth a warning"


async def test_idle_workers_are_limited(kernels: Kernels) -> None:
    kernel = kernels.start()
    go = Completion(kernel, "go")
    async with kernels.running(kernel) as k:
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(k.wait, go)
            await anyio.sleep(0.01)
            await k.call(go.complete_all)
        assert len(k.kernel.pids) == 3 + 64


async def test_kernel_code_stops_the_thread_of_a_call(kernels: Kernels) -> None:
    def work() -> str:
        while not kthread_should_stop():
            msleep(1)
        return "stopped when asked"

    async with kernels.running() as k:
        thread = k.spawn(work)
        assert await k.call(kthread_stop, thread.task) == "stopped when asked"
        assert await thread.join() == "stopped when asked"
        assert await k.call(kthread_stop, thread.task) == "stopped when asked"


async def test_a_thread_that_waits_for_the_next_call_cannot_be_stopped(kernels: Kernels) -> None:
    async with kernels.running() as k:
        idle = await k.call(current)

        def stop() -> str:
            with pytest.raises(KernelBug, match="was not made by kthread_create"):
                kthread_stop(idle)
            return "refused"

        assert await k.spawn(stop).join() == "refused"


async def test_spawned_threads_are_joined_and_cancelled(
    kernels: Kernels, configuration: dict[str, Any], log: list[Any]
) -> None:
    def work(ms: int) -> int:
        try:
            msleep(ms)
        finally:
            log.append(ms)
        return ms

    async with kernels.running(kernels.start(**configuration)) as k:
        short, long = k.spawn(work, 1), k.spawn(work, 1_000_000)
        assert await short.join() == 1
        with anyio.move_on_after(0.002):
            await long.join()
        assert log == [1], "cancelling join() leaves the thread alone"
        await long.cancel()
        assert log == [1, 1_000_000]
        with pytest.raises(KernelHalted, match="taken down"):
            await long.join()
        assert "ended" in repr(long)


async def test_a_thread_that_never_ran_is_cancelled(kernels: Kernels, log: list[Any]) -> None:
    async with kernels.running() as k:
        thread = k.spawn(log.append, "never")
        await thread.cancel()
        with pytest.raises(KernelHalted):
            await thread.join()
    assert log == []


async def test_system_calls_are_those_of_a_thread_of_init(kernels: Kernels) -> None:
    async with kernels.running() as k:
        assert await k.syscall(NR_getpid) == 1
        assert await k.syscall(99999) == -errno.ENOSYS
        assert await k.sys.getpid() == 1
        await k.sys.nanosleep(1000)
        with pytest.raises(ProcessLookupError):
            await k.sys.kill(99999, SIGKILL)
        with pytest.raises(AttributeError):
            k.sys.no_such_call


async def test_waiting_for_a_completion_and_giving_up(kernels: Kernels) -> None:
    kernel = kernels.start()
    done = Completion(kernel, "done")

    def later() -> None:
        msleep(1)
        done.complete()

    async with kernels.running(kernel) as k:
        with anyio.move_on_after(0.002):
            await k.wait(done)
        k.spawn(later)
        await k.wait(done)
        assert not done.completion_done(), "he who gave up has not taken it"


async def test_a_call_of_a_task_outside_the_block_ends_when_the_kernel_halts(kernels: Kernels) -> None:
    errors: list[str] = []
    begun = anyio.Event()

    def sleeper() -> None:
        begun.set()
        msleep(1_000_000)

    async def outside(k: Any) -> None:
        try:
            await k.call(sleeper)
        except KernelHalted as error:
            errors.append(str(error))

    async with anyio.create_task_group() as group, kernels.running() as k:
        group.start_soon(outside, k)
        await begun.wait()
    assert len(errors) == 1
    assert "taken down" in errors[0]


async def test_calls_from_another_event_loop_are_refused(kernels: Kernels) -> None:
    async with kernels.running() as k:

        def elsewhere() -> str:
            try:
                anyio.run(k.call, current)
            except WrongLoop as error:
                return str(error)
            return "no error"

        assert "another event loop" in await anyio.to_thread.run_sync(elsewhere)


async def test_nothing_is_kept_of_what_has_ended(kernels: Kernels) -> None:
    """Neither of calls that somebody awaited nor of threads that nobody did: at the end of the block all is done."""
    async with kernels.running() as k:
        pending = k.kernel.embedding.driver.pending
        k.spawn(msleep, 1)
        assert len(pending) == 1
        await k.call(lambda: None)
        await k.call(msleep, 3)
        assert not pending


async def test_kernel_threads_of_a_call_are_killed_by_nobody_else(kernels: Kernels) -> None:
    """Children outlive the call, like the children of any kernel thread."""

    def parent(log: list[str]) -> None:
        kthread_run(child, log)

    def child(log: list[str]) -> None:
        msleep(100)
        log.append(current().comm)

    log: list[str] = []
    async with kernels.running() as k:
        await k.call(parent, log)
        assert log == []
        await k.call(msleep, 200)
        assert log == ["kthread"]


async def test_sigkill_is_no_business_of_kernel_threads(kernels: Kernels) -> None:
    async with kernels.running() as k:
        thread = k.spawn(msleep, 5)
        await k.call(lambda: send_sig(SIGKILL, thread.task))
        await thread.join()
        assert await k.call(lambda: current_kernel().name) == "lkl0"
