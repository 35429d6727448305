"""Data races: what nothing puts in order is reported, what an operation puts in order is not."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.linux import Completion, Mutex, Work, flush_work, schedule_work
from lkl_green.testing import Outcome, Schedule, Shared, explore, replay, spawn

if TYPE_CHECKING:
    from collections.abc import Callable


class Box:
    """Something that threads share."""

    def __init__(self) -> None:
        self.value = 0


def in_threads(*bodies: Callable[[], Any]) -> None:
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# -- what nothing puts in order


def both_write() -> None:
    box = Box()

    def write() -> None:
        box.value = 1

    in_threads(write, write)


def hidden_while_it_is_read() -> None:
    class Box:
        """Its value is its class's, until one of its own hides that."""

        value = 0

    box = Box()

    def write() -> None:
        box.value = 1

    def read() -> None:
        assert box.value in (0, 1)

    in_threads(write, read)


def set_before_the_data() -> None:
    box, event = Box(), threading.Event()

    def give() -> None:
        event.set()
        box.value = 1

    def take() -> None:
        event.wait()
        assert box.value in (0, 1)

    in_threads(give, take)


def written_while_it_starts() -> None:
    box = Box()

    def read() -> None:
        assert box.value in (0, 1)

    thread = threading.Thread(target=read)
    thread.start()
    box.value = 1
    thread.join()


def time_orders_nothing() -> None:
    box = Box()

    def write(after_s: float) -> None:
        time.sleep(after_s)
        box.value += 1

    in_threads(lambda: write(1), lambda: write(2))


def two_locks() -> None:
    box = Box()

    def write(lock: Any) -> None:
        with lock:
            box.value = 1

    in_threads(lambda: write(threading.Lock()), lambda: write(threading.Lock()))


def a_stop_flag() -> None:
    """No bug at all, and a data race all the same."""
    box, seen = Box(), []

    def run() -> None:
        for _ in range(10):
            if box.value:
                seen.append(True)
                return

    def stop() -> None:
        box.value = 1

    in_threads(run, stop)


# -- what an operation puts in order


def under_a_lock() -> None:
    box, lock = Box(), threading.Lock()

    def write() -> None:
        with lock:
            box.value += 1

    in_threads(write, write)
    assert box.value == 2


def given_and_taken(leave: Callable[[], object], fetch: Callable[[], object]) -> None:
    """One thread writes before `leave()`, the other one after `fetch()`."""
    box = Box()

    def give() -> None:
        box.value = 1
        leave()

    def take() -> None:
        fetch()
        box.value += 1

    in_threads(give, take)


def by_an_event() -> None:
    event = threading.Event()
    given_and_taken(event.set, event.wait)


def by_a_queue() -> None:
    items = queue.Queue[int]()
    given_and_taken(lambda: items.put(1), items.get)


def by_a_simple_queue() -> None:
    items = queue.SimpleQueue[int]()
    given_and_taken(lambda: items.put(1), items.get)


def by_a_semaphore() -> None:
    count = threading.Semaphore(0)
    given_and_taken(count.release, count.acquire)


def by_a_barrier() -> None:
    barrier = threading.Barrier(2)
    given_and_taken(barrier.wait, barrier.wait)


def by_a_condition() -> None:
    box, filled = Box(), threading.Condition()

    def give() -> None:
        with filled:
            box.value = 1
            filled.notify()

    def take() -> None:
        with filled:
            while not box.value:
                filled.wait()
        box.value += 1

    in_threads(give, take)


def by_a_future() -> None:
    box = Box()

    def write() -> None:
        box.value += 1

    with ThreadPoolExecutor(2) as pool:
        pool.submit(write).result()
        pool.submit(write).result()
    assert box.value == 2


def by_start_and_join() -> None:
    box = Box()

    def write() -> None:
        box.value += 1

    for _ in range(2):
        in_threads(write)
        box.value += 1
    assert box.value == 4


RACY = [
    both_write,
    set_before_the_data,
    written_while_it_starts,
    time_orders_nothing,
    two_locks,
    a_stop_flag,
]
ORDERED = [
    under_a_lock,
    by_an_event,
    by_a_queue,
    by_a_simple_queue,
    by_a_condition,
    by_a_semaphore,
    by_a_barrier,
    by_a_future,
    by_start_and_join,
]


def test_a_class_attribute_races_with_what_hides_it():
    report = explore(hidden_while_it_is_read, threads=True, schedules=100, seed=1)
    assert len(report.races) == 1
    assert "data race on class Box.value" in report.text()


@pytest.mark.parametrize("test", RACY, ids=lambda test: test.__name__)
def test_what_nothing_puts_in_order_is_listed_and_is_no_verdict(test):
    report = explore(test, threads=True, schedules=100, seed=1)
    assert report.outcome is Outcome.PASSED
    assert report.races
    assert "data race on Box.value" in report.text()
    assert "and no operation puts the two in order" in report.text()
    assert report.text().count("box.value") >= 2, "both lines are shown"


@pytest.mark.parametrize("test", ORDERED, ids=lambda test: test.__name__)
def test_what_an_operation_puts_in_order_is_none(test):
    for seed in range(2):
        report = explore(test, threads=True, schedules=64, seed=seed, races="fail", verify=False)
        assert report.outcome is Outcome.PASSED, report.text()
        assert not report.races
        assert report.coverage.recorded >= 4


def test_each_pair_of_lines_is_listed_once():
    report = explore(both_write, threads=True, schedules=64)
    (race,) = report.races
    assert race.count("box.value = 1") == 2


def test_it_may_be_a_failure_that_replays():
    report = explore(both_write, threads=True, races="fail", shrink=True)
    failure = report.failure
    assert failure is not None
    assert failure.verdict.value == "data race"
    assert failure.headline() == "data race"
    assert "data race on Box.value" in failure.detail
    assert report.text().count("data race on Box.value") == 1
    again = replay(both_write, Schedule.loads(failure.schedule.dumps()))
    assert again is not None
    assert again.verdict is failure.verdict


def test_beside_a_failure_it_is_named():
    def test() -> None:
        box = Box()

        def add() -> None:
            box.value += 1

        in_threads(add, add)
        assert box.value == 2

    failure = explore(test, threads=True).failure
    assert failure is not None
    assert failure.verdict.value == "failed"
    assert any("data race on Box.value" in race for race in failure.races)
    assert "data race on Box.value" in failure.text()


def test_what_is_meant_is_said_by_a_comment_or_a_pattern():
    def test() -> None:
        box = Box()

        def write() -> None:
            box.value = 1  # data_race: whichever comes last may win

        in_threads(write, write)

    assert explore(test, threads=True, races="fail").passed
    for pattern in ("Box.value", "Box.*", "both_write.*write", "test_dataraces.py:*"):
        assert explore(both_write, threads=True, races="fail", schedules=100, ignored_races=[pattern]).passed
    assert not explore(both_write, threads=True, races="fail", schedules=100, ignored_races=["Other.*"]).passed
    assert explore(both_write, threads=True, races="off", schedules=100).races == []


@pytest.mark.parametrize("ordered", [True, False])
def test_shared_variables_of_kernel_threads_race_too(ordered):
    def test() -> None:
        lock, variable = Mutex(name="m"), Shared(0, "variable")

        def add() -> None:
            if ordered:
                with lock:
                    variable.value += 1
            else:
                variable.value += 1

        for task in [spawn(add), spawn(add)]:
            task.join()

    report = explore(test, schedules=100)
    assert bool(report.races) is not ordered


def test_works_and_completions_put_in_order():
    def test() -> None:
        variable, done = Shared(0, "variable"), Completion()

        def run(_work: Work) -> None:
            variable.value += 1
            done.complete()

        work = Work(run)
        variable.value = 1
        schedule_work(work)
        done.wait_for_completion()
        variable.value += 1
        schedule_work(work)
        flush_work(work)
        variable.value += 1

    assert explore(test, races="fail", schedules=64).passed


@pytest.mark.parametrize(("option", "value"), [("races", "yes"), ("ignored_races", "Box.value")])
def test_mistakes(option, value):
    with pytest.raises(ValueError, match=option):
        explore(both_write, threads=True, **{option: value})
