"""is_alive(), join() and start() of a thread that another thread is just starting."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from lkl_green.testing import Outcome, explore

if TYPE_CHECKING:
    from collections.abc import Callable


def is_alive(thread: threading.Thread) -> None:
    thread.is_alive()


def join(thread: threading.Thread) -> None:
    with suppress(RuntimeError):  # cannot join thread before it is started
        thread.join()


@pytest.mark.parametrize("operation", [is_alive, join])
def test_a_thread_is_looked_at_while_it_is_started(operation: Callable[[threading.Thread], None]) -> None:
    def program() -> None:
        one = threading.Thread(target=int)
        threads = [threading.Thread(target=one.start), threading.Thread(target=operation, args=(one,))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one.join()

    report = explore(program, policy="dfs", schedules=2000, threads=True)
    assert report.outcome is Outcome.EXHAUSTED, report


def test_of_two_that_start_a_thread_one_is_refused() -> None:
    def program() -> None:
        runs, refusals = [], []
        one = threading.Thread(target=runs.append, args=("run",))

        def start() -> None:
            try:
                one.start()
            except RuntimeError as error:
                refusals.append(str(error))

        threads = [threading.Thread(target=start) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one.join()
        assert runs == ["run"]
        assert refusals == ["threads can only be started once"]

    report = explore(program, policy="preemption-bound:2", schedules=2000, threads=True)
    assert report.passed, report
