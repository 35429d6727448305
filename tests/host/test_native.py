"""Locks, threads and clocks that stay those of the host while `threading` and `time` are replaced."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

from lkl_green.green import green_threads, run_threads
from lkl_green.host import native
from lkl_green.kernel.current import running_here

from .stories import PATIENCE_S


def test_an_event_wakes_all_that_wait_for_it(log: list[Any]) -> None:
    event, started = native.Event(), threading.Semaphore(0)

    def wait() -> None:
        started.release()
        log.append(event.wait(PATIENCE_S))

    threads = [native.Thread(wait, name=f"waiter-{number}") for number in range(3)]
    for thread in threads:
        thread.start()
        assert started.acquire(timeout=PATIENCE_S)
    assert not event.is_set()
    event.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert log == [True] * 3
    assert event.wait()


def test_a_wait_that_is_not_woken_ends_at_its_timeout_and_leaves_nothing_behind() -> None:
    event, condition = native.Event(), native.Condition()
    assert not event.wait(0.001)
    with condition.lock:
        assert not condition.wait(0.001)
        condition.notify_all()  # finds no waiter
    assert not event.is_set()


def test_a_thread_is_listed_while_it_runs(log: list[Any]) -> None:
    go_on = native.Event()
    thread = native.Thread(lambda number: log.append((go_on.wait(PATIENCE_S), number)), (7,), name="host's")
    thread.start()
    assert thread in threading.enumerate()
    assert thread.daemon
    go_on.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert thread not in threading.enumerate()
    assert log == [(True, 7)]


def test_where_threads_are_kernel_threads_a_native_one_is_an_os_thread(log: list[Any]) -> None:
    def program() -> list[bool]:
        thread = native.Thread(lambda: log.append((native.get_ident(), running_here.kernel)), name="host's")
        thread.start()
        thread.join(PATIENCE_S)
        assert log == [(thread.ident, None)]
        return [
            threading.get_ident == native.get_ident,
            threading.Thread.start == native.Thread.start,
            time.sleep == native.sleep,
            time.monotonic == native.monotonic,
        ]

    main = native.get_ident()
    assert run_threads(program) == [False] * 4
    assert log[0][0] != main


def test_a_thread_that_began_before_the_replacement_ends_well_during_it() -> None:
    go_on = native.Event()

    def work() -> None:
        running_here.kernel = object()  # as in a ThreadHost's thread, where it stays to the end
        go_on.wait(PATIENCE_S)

    thread = native.Thread(work, name="host's")
    thread.start()
    with green_threads():
        go_on.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert thread not in threading.enumerate()


@pytest.mark.parametrize("forked_in", ["application", "kernel"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_child_forks_without_a_word_while_a_host_thread_runs(forked_in: str) -> None:
    script = """
        import os, sys
        from lkl_green.host.native import Event, Thread
        from lkl_green import lkl_start_kernel

        def fork():
            if not (child := os.fork()):
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

        leave = Event()
        thread = Thread(leave.wait, name="host's")
        thread.start()
        if sys.argv[1] == "kernel":
            lkl_start_kernel(fork, host="thread").run()
        else:
            fork()
        leave.set()
        thread.join()
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), forked_in]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["monotonic", "time", "perf_counter"])
def test_clocks_do_not_jump_with_the_kernel(name: str) -> None:
    """By their names in the module: what a program holds itself is exchanged."""

    def program() -> float:
        began = getattr(native, name)()
        time.sleep(3600)
        return float(getattr(native, name)() - began)

    assert run_threads(program) < 60
