"""asyncio: coroutines on an event loop; uvloop runs the same programs."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import repeat
from time import thread_time_ns
from typing import TYPE_CHECKING, Any

from benchmarks.memory import resident_bytes
from benchmarks.rows.echo import of_peer
from benchmarks.rows.memory import per_task
from benchmarks.rows.timers import delays_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from benchmarks.row import Figure


async def schedule_among(tasks: int, n: int) -> float:
    rounds = max(n // tasks, 1)
    sleep = asyncio.sleep
    go = asyncio.Event()

    async def task() -> None:
        await go.wait()
        for _ in repeat(None, rounds + 1):
            await sleep(0)

    others = [asyncio.create_task(task()) for _ in range(tasks - 1)]
    await sleep(0)
    go.set()
    await sleep(0)
    begin = thread_time_ns()
    for _ in repeat(None, rounds):
        await sleep(0)
    time = (thread_time_ns() - begin) / (rounds * tasks)
    await asyncio.gather(*others)
    return time


async def semaphore(n: int) -> float:
    rounds = max(n // 2, 1)
    ping, pong = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def theirs() -> None:
        for _ in repeat(None, rounds):
            await ping.acquire()
            pong.release()

    task = asyncio.create_task(theirs())
    await asyncio.sleep(0)
    begin = thread_time_ns()
    for _ in repeat(None, rounds):
        ping.release()
        await pong.acquire()
    time = (thread_time_ns() - begin) / (2 * rounds)
    await task
    return time


async def completion(n: int) -> float:
    """A fresh future for each."""
    rounds = max(n // 2, 1)
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[None]] = [loop.create_future() for _ in range(2 * rounds)]

    async def theirs() -> None:
        for number in range(0, 2 * rounds, 2):
            await futures[number]
            futures[number + 1].set_result(None)

    task = asyncio.create_task(theirs())
    await asyncio.sleep(0)
    begin = thread_time_ns()
    for number in range(0, 2 * rounds, 2):
        futures[number].set_result(None)
        await futures[number + 1]
    time = (thread_time_ns() - begin) / (2 * rounds)
    await task
    return time


async def _nothing() -> None:
    """What a task runs that only lives."""


async def fork_and_yield(n: int) -> float:
    create_task, sleep = asyncio.create_task, asyncio.sleep
    begin = thread_time_ns()
    for _ in repeat(None, n):
        task = create_task(_nothing())
        await sleep(0)
    time = (thread_time_ns() - begin) / n
    await task
    return time


async def timer_cancel(n: int) -> float:
    call_later = asyncio.get_running_loop().call_later
    delays = [3600 + delay / 1e9 for delay in delays_ns(n)]
    begin = thread_time_ns()
    timers = [call_later(delay, print) for delay in delays]
    for timer in timers:
        timer.cancel()
    return (thread_time_ns() - begin) / n


async def timer_expire(n: int) -> float:
    """The delays are so short that all are due when the loop looks."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = [n]

    def expired() -> None:
        left[0] -= 1
        if not left[0]:
            done.set_result(None)

    begin = thread_time_ns()
    for delay in delays_ns(n):
        loop.call_later(delay / 1e13, expired)
    await done
    return (thread_time_ns() - begin) / n


async def memory_parked(n: int) -> Figure:
    never = asyncio.Event()
    before = resident_bytes()
    tasks = [asyncio.create_task(_wait(never)) for _ in range(n)]
    await asyncio.sleep(0)
    figure = per_task(before, len(tasks))
    never.set()
    await asyncio.gather(*tasks)
    return figure


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def twins(new_event_loop: Callable[[], asyncio.AbstractEventLoop]) -> dict[str, Callable[[int], Any]]:
    """The programs, each run on a new event loop."""

    def run(program: Callable[[int], Coroutine[Any, Any, Any]], n: int) -> Any:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(program(n))

    programs: dict[str, Callable[[int], Coroutine[Any, Any, Any]]] = {
        "schedule_2": partial(schedule_among, 2),
        "schedule_1000": partial(schedule_among, 1000),
        "semaphore": semaphore,
        "completion": completion,
        "fork_and_yield": fork_and_yield,
        "timer_cancel": timer_cancel,
        "timer_expire": timer_expire,
        "memory_parked": memory_parked,
    }
    return {key: partial(run, program) for key, program in programs.items()}


TWINS = twins(asyncio.new_event_loop) | of_peer("asyncio protocols")
