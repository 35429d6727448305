"""A kernel as a guest in a loop that is not an event loop of asyncio or trio."""

from __future__ import annotations

import selectors
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green import KernelPanic, RunReason
from lkl_green.embed import Guest, await_, running
from lkl_green.errors import AlreadyEmbedded, KernelHalted, NotEmbedded
from lkl_green.linux import Completion, current_kernel, ktime_get, msleep, request_irq, schedule

if TYPE_CHECKING:
    from tests.embed.conftest import Kernels

DEADLINE_S = 20


def frames(guest: Guest, log: list[Any]) -> None:
    """The loop of a game: a step in each frame."""
    end = time.monotonic() + DEADLINE_S
    while not guest.kernel.halted and time.monotonic() < end:
        guest.step()
        log.append("frame")


def test_a_step_in_each_frame(kernels: Kernels, configuration: dict[str, Any], log: list[Any]) -> None:
    def init() -> str:
        for _ in range(3):
            msleep(1)
        return "done"

    kernel = kernels.start(init, **configuration)
    with Guest(kernel) as guest:
        frames(guest, log)
    assert kernel.init_result == "done"
    assert len(log) > 3


def test_a_step_ends_with_its_budget(kernels: Kernels) -> None:
    def init() -> None:
        while True:
            schedule()

    with Guest(kernels.start(init), budget_ns=100_000) as guest:
        for _ in range(3):
            assert guest.step().reason is RunReason.BUDGET
            assert guest.delay_ns == 0


def test_an_idle_kernel_says_when_it_wants_a_step(kernels: Kernels) -> None:
    with Guest(kernels.start(msleep, 500)) as guest:
        assert guest.delay_ms() == 0
        guest.step()
        assert 0 < guest.delay_ms() <= 500
        assert guest.delay_ms(longest=20) == 20
        assert guest.next_event_ns is not None
    assert guest.next_event_ns is None
    assert guest.delay_ns is None


def test_virtual_time_jumps_from_step_to_step(kernels: Kernels, log: list[Any]) -> None:
    def init() -> int:
        for _ in range(60):
            msleep(60_000)
        return ktime_get() // 10**9

    kernel = kernels.start(init, clock="virtual")
    with Guest(kernel) as guest:
        frames(guest, log)
    assert kernel.init_result == 3600


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


def test_a_callback_says_that_something_has_come(kernels: Kernels) -> None:
    bell = threading.Event()
    kernel = kernels.start(wait_for_device, open_ended=True)
    with Guest(kernel, schedule_wakeup=bell.set) as guest:
        while not kernel.halted:
            guest.step()
            if guest.delay_ns is None and not kernel.halted:
                assert bell.wait(DEADLINE_S), "nobody has told the loop of the interrupt"
                bell.clear()
    assert kernel.init_result == "interrupted"


def test_a_descriptor_says_that_something_has_come(kernels: Kernels) -> None:
    kernel = kernels.start(wait_for_device)
    with Guest(kernel) as guest, selectors.DefaultSelector() as selector:
        selector.register(guest.fileno(), selectors.EVENT_READ)
        while not kernel.halted:
            guest.step()
            if guest.delay_ns is None and not kernel.halted:
                assert selector.select(DEADLINE_S), "nobody has told the loop of the interrupt"
    assert kernel.init_result == "interrupted"


def test_threads_are_started_and_tell_when_they_end(kernels: Kernels, log: list[Any]) -> None:
    def divide(a: int, b: int) -> float:
        msleep(1)
        return a / b

    with Guest(kernels.start()) as guest:
        guest.spawn(divide, 1, 2, done=lambda result, error: log.append((result, type(error))))
        guest.spawn(divide, 1, 0, done=lambda result, error: log.append((result, type(error))))
        end = time.monotonic() + DEADLINE_S
        while len(log) < 2 and time.monotonic() < end:
            guest.step()
    assert log == [(0.5, type(None)), (None, ZeroDivisionError)]


def test_the_end_takes_threads_down(kernels: Kernels, log: list[Any]) -> None:
    def sleeper() -> None:
        try:
            msleep(1_000_000)
        finally:
            log.append("taken down")

    guest = Guest(kernels.start(sleeper))
    guest.step()
    guest.close()
    guest.close()
    assert log == ["taken down"]
    with pytest.raises(KernelHalted):
        guest.spawn(sleeper, done=print)


def test_an_oops_comes_out_of_the_step(kernels: Kernels) -> None:
    def faulty() -> None:
        raise ZeroDivisionError

    with Guest(kernels.start(faulty)) as guest, pytest.raises(KernelPanic):
        guest.step()


def test_nobody_awaits_for_a_guest(kernels: Kernels, log: list[Any]) -> None:
    async def nothing() -> None:
        """Never run."""

    with Guest(kernels.start()) as guest:
        guest.spawn(lambda: await_(nothing()), done=lambda result, error: log.append(type(error)))
        guest.step()
    assert log == [NotEmbedded]


@pytest.mark.anyio
async def test_a_kernel_has_one_driver(kernels: Kernels) -> None:
    kernel = kernels.start()
    with Guest(kernel):
        with pytest.raises(AlreadyEmbedded):
            Guest(kernel)
        with pytest.raises(AlreadyEmbedded):
            async with running(kernel):
                pass
    with pytest.raises(KernelHalted):
        Guest(kernel)
