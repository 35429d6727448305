"""Handing over between two tasks that wait for each other: each operation is one hand-off, one way."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

from benchmarks.row import Row
from lkl_green.linux import Completion, Mutex, Semaphore, WaitQueueHead, kthread_run, schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.configurations import Configuration


def _ping_pong(
    configuration: Configuration, n: int, make: Callable[[int], tuple[Callable[[], None], Callable[[], None]]]
) -> float:
    """Nanoseconds per hand-off; `make(n)` gives the other thread's function and init's half."""

    def init() -> float:
        theirs, ours = make(max(n // 2, 1))
        kthread_run(theirs)
        schedule()
        begin = configuration.now_ns()
        ours()
        return (configuration.now_ns() - begin) / (2 * max(n // 2, 1))

    time: float = configuration.run(init)
    return time


def semaphore(configuration: Configuration, n: int) -> float:
    """up() and down(), each thread waiting for the other."""

    def make(rounds: int) -> Any:
        ping, pong = Semaphore(0), Semaphore(0)

        def theirs() -> None:
            for _ in repeat(None, rounds):
                ping.down()
                pong.up()

        def ours() -> None:
            for _ in repeat(None, rounds):
                ping.up()
                pong.down()

        return theirs, ours

    return _ping_pong(configuration, n, make)


def completion(configuration: Configuration, n: int) -> float:
    """complete() and wait_for_completion()."""

    def make(rounds: int) -> Any:
        ping, pong = Completion(), Completion()

        def theirs() -> None:
            for _ in repeat(None, rounds):
                ping.wait_for_completion()
                pong.complete()

        def ours() -> None:
            for _ in repeat(None, rounds):
                ping.complete()
                pong.wait_for_completion()

        return theirs, ours

    return _ping_pong(configuration, n, make)


def mutex(configuration: Configuration, n: int) -> float:
    """unlock() and lock() while the other thread waits for the lock: each gets it in turn."""

    def make(rounds: int) -> Any:
        lock = Mutex()
        lock.lock()

        def theirs() -> None:
            lock.lock()
            for _ in repeat(None, rounds):
                lock.unlock()
                lock.lock()
            lock.unlock()

        def ours() -> None:
            for _ in repeat(None, rounds):
                lock.unlock()
                lock.lock()
            lock.unlock()

        return theirs, ours

    return _ping_pong(configuration, n, make)


def wait_event(configuration: Configuration, n: int) -> float:
    """wake_up() and wait_event() on a condition that the other thread makes true."""

    def make(rounds: int) -> Any:
        ping, pong = WaitQueueHead(), WaitQueueHead()
        turns = [0]

        def theirs() -> None:
            for turn in range(1, 2 * rounds, 2):
                ping.wait_event(lambda turn=turn: turns[0] >= turn)
                turns[0] += 1
                pong.wake_up()

        def ours() -> None:
            for turn in range(2, 2 * rounds + 1, 2):
                turns[0] += 1
                ping.wake_up()
                pong.wait_event(lambda turn=turn: turns[0] >= turn)

        return theirs, ours

    return _ping_pong(configuration, n, make)


ROWS = (
    Row("semaphore", "semaphore hand-off, each way", semaphore, 100_000, target=3.5),
    Row("completion", "completion hand-off, each way", completion, 100_000),
    Row("mutex", "mutex hand-off, each way", mutex, 100_000),
    Row("wait_event", "wait_event and wake_up, each way", wait_event, 50_000),
)
