"""SimPy: generators and a queue of events, in simulated time."""

from __future__ import annotations

from functools import partial
from itertools import repeat
from time import thread_time_ns
from typing import TYPE_CHECKING, Any

import simpy

from benchmarks.memory import resident_bytes
from benchmarks.rows.memory import per_task
from benchmarks.rows.timers import delays_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from benchmarks.row import Figure

    Program = Generator[Any, Any, Any]


def run(program: Callable[[simpy.Environment, int], Program], n: int) -> Any:
    """Run one program until it is done; what it returns."""
    env = simpy.Environment()
    return env.run(until=env.process(program(env, n)))


def schedule_among(tasks: int, env: simpy.Environment, n: int) -> Program:
    rounds = max(n // tasks, 1)
    timeout = env.timeout
    go = env.event()

    def process() -> Program:
        yield go
        for _ in repeat(None, rounds + 1):
            yield timeout(0)

    for _ in range(tasks - 1):
        env.process(process())
    yield timeout(0)
    go.succeed()
    yield timeout(0)
    begin = thread_time_ns()
    for _ in repeat(None, rounds):
        yield timeout(0)
    return (thread_time_ns() - begin) / (rounds * tasks)


def semaphore(env: simpy.Environment, n: int) -> Program:
    """A container of tokens: it has no other semaphore."""
    rounds = max(n // 2, 1)
    ping, pong = simpy.Container(env), simpy.Container(env)

    def theirs() -> Program:
        for _ in repeat(None, rounds):
            yield ping.get(1)
            pong.put(1)

    env.process(theirs())
    yield env.timeout(0)
    begin = thread_time_ns()
    for _ in repeat(None, rounds):
        ping.put(1)
        yield pong.get(1)
    return (thread_time_ns() - begin) / (2 * rounds)


def completion(env: simpy.Environment, n: int) -> Program:
    """A fresh event for each."""
    rounds = max(n // 2, 1)
    events = [env.event() for _ in range(2 * rounds)]

    def theirs() -> Program:
        for number in range(0, 2 * rounds, 2):
            yield events[number]
            events[number + 1].succeed()

    env.process(theirs())
    yield env.timeout(0)
    begin = thread_time_ns()
    for number in range(0, 2 * rounds, 2):
        events[number].succeed()
        yield events[number + 1]
    return (thread_time_ns() - begin) / (2 * rounds)


def _nothing(env: simpy.Environment) -> Program:
    """What a process runs that only lives."""
    yield from ()


def fork_and_yield(env: simpy.Environment, n: int) -> Program:
    begin = thread_time_ns()
    for _ in repeat(None, n):
        env.process(_nothing(env))
        yield env.timeout(0)
    return (thread_time_ns() - begin) / n


def timer_expire(env: simpy.Environment, n: int) -> Program:
    """A time-out with a callback; SimPy cannot cancel one."""
    expired: list[object] = []
    delays = delays_ns(n)
    begin = thread_time_ns()
    for delay in delays:
        callbacks = env.timeout(delay).callbacks
        assert callbacks is not None
        callbacks.append(expired.append)
    yield env.timeout(max(delays))
    time = (thread_time_ns() - begin) / n
    assert len(expired) == n
    return time


def memory_parked(env: simpy.Environment, n: int) -> Program:
    never = env.event()

    def process() -> Program:
        yield never

    before = resident_bytes()
    processes = [env.process(process()) for _ in range(n)]
    yield env.timeout(0)
    figure: Figure = per_task(before, len(processes))
    return figure


TWINS = {
    key: partial(run, program)
    for key, program in {
        "schedule_2": partial(schedule_among, 2),
        "schedule_1000": partial(schedule_among, 1000),
        "semaphore": semaphore,
        "completion": completion,
        "fork_and_yield": fork_and_yield,
        "timer_expire": timer_expire,
        "memory_parked": memory_parked,
    }.items()
}
