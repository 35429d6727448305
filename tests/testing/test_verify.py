"""A campaign that found nothing runs some of its schedules again: one that is not repeatable proves nothing."""

from __future__ import annotations

import asyncio
import importlib
import random
import re
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from lkl_green.kernel.current import running_here
from lkl_green.linux import Mutex, msleep
from lkl_green.testing import Outcome, Report, Shared, Verdict, explore, spawn

if TYPE_CHECKING:
    from collections.abc import Callable


def in_two_threads(function: Callable[[], object]) -> None:
    for thread in [spawn(function), spawn(function)]:
        thread.join()


def told(report: Report) -> str:
    assert report.failure is not None, report.text()
    assert report.outcome is Outcome.FAILED
    assert not report.passed
    return report.failure.detail


def count() -> None:
    counter = Shared(0, "counter")

    def add() -> None:
        counter.value += 1

    in_two_threads(add)


def tosses_coins() -> None:
    """Eight coins for each thread: with one, five runs of a schedule were all the same now and then."""
    flag = Shared(0, "flag")
    in_two_threads(lambda: [flag.value for _ in range(8) if random.random() < 0.5])


class Singleton:
    """Made once by whoever comes first, without a lock: the race is in the first schedule only."""

    def __init__(self) -> None:
        self.instance = None
        self.made = 0

    def get(self) -> None:
        lock = Mutex(name="singleton")
        if self.instance is None:
            with lock:
                self.made += 1
                self.instance = object()


# -- what is found


def test_chance_is_found_though_nothing_fails() -> None:
    report = explore(tosses_coins, schedules=1000)
    detail = told(report)
    assert report.failure.verdict is Verdict.NONDETERMINISTIC
    assert re.search("the runs part at step |one run ends after ", detail)
    assert "read flag at test_verify.py:" in detail or "<lambda>" in detail
    assert "random numbers that are not from lkl_green.testing" in detail


def test_the_real_clock_is_found_by_what_is_done_with_it() -> None:
    def test() -> None:
        flag = Shared(0, "flag")
        for _ in range(time.perf_counter_ns() % 17):
            flag.value += 1

    assert explore(test, schedules=500).failure.verdict is Verdict.NONDETERMINISTIC


def test_sleeping_for_a_time_that_differs_is_found_by_the_clock() -> None:
    report = explore(lambda: threading.Event().wait(random.random()), schedules=50, threads=True)
    detail = told(report)
    assert report.failure.verdict is Verdict.NONDETERMINISTIC
    assert "ns of virtual time" in detail


def test_state_that_is_kept_has_a_verdict_of_its_own() -> None:
    singleton = Singleton()
    report = explore(lambda: in_two_threads(singleton.get), schedules=300)
    detail = told(report)
    assert report.failure.headline() == "state kept between schedules"
    assert report.failure.number == 0
    assert "schedule 0 passed, and goes another way after the others" in detail
    assert ": lock singleton at test_verify.py:" in detail
    assert "setup=" in detail


def test_state_that_grows_and_is_seen_late_is_found() -> None:
    runs = []

    def test() -> None:
        runs.append(1)
        counter = Shared(0, "counter")
        for _ in range(1 + len(runs) // 40):
            counter.value += 1

    assert explore(test, schedules=200).failure.verdict in (Verdict.KEPT_STATE, Verdict.NONDETERMINISTIC)


def test_a_pass_that_fails_when_it_is_run_again_says_how() -> None:
    runs = []

    def test() -> None:
        runs.append(1)
        assert len(runs) <= 20, "the pool is empty"

    detail = told(explore(test, schedules=20))
    assert "failed AssertionError: the pool is empty" in detail


@pytest.mark.parametrize("policy", ["default", "pos", "surw", "portfolio", "preemption-bound", "dfs"])
def test_every_policy_is_verified(policy: str) -> None:
    singleton = Singleton()
    report = explore(lambda: in_two_threads(singleton.get), schedules=300, policy=policy)
    assert report.failure.verdict is Verdict.KEPT_STATE
    fresh = explore(lambda: in_two_threads(Singleton().get), schedules=300, policy=policy)
    assert fresh.passed
    assert fresh.replayed >= 2


def test_a_search_that_left_something_out_is_verified_too() -> None:
    singleton = Singleton()
    report = explore(lambda: in_two_threads(singleton.get), schedules=2, policy="dfs")
    assert report.failure.verdict is Verdict.KEPT_STATE


keeper = Singleton()


def keeps_state() -> None:
    in_two_threads(keeper.get)


@pytest.mark.parametrize("where", ["processes", "executor"])
def test_campaigns_that_are_shared_out_are_verified(where: str) -> None:
    keeper.instance = None
    with ThreadPoolExecutor(1) if where == "executor" else nullcontext() as executor:
        jobs = 2 if where == "processes" else 1
        kept = explore(keeps_state, schedules=300, jobs=jobs, executor=executor)
        assert kept.failure.verdict is Verdict.KEPT_STATE
        passed = explore(count, schedules=300, jobs=jobs, executor=executor)
        assert (passed.outcome, passed.replayed) == (Outcome.PASSED, 3)


def test_chance_in_other_processes_is_found() -> None:
    assert explore(tosses_coins, schedules=1000, jobs=2).failure.verdict is Verdict.NONDETERMINISTIC


# -- what is not held against a test


def test_the_report_says_how_many_were_run_again() -> None:
    for schedules, replayed in ((1, 2), (50, 2), (400, 4), (3000, 10)):
        report = explore(count, schedules=schedules)
        assert (report.schedules, report.replayed) == (schedules, replayed)
    assert ": passed: 3000 schedules, 10 replayed, " in report.text()


def test_it_can_be_switched_off() -> None:
    runs = []
    singleton = Singleton()
    report = explore(lambda: (runs.append(1), in_two_threads(singleton.get)), schedules=30, verify=False)
    assert report.passed
    assert (len(runs), report.replayed) == (30, 0)


def test_a_value_that_is_only_collected_is_no_difference() -> None:
    results = []
    assert explore(lambda: results.append(count()), schedules=100).passed


def test_a_budget_that_is_used_up_is_not_exceeded() -> None:
    runs = []
    report = explore(lambda: (runs.append(1), time.sleep(0.02)), schedules=100, time_budget=0.05)
    assert report.outcome is Outcome.INCOMPLETE
    assert (len(runs), report.replayed) == (report.schedules, 0)


def test_a_failure_is_no_reason_to_run_others_again() -> None:
    def test() -> None:
        counter = Shared(0, "counter")

        def add() -> None:
            counter.value += 1

        in_two_threads(add)
        assert counter.peek() == 2

    report = explore(test, schedules=1000)
    assert report.failure.verdict is Verdict.FAILED
    assert report.replayed == 0
    assert "replayed" not in report.text()


async def sleep_and_ask() -> None:
    await asyncio.sleep(1)
    await asyncio.to_thread(time.sleep, 1)


def runs_a_loop() -> None:
    asyncio.run(sleep_and_ask())


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_the_standard_library_does_once_is_its_own_business(jobs: int) -> None:
    """asyncio takes a lock the first time that a process asks for its event loop policy."""
    asyncio.events._event_loop_policy = None
    report = explore(runs_a_loop, schedules=40, threads=True, jobs=jobs)
    assert report.passed, report.text()
    assert report.replayed == 2


@pytest.mark.parametrize("schedules", [2, 800])
def test_it_may_do_so_in_a_later_schedule_than_the_first(schedules: int) -> None:
    """A module that is imported by the second schedule makes a lock, and takes it once in a process."""
    order: list[str] = []

    def test() -> None:
        order.clear()
        lock = threading.Lock()

        def come(name: str, times: int) -> None:
            for _ in range(times):
                with lock:
                    order.append(name)

        threads = [threading.Thread(target=come, args=one) for one in (("a", 2), ("b", 1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if order == ["a", "a", "b"]:
            importing.append(1)
            importlib.import_module("tempfile").TemporaryFile().close()

    importing: list[int] = []
    known = sys.modules.pop("tempfile", None)
    try:
        report = explore(test, schedules=schedules, threads=True)
    finally:
        sys.modules["tempfile"] = known or importlib.import_module("tempfile")
    assert importing
    assert report.passed, report.text()


def in_pools() -> None:
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(time.sleep, number % 2) for number in range(5)]
        for future in as_completed(futures):
            future.result()


def in_sets() -> None:
    threads = {threading.Thread(target=time.sleep, args=(number,)) for number in range(5)}
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("test", [in_pools, in_sets])
def test_sets_of_threads_and_futures_have_an_order(test: Callable[[], None]) -> None:
    """By their addresses, pools would join their threads in another order in every schedule."""
    ballast = []

    def disturbed() -> None:
        ballast.append([object() for _ in range(len(ballast) * 7 % 64)])
        test()

    report = explore(disturbed, schedules=200, threads=True)
    assert report.passed, report.text()


def with_names(name: Callable[[], str]) -> None:
    with ThreadPoolExecutor(2, thread_name_prefix=name()) as pool:
        pool.submit(time.sleep, 1)
    lock = Mutex(name=name())

    def use() -> None:
        with lock:
            pass

    for thread in [threading.Thread(target=use, name=name()) for _ in range(2)]:
        thread.start()
        thread.join()


counted: list[int] = []


def counts_its_workers() -> None:
    def name() -> str:
        counted.append(1)
        return f"worker-{len(counted)}"

    with_names(name)


def draws_names() -> None:
    with_names(lambda: str(uuid.uuid4()))


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("test", [counts_its_workers, draws_names])
def test_threads_and_locks_may_have_other_names_in_each_schedule(test: Callable[[], None], jobs: int) -> None:
    """Programs count their workers over the life of a process, and draw names at random."""
    report = explore(test, schedules=100, threads=True, jobs=jobs)
    assert report.passed, report.text()


def test_who_does_it_is_a_difference_whatever_the_names_are() -> None:
    """The lock is taken by the first thread, and later on by the second one, in the same line."""
    taken: list[int] = []

    def test() -> None:
        lock = Mutex(name="lock")
        me = bool(taken)
        taken.append(1)

        def use(mine: bool) -> None:
            msleep(1)
            for _ in range(mine):
                lock.lock()
                lock.unlock()

        for thread in [spawn(use, number == me, name=f"{number}-{len(taken)}") for number in range(2)]:
            thread.join()

    report = explore(test, schedules=20)
    assert report.failure is not None
    assert report.failure.verdict is Verdict.KEPT_STATE


# -- tests that explore nothing


def with_threads() -> None:
    threads = [threading.Thread(target=time.sleep, args=(0,), name=name) for name in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("jobs", [1, 2])
def test_threads_that_are_not_replaced_are_no_pass(jobs: int) -> None:
    report = explore(with_threads, schedules=130, jobs=jobs, shrink=True, threads=False)
    detail = told(report)
    assert report.failure.headline() == "nothing explored"
    assert "the test starts OS threads (ann, bob)" in detail
    assert "Pass threads=True" in detail
    assert threading.Thread.start.__module__ == "threading"


@pytest.mark.parametrize("jobs", [1, 2])
def test_replaced_they_are_explored(jobs: int) -> None:
    report = explore(with_threads, schedules=100, jobs=jobs)
    assert report.passed, report.text()
    assert report.threads, "nothing was said of threads, and the test starts some"
    assert report.schedules == 100
    assert explore(with_threads, schedules=100, threads=True).passed
    assert threading.Thread.start.__module__ == "threading"


def test_threads_of_which_nothing_was_said_are_not_started_to_find_out() -> None:
    natives: list[bool] = []

    def test() -> None:
        thread = threading.Thread(target=lambda: natives.append(running_here.kernel is None))
        thread.start()
        thread.join()

    assert explore(test, schedules=10).passed
    assert natives
    assert not any(natives)


def test_a_thread_beside_tasks_that_are_explored_is_the_tests_own_business() -> None:
    def test() -> None:
        with_threads()
        count()

    assert explore(test, schedules=100, threads=False).passed
