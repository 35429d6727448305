"""Threading programs under many schedules: right ones pass them all, wrong ones fail in some."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.testing import Outcome, explore, replay

if TYPE_CHECKING:
    from collections.abc import Callable

POLICIES = ["random", "pos", "pct"]


def run_all(*functions: Callable[[], object]) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# -- right programs, one for each primitive


def a_lock_counts_right() -> None:
    lock, again, box = threading.Lock(), threading.RLock(), [0]

    def add() -> None:
        with lock, again:
            value = box[0]
            with again:
                box[0] = value + 1

    run_all(add, add, add)
    assert box == [3]


def a_bounded_buffer_keeps_its_bound() -> None:
    condition, items, taken = threading.Condition(), [], []

    def put() -> None:
        for number in range(2):
            with condition:
                condition.wait_for(lambda: len(items) < 1)
                items.append(number)
                condition.notify_all()

    def take() -> None:
        for _ in range(2):
            with condition:
                condition.wait_for(lambda: items)
                assert len(items) == 1
                taken.append(items.pop())
                condition.notify_all()

    run_all(put, put, take, take)
    assert sorted(taken) == [0, 0, 1, 1]


def a_semaphore_lets_two_in() -> None:
    semaphore, inside, most = threading.BoundedSemaphore(2), [0], [0]
    mutex = threading.Lock()

    def enter() -> None:
        with semaphore:
            with mutex:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(1)
            with mutex:
                inside[0] -= 1

    run_all(enter, enter, enter)
    assert most[0] == 2


def a_barrier_and_an_event_meet() -> None:
    barrier, event, log = threading.Barrier(2), threading.Event(), []

    def first() -> None:
        barrier.wait()
        event.set()
        log.append("set")

    def second() -> None:
        barrier.wait(timeout=60)
        assert event.wait(60)
        log.append("seen")

    run_all(first, second)
    assert sorted(log) == ["seen", "set"]


def queues_lose_nothing() -> None:
    bounded: queue.Queue[int] = queue.Queue(1)
    simple: queue.SimpleQueue[int] = queue.SimpleQueue()

    def pass_on() -> None:
        for _ in range(2):
            simple.put(bounded.get())
            bounded.task_done()

    run_all(pass_on, lambda: [bounded.put(number) for number in range(2)])
    bounded.join()
    assert [simple.get(), simple.get(timeout=1)] == [0, 1]
    with pytest.raises(queue.Empty):
        simple.get(timeout=0.5)


def a_pool_finishes_everything() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]


def time_outs_are_kept() -> None:
    lock = threading.Lock()
    lock.acquire()
    began = time.monotonic()

    def try_for_a_while() -> None:
        assert not lock.acquire(timeout=2)
        assert time.monotonic() - began >= 2

    run_all(try_for_a_while, try_for_a_while)
    lock.release()
    assert lock.acquire(timeout=1)


def each_thread_has_its_locals() -> None:
    local = threading.local()

    def work(name: str) -> None:
        local.name = name
        time.sleep(1)
        assert local.name == name

    run_all(lambda: work("a"), lambda: work("b"))
    assert not hasattr(local, "name")


def an_event_loop_hands_work_to_a_thread() -> None:
    async def main() -> None:
        assert await asyncio.gather(asyncio.to_thread(abs, -1), asyncio.sleep(1, "slept")) == [1, "slept"]

    asyncio.run(main())


RIGHT = [
    a_lock_counts_right,
    a_bounded_buffer_keeps_its_bound,
    a_semaphore_lets_two_in,
    a_barrier_and_an_event_meet,
    queues_lose_nothing,
    a_pool_finishes_everything,
    time_outs_are_kept,
    each_thread_has_its_locals,
    an_event_loop_hands_work_to_a_thread,
]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("program", RIGHT, ids=lambda program: program.__name__)
def test_a_right_program_passes_every_schedule(program: Callable[[], None], policy: str) -> None:
    report = explore(program, policy=policy, schedules=60, threads=True)
    assert report.outcome is Outcome.PASSED, report


# -- wrong programs


def two_threads_lose_an_update() -> None:
    lock, box = threading.Lock(), [0]

    def add() -> None:
        with lock:
            value = box[0]
        with lock:
            box[0] = value + 1

    run_all(add, add)
    assert box == [2]


def two_locks_in_two_orders() -> None:
    a, b = threading.Lock(), threading.Lock()

    def take(first: Any, second: Any) -> None:
        with first, second:
            pass

    run_all(lambda: take(a, b), lambda: take(b, a))


def a_notification_comes_too_early() -> None:
    condition, ready = threading.Condition(), []

    def wait() -> None:
        if not ready:
            with condition:
                condition.wait()

    def announce() -> None:
        ready.append(True)
        with condition:
            condition.notify()

    run_all(wait, announce)


def an_assertion_in_a_thread() -> None:
    event = threading.Event()

    def look() -> None:
        seen = event.is_set()
        assert seen

    run_all(look, event.set)


WRONG = [
    two_threads_lose_an_update,
    two_locks_in_two_orders,
    a_notification_comes_too_early,
    an_assertion_in_a_thread,
]


@pytest.mark.parametrize("program", WRONG, ids=lambda program: program.__name__)
def test_a_wrong_program_fails_in_some_schedule(program: Callable[[], None]) -> None:
    report = explore(program, schedules=500, threads=True)
    assert report.outcome is Outcome.FAILED, report
    found = report.failures[0]
    again = replay(program, found.schedule)
    assert again is not None
    assert again.verdict is found.verdict
