"""Daemon threads end with the program, as in plain Python: they are no leak, no livelock and no failure."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.testing import Outcome, explore
from lkl_green.testing.run import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable


def daemon(body: Callable[[], object]) -> None:
    threading.Thread(target=body, daemon=True).start()


def a_worker_that_is_never_told_to_end() -> None:
    """The example of the documentation of `queue`."""
    tasks: queue.Queue[int] = queue.Queue()
    done: list[int] = []

    def work() -> None:
        while True:
            done.append(tasks.get())
            tasks.task_done()

    daemon(work)
    for task in range(3):
        tasks.put(task)
    tasks.join()
    assert done == [0, 1, 2]


def a_heartbeat() -> None:
    def beat() -> None:
        while True:
            time.sleep(1)

    daemon(beat)
    time.sleep(5)


def a_timer_that_renews_itself() -> None:
    def renew() -> None:
        timer = threading.Timer(1, renew)
        timer.daemon = True
        timer.start()

    renew()
    time.sleep(5)


def a_daemon_that_polls() -> None:
    tasks: queue.Queue[int] = queue.Queue()

    def poll() -> None:
        while True:
            with suppress(queue.Empty):
                tasks.get(timeout=10)

    daemon(poll)
    time.sleep(35)


def a_daemon_that_waits_in_a_with_block() -> None:
    condition = threading.Condition()

    def wait() -> None:
        with condition:
            condition.wait()

    daemon(wait)


def a_daemon_that_raises_while_it_is_ended() -> None:
    def work() -> None:
        try:
            threading.Event().wait()
        finally:
            raise ValueError("CPython's daemons never come here")

    daemon(work)
    time.sleep(1)


PROGRAMS: list[Any] = [
    a_worker_that_is_never_told_to_end,
    a_heartbeat,
    a_timer_that_renews_itself,
    a_daemon_that_polls,
    a_daemon_that_waits_in_a_with_block,
    a_daemon_that_raises_while_it_is_ended,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_with_daemons_passes(program: Callable[[], None]) -> None:
    report = explore(program, schedules=30, threads=True)
    assert report.outcome is Outcome.PASSED, report


def test_a_deadlock_of_the_other_threads_stays_one() -> None:
    def program() -> None:
        daemon(queue.Queue[int]().get)
        threading.Thread(target=threading.Event().wait).start()

    report = explore(program, schedules=30, threads=True)
    assert report.failures[0].verdict is Verdict.DEADLOCK


def test_a_daemon_that_fails_before_the_end_fails_the_schedule() -> None:
    def program() -> None:
        def fail() -> None:
            raise ValueError("too early")

        daemon(fail)
        time.sleep(1)

    report = explore(program, schedules=30, threads=True)
    assert report.failures[0].error == "ValueError: too early"


def test_a_thread_that_waits_in_vain_again_and_again_is_a_livelock_and_no_error_of_its_locks() -> None:
    """What ends the schedule is raised inside Condition.wait(), before that has its lock back."""

    def program() -> None:
        def poll() -> None:
            condition = threading.Condition()
            while True:
                with condition:
                    condition.wait(timeout=1)

        threading.Thread(target=poll).start()

    failure = explore(program, schedules=30, threads=True, max_steps=500).failure
    assert failure is not None
    assert failure.verdict is Verdict.LIVELOCK
