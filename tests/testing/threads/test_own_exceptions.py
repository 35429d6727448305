"""What a user of `threading` sees of errors: the program's own, in the words of threading."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lkl_green.errors import Deadlock, KernelPanic
from lkl_green.testing import explore
from lkl_green.testing.threads import run_threads

CONFIGURATIONS = [{}, {"switch": "semaphore"}, {"host": "thread"}]


@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
def test_an_exception_of_the_program_leaves_run_threads_as_it_is(options):
    cause = KeyError("cause")

    def main():
        threading.Thread(target=time.sleep, args=[1]).start()
        raise ValueError("own") from cause

    with pytest.raises(ValueError, match="own") as caught:
        run_threads(main, **options)
    assert caught.value.__cause__ is cause
    assert caught.value.__context__ is None


def test_a_thread_that_spins_is_told_in_the_words_of_threading():
    def main():
        while True:
            pass

    with pytest.raises(KernelPanic, match="wait for an Event or a Condition, or sleep in the loop"):
        run_threads(main, watchdog_s=0.1, watch_s=None)


POOL = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
from lkl_green.testing import explore
from lkl_green.testing.threads import run_threads

def main():
    pool = ThreadPoolExecutor(1)
    pool.submit(time.sleep, 1)
    threading.Event().wait()

run_threads(main)
"""


def test_a_pool_in_a_kernel_that_dies_makes_no_noise():
    """The executor is collected while its frames are unwound, and wakes its workers from there."""
    done = subprocess.run([sys.executable, "-c", POOL], capture_output=True, text=True, timeout=60, check=False)
    assert "Deadlock: deadlock: nothing can ever run again" in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "TaskKilled" not in done.stderr


def test_a_pool_in_a_kernel_that_dies_still_deadlocks_by_name():
    def main():
        pool = ThreadPoolExecutor(1)
        pool.submit(time.sleep, 1)
        threading.Event().wait()

    with pytest.raises(Deadlock, match="init-1"):
        run_threads(main)


@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
def test_a_finalizer_that_is_ended_prints_nothing(capsys, options):
    lock = threading.Lock()

    class Loud:
        def __del__(self) -> None:
            with lock:
                pass

    def collect_under_the_lock() -> None:
        with lock:
            Loud()

    with pytest.raises(Deadlock):
        run_threads(collect_under_the_lock, **options)
    report = explore(collect_under_the_lock, threads=True, schedules=3)
    assert report.failure is not None
    assert report.failure.verdict.value == "deadlock"
    assert capsys.readouterr().err == ""


def test_other_exceptions_of_finalizers_are_told():
    told: list[str] = []

    class Wrong:
        def __del__(self) -> None:
            raise ValueError("wrong")

    def body() -> None:
        Wrong()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda unraisable: told.append(str(unraisable.exc_value)))
        run_threads(body)
    assert told == ["wrong"]
