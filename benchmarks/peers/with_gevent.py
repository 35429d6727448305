"""gevent: greenlets that switch through a hub, which is an event loop."""

from __future__ import annotations

from functools import partial
from itertools import repeat
from time import thread_time_ns
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import AsyncResult, Event
from gevent.lock import Semaphore

from benchmarks.memory import resident_bytes
from benchmarks.rows.echo import of_peer
from benchmarks.rows.memory import per_task
from benchmarks.rows.timers import delays_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.row import Figure


def schedule_among(tasks: int, n: int) -> float:
    rounds = max(n // tasks, 1)
    sleep = gevent.sleep

    def thread(go: Event) -> None:
        go.wait()
        for _ in repeat(None, rounds + 1):
            sleep(0)

    go = Event()
    threads = [gevent.spawn(thread, go) for _ in range(tasks - 1)]
    sleep(0)
    go.set()
    sleep(0)
    begin = thread_time_ns()
    for _ in repeat(None, rounds):
        sleep(0)
    time = (thread_time_ns() - begin) / (rounds * tasks)
    gevent.joinall(threads)
    return time


def semaphore(n: int) -> float:
    rounds = max(n // 2, 1)
    ping, pong = Semaphore(0), Semaphore(0)

    def theirs() -> None:
        for _ in repeat(None, rounds):
            ping.acquire()
            pong.release()

    thread = gevent.spawn(theirs)
    gevent.sleep(0)
    begin = thread_time_ns()
    for _ in repeat(None, rounds):
        ping.release()
        pong.acquire()
    time = (thread_time_ns() - begin) / (2 * rounds)
    thread.join()
    return time


def completion(n: int) -> float:
    """A fresh AsyncResult for each."""
    rounds = max(n // 2, 1)
    results = [AsyncResult() for _ in range(2 * rounds)]

    def theirs() -> None:
        for number in range(0, 2 * rounds, 2):
            results[number].get()
            results[number + 1].set()

    thread = gevent.spawn(theirs)
    gevent.sleep(0)
    begin = thread_time_ns()
    for number in range(0, 2 * rounds, 2):
        results[number].set()
        results[number + 1].get()
    time = (thread_time_ns() - begin) / (2 * rounds)
    thread.join()
    return time


def _nothing() -> None:
    """What a task runs that only lives."""


def fork_and_yield(n: int) -> float:
    spawn, sleep = gevent.spawn, gevent.sleep
    begin = thread_time_ns()
    for _ in repeat(None, n):
        spawn(_nothing)
        sleep(0)
    return (thread_time_ns() - begin) / n


def timer_cancel(n: int) -> float:
    loop = gevent.get_hub().loop
    delays = [3600 + delay / 1e9 for delay in delays_ns(n)]
    begin = thread_time_ns()
    timers = []
    for delay in delays:
        timer = loop.timer(delay)
        timer.start(_nothing)
        timers.append(timer)
    for timer in timers:
        timer.stop()
        timer.close()
    return (thread_time_ns() - begin) / n


def timer_expire(n: int) -> float:
    """The delays are so short that all are due when the loop looks."""
    loop = gevent.get_hub().loop
    left = [n]
    done = Event()

    def expired() -> None:
        left[0] -= 1
        if not left[0]:
            done.set()

    begin = thread_time_ns()
    timers = []
    for delay in delays_ns(n):
        timer = loop.timer(delay / 1e13)
        timer.start(expired)
        timers.append(timer)
    done.wait()
    time = (thread_time_ns() - begin) / n
    for timer in timers:
        timer.close()
    return time


def memory_parked(n: int) -> Figure:
    return _memory(n, start=True)


def memory_never_run(n: int) -> Figure:
    return _memory(n, start=False)


def _memory(n: int, start: bool) -> Figure:
    never: Any = Event()
    gevent.sleep(0)
    make: Callable[[], gevent.Greenlet] = partial(gevent.spawn if start else gevent.Greenlet, never.wait)
    before = resident_bytes()
    threads = [make() for _ in range(n)]
    gevent.sleep(0)
    return per_task(before, len(threads))


TWINS = {
    "schedule_2": partial(schedule_among, 2),
    "schedule_1000": partial(schedule_among, 1000),
    "semaphore": semaphore,
    "completion": completion,
    "fork_and_yield": fork_and_yield,
    "timer_cancel": timer_cancel,
    "timer_expire": timer_expire,
    "memory_parked": memory_parked,
    "memory_never_run": memory_never_run,
    **of_peer("gevent"),
}
