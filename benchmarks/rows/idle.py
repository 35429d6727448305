"""The application's loop: `while True: pause(lkl_run())`."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

from benchmarks.row import Row
from lkl_green.linux import usleep

if TYPE_CHECKING:
    from benchmarks.configurations import Configuration


def idle_run(configuration: Configuration, n: int) -> float:
    """lkl_run() with nothing to do."""
    with configuration.start() as kernel:
        run = kernel.lkl_run
        run()
        begin = configuration.now_ns()
        for _ in repeat(None, n):
            run()
        return (configuration.now_ns() - begin) / n


def run_and_pause(configuration: Configuration, n: int) -> float:
    """lkl_run() with nothing to do, and a pause() that somebody ends at once by ringing the doorbell before it."""
    with configuration.start() as kernel:
        run, pause, wake = kernel.lkl_run, kernel.pause, kernel.host.idle_wake
        run()
        begin = configuration.now_ns()
        for _ in repeat(None, n):
            wake()
            pause(run())
        return (configuration.now_ns() - begin) / n


def virtual_sleep(configuration: Configuration, n: int) -> float:
    """A kernel thread sleeps; lkl_run() ends, pause() jumps to its timer, lkl_run() expires it and wakes the thread."""

    def init() -> float:
        begin = configuration.now_ns()
        for _ in repeat(None, n):
            usleep(1000)
        return (configuration.now_ns() - begin) / n

    time: float = configuration.run(init, clock="virtual")
    return time


ROWS = (
    Row("idle_run", "lkl_run() when idle", idle_run, 50_000),
    Row("run_and_pause", "lkl_run() and pause(), doorbell rung", run_and_pause, 20_000),
    Row("virtual_sleep", "a sleep in virtual time: run, pause, run", virtual_sleep, 10_000),
)
