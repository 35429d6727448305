"""A kernel inside an event loop: what calling it costs, and what it costs the loop."""

from __future__ import annotations

import asyncio
import threading
from itertools import repeat
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import anyio

from benchmarks.row import Figure, Row
from lkl_green.embed import Embedded, await_, running
from lkl_green.linux import Completion, Semaphore, current_kernel, kthread_run, msleep, request_irq, schedule

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.configurations import Configuration

MS = 1_000_000


def _nothing() -> None:
    """A function that is called."""


async def _no_coroutine() -> None:
    """A coroutine that is awaited."""


def _in_loop(backend: str, configuration: Configuration, program: Callable[[Embedded], Awaitable[Any]]) -> Any:
    """Run `program` in an event loop that runs a kernel."""

    async def main() -> Any:
        async with running(configuration.start()) as k:
            return await program(k)

    return anyio.run(main, backend=backend)


def _call(backend: str) -> Callable[[Configuration, int], float]:
    """`await k.call(noop)`, one after another."""

    def measure(configuration: Configuration, n: int) -> float:
        async def program(k: Embedded) -> float:
            await k.call(_nothing)
            begin = configuration.now_ns()
            for _ in repeat(None, n):
                await k.call(_nothing)
            return (configuration.now_ns() - begin) / n

        time: float = _in_loop(backend, configuration, program)
        return time

    return measure


def _await(backend: str) -> Callable[[Configuration, int], float]:
    """A kernel thread awaits one coroutine after another."""

    def measure(configuration: Configuration, n: int) -> float:
        def work() -> float:
            await_(_no_coroutine())
            begin = configuration.now_ns()
            for _ in repeat(None, n):
                await_(_no_coroutine())
            return (configuration.now_ns() - begin) / n

        time: float = _in_loop(backend, configuration, lambda k: k.call(work))
        return time

    return measure


def _ping_pong(configuration: Configuration, rounds: int) -> float:
    ping, pong = Semaphore(0), Semaphore(0)

    def theirs() -> None:
        for _ in repeat(None, rounds):
            ping.down()
            pong.up()

    kthread_run(theirs)
    schedule()
    begin = configuration.now_ns()
    for _ in repeat(None, rounds):
        ping.up()
        pong.down()
    return (configuration.now_ns() - begin) / rounds


def ping_pong_inside(configuration: Configuration, n: int) -> Figure:
    """The same ping-pong inside a loop and outside of it, in turns."""
    ratios = []
    for _ in range(7):
        outside = configuration.run(lambda: _ping_pong(configuration, n))
        inside = _in_loop("asyncio", configuration, lambda k: k.call(_ping_pong, configuration, n))
        ratios.append(inside / outside)
    ratio = median(ratios)
    return Figure(ratio, f"{ratio:.2f}x outside")


def ticker(configuration: Configuration, n: int) -> Figure:
    """How late a ticker of a millisecond is while two kernel threads saturate the kernel: the 99th percentile."""

    def busy(over: list[bool]) -> None:
        while not over:
            schedule()

    async def program(k: Embedded) -> list[float]:
        over: list[bool] = []
        late = []
        for _ in range(2):
            k.spawn(busy, over)
        for _ in repeat(None, n):
            begin = perf_counter_ns()
            await asyncio.sleep(0.001)
            late.append((perf_counter_ns() - begin) / MS - 1)
        over.append(True)
        return sorted(late)

    late = _in_loop("asyncio", configuration, program)
    value = late[int(len(late) * 0.99)]
    return Figure(value, f"{value:.2f} ms late")


def sleep_accuracy(configuration: Configuration, n: int) -> Figure:
    """How much later msleep(1) in a loop ends than asyncio.sleep(0.001) there: the difference of the medians."""

    def sleeps() -> float:
        times = []
        for _ in repeat(None, n):
            begin = perf_counter_ns()
            msleep(1)
            times.append(perf_counter_ns() - begin)
        return median(times) / MS

    async def program(k: Embedded) -> tuple[float, float]:
        times = []
        for _ in repeat(None, n):
            begin = perf_counter_ns()
            await asyncio.sleep(0.001)
            times.append(perf_counter_ns() - begin)
        return median(times) / MS, await k.call(sleeps)

    theirs, ours = _in_loop("asyncio", configuration, program)
    return Figure(ours - theirs, f"{ours - theirs:+.3f} ms (asyncio.sleep: {theirs:.2f})")


class _Partner:
    """An OS thread that answers each request by calling `ring()`."""

    def __init__(self, ring: Callable[[], object]) -> None:
        self._asked = threading.Semaphore(0)
        self._ring = ring
        self._thread = threading.Thread(target=self._work)
        self._over = False
        self._thread.start()

    def ask(self) -> None:
        self._asked.release()

    def close(self) -> None:
        self._over = True
        self._asked.release()
        self._thread.join()

    def _work(self) -> None:
        while True:
            self._asked.acquire()
            if self._over:
                return
            self._ring()


def wake_up(configuration: Configuration, n: int) -> Figure:
    """From asking another OS thread to its interrupt in the kernel, against a callback by call_soon_threadsafe()."""

    def by_interrupt() -> float:
        kernel = current_kernel()
        irq = kernel.lkl_get_free_irq("bench")
        done = Completion()
        request_irq(irq, lambda irq: done.complete(), "bench")
        partner = _Partner(lambda: kernel.lkl_trigger_irq(irq))
        times = []
        for _ in repeat(None, n):
            begin = perf_counter_ns()
            partner.ask()
            done.wait_for_completion()
            times.append(perf_counter_ns() - begin)
        partner.close()
        return median(times)

    async def by_callback() -> float:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None]
        partner = _Partner(lambda: loop.call_soon_threadsafe(future.set_result, None))
        times = []
        for _ in repeat(None, n):
            future = loop.create_future()
            begin = perf_counter_ns()
            partner.ask()
            await future
            times.append(perf_counter_ns() - begin)
        partner.close()
        return median(times)

    async def program(k: Embedded) -> float:
        return median([await k.call(by_interrupt) / await by_callback() for _ in range(7)])

    ratio: float = _in_loop("asyncio", configuration, program)
    return Figure(ratio, f"{ratio:.2f}x call_soon_threadsafe")


ROWS = (
    Row("embed_call_asyncio", "await k.call(noop), asyncio", _call("asyncio"), 5_000, target=40),
    Row("embed_call_trio", "await k.call(noop), trio", _call("trio"), 5_000, target=60),
    Row("embed_await_asyncio", "await_(noop coroutine), asyncio", _await("asyncio"), 5_000, target=40),
    Row("embed_await_trio", "await_(noop coroutine), trio", _await("trio"), 5_000, target=60),
    Row(
        "embed_ping_pong",
        "ping-pong inside a loop",
        ping_pong_inside,
        20_000,
        n_threads=500,
        target=1.2,
        target_text="1.2x",
        alone=True,
    ),
    Row(
        "embed_ticker",
        "1 ms ticker, kernel saturated, p99",
        ticker,
        1_000,
        target=2,
        target_text="2 ms",
        alone=True,
        whole=True,
    ),
    Row(
        "embed_msleep",
        "msleep(1) against asyncio.sleep()",
        sleep_accuracy,
        500,
        target=0.3,
        target_text="0.3 ms",
        alone=True,
        whole=True,
    ),
    Row(
        "embed_wake",
        "wake-up by another OS thread",
        wake_up,
        1_000,
        target=1.3,
        target_text="1.3x",
        alone=True,
        whole=True,
    ),
)
