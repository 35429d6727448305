"""Points after operations that let others continue: what comes next in plain statements may come too late.

In each story one task says by an operation that something is ready, and makes it ready only in the next statement,
which is not an operation. The task that was let through finds it not ready if it runs between the two.
"""

from __future__ import annotations

import json
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.linux import (
    Completion,
    KFifo,
    Mutex,
    Semaphore,
    SpinLock,
    WaitQueueHead,
    Work,
    schedule_work,
    wait_event,
    wake_up,
)
from lkl_green.testing import Outcome, Schedule, explore, replay, spawn

if TYPE_CHECKING:
    from collections.abc import Callable


def story(start: Callable[..., Any], ready: Callable[[], object], wait: Callable[[], object]) -> None:
    """One task waits, and looks whether the box is filled; the other says so before it fills it."""
    box: list[bool] = []
    seen: list[bool] = []

    def take() -> None:
        wait()
        seen.append(bool(box))

    taker = start(take)
    ready()
    box.append(True)
    taker.join()
    assert seen == [True]


def read_under_a_lock(start: Callable[..., Any], lock: Any) -> None:
    """Two tasks read a value under the lock, and use it after they have released it."""
    value = [0]

    def add() -> None:
        with lock:
            old = value[0]
        value[0] = old + 1

    for task in [start(add), start(add)]:
        task.join()
    assert value == [2]


def start_thread(function: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


# -- kernel primitives


def completes() -> None:
    done = Completion()
    story(spawn, done.complete, done.wait_for_completion)


def completes_all() -> None:
    done = Completion()
    story(spawn, done.complete_all, done.wait_for_completion)


def ups() -> None:
    count = Semaphore(0)
    story(spawn, count.up, count.down)


def wakes_up() -> None:
    waiters, ready = WaitQueueHead(), []

    def tell() -> None:
        ready.append(True)
        wake_up(waiters)

    story(spawn, tell, lambda: wait_event(waiters, lambda: bool(ready)))


def puts_into_a_fifo() -> None:
    fifo: KFifo[int] = KFifo(4)
    story(spawn, lambda: fifo.put(1), fifo.get)


def unlocks() -> None:
    read_under_a_lock(spawn, Mutex(name="m"))


def unlocks_a_spinlock() -> None:
    read_under_a_lock(spawn, SpinLock())


def queues_a_work() -> None:
    box: list[int] = []
    seen: list[bool] = []
    done = Completion()

    def run(_work: Work) -> None:
        seen.append(bool(box))
        done.complete()

    schedule_work(Work(run))
    box.append(1)
    done.wait_for_completion()
    assert seen == [True]


def spawns() -> None:
    story(spawn, lambda: None, lambda: None)


# -- threads


def sets_an_event() -> None:
    event = threading.Event()
    story(start_thread, event.set, event.wait)


def releases_a_semaphore() -> None:
    count = threading.Semaphore(0)
    story(start_thread, count.release, count.acquire)


def puts() -> None:
    items: queue.Queue[int] = queue.Queue()
    story(start_thread, lambda: items.put(1), items.get)


def puts_simply() -> None:
    items: queue.SimpleQueue[int] = queue.SimpleQueue()
    story(start_thread, lambda: items.put(1), items.get)


def starts() -> None:
    story(start_thread, lambda: None, lambda: None)


def releases() -> None:
    read_under_a_lock(start_thread, threading.Lock())


OF_THE_KERNEL = [
    completes,
    completes_all,
    ups,
    wakes_up,
    puts_into_a_fifo,
    unlocks,
    unlocks_a_spinlock,
    queues_a_work,
    spawns,
]
OF_THREADS = [sets_an_event, releases_a_semaphore, puts, puts_simply, starts, releases]
STORIES = [*((test, False) for test in OF_THE_KERNEL), *((test, True) for test in OF_THREADS)]


@pytest.mark.parametrize(("test", "threads"), STORIES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_task_that_was_let_through_may_run_before_the_next_statement(test, threads):
    # With points in ordinary code the threads would be found without the points that this is about.
    report = explore(test, schedules=200, threads=threads, points="sync")
    assert report.failure is not None, report.text()
    again = replay(test, Schedule.loads(report.failure.schedule.dumps()))
    assert again is not None
    assert again.verdict is report.failure.verdict
    assert any(step.op == "after" for step in again.steps)


@pytest.mark.parametrize("threads", [False, True])
def test_without_these_points_it_may_not(threads):
    test = sets_an_event if threads else completes
    assert explore(test, schedules=200, threads=threads, points="sync", after_points=False).outcome is Outcome.PASSED


def test_a_search_does_without():
    """They would only repeat the orders that the points before operations give."""
    report = explore(completes, policy="dfs", schedules=10_000)
    assert report.outcome is Outcome.EXHAUSTED
    bare = explore(completes, policy="dfs", schedules=10_000, after_points=False)
    assert report.schedules == bare.schedules


def test_a_schedule_file_of_the_version_before_has_none():
    failure = explore(completes, schedules=200).failure
    assert failure is not None
    data = json.loads(failure.schedule.dumps())
    assert data["version"] == 2
    assert data["options"]["after_points"]
    data["version"] = 1
    del data["options"]["after_points"]
    assert not Schedule.loads(json.dumps(data)).settings.after_points
