"""A thread pool that was made before a kernel, or is kept after it, works in each kernel and outside."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green import lkl_start_kernel
from lkl_green.errors import Deadlock
from lkl_green.green import as_main, green_threads, run_threads
from lkl_green.testing import Outcome, explore
from lkl_green.testing.run import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def test_it_works_in_a_kernel_and_outside(configuration: dict[str, Any], pool: ThreadPoolExecutor) -> None:
    def program() -> list[int]:
        return list(pool.map(int, "123"))

    for _ in range(2):
        assert run_threads(program, **configuration) == [1, 2, 3]
        assert program() == [1, 2, 3]


def test_it_works_after_a_kernel_that_died_with_work_in_it(pool: ThreadPoolExecutor) -> None:
    def program() -> None:
        for seconds in (1, 2, 3):
            pool.submit(time.sleep, seconds)
        threading.Event().wait()

    with pytest.raises(Deadlock):
        run_threads(program)
    assert pool.submit(int, "7").result() == 7


def test_it_works_in_one_kernel_after_another(pool: ThreadPoolExecutor) -> None:
    def program() -> int:
        return pool.submit(int, "42").result()

    with green_threads(roots=[program]):
        for _ in range(3):
            assert lkl_start_kernel(as_main(program), clock="virtual").run() == 42


def test_every_schedule_finds_it_as_it_was(pool: ThreadPoolExecutor) -> None:
    def program() -> None:
        assert pool.submit(int, "1").result() == 1

    for _ in range(2):
        report = explore(program, schedules=40, threads=True)
        assert report.outcome is Outcome.PASSED, report


def test_one_that_the_program_shuts_down_stays_shut() -> None:
    pool = ThreadPoolExecutor(1)

    def program() -> None:
        assert pool.submit(int, "1").result() == 1
        pool.shutdown()

    run_threads(program)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(int)


# -- pools of threads with the interface of processes


def test_a_pool_of_multiprocessing_that_has_threads_works(configuration: dict[str, Any]) -> None:
    def program() -> list[int]:
        with ThreadPool(2) as pool:
            pool.apply_async(time.sleep, (3600,)).wait()
            return pool.map(abs, [-1, -2])

    assert run_threads(program, **configuration) == [1, 2]


def test_campaigns_one_after_another_see_the_same() -> None:
    """The first one imports `multiprocessing.dummy`, and later ones find it as it was."""

    def program() -> None:
        total = {"n": 0}

        def add(number: int) -> None:
            seen = total["n"]
            total["n"] = seen + number

        with ThreadPool(2) as pool:
            pool.map(add, [1, 2])
        assert total["n"] == 3

    found = [explore(program, threads=True).failure for _ in range(2)]
    assert [failure and failure.verdict for failure in found] == [Verdict.FAILED] * 2


@pytest.mark.filterwarnings("ignore:unclosed running multiprocessing pool:ResourceWarning")
def test_one_that_is_never_closed_ends_with_the_program() -> None:
    def program() -> None:
        from multiprocessing.dummy import Pool

        pool = Pool(2)  # and CPython warns of that
        assert pool.map(abs, [-1, -2]) == [1, 2]

    report = explore(program, schedules=20, threads=True)
    assert report.outcome is Outcome.PASSED, report
    with ThreadPool(1) as pool:  # and outside of kernels it has a pipe again
        assert pool.apply(int, ("1",)) == 1
