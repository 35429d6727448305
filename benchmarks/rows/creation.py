"""The whole life of a thread: created, run, gone; one after another."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

from benchmarks.row import Row
from lkl_green.linux import Completion, current_kernel, do_exit

if TYPE_CHECKING:
    from benchmarks.configurations import Configuration


def _nothing(_arg: object = None) -> None:
    """A kthread function."""


def _exit(_arg: object) -> None:
    """A kernel_thread() function."""
    do_exit()


def fork_chain(configuration: Configuration, n: int) -> float:
    """Each thread starts the next one and exits."""

    def init() -> float:
        kernel_thread = current_kernel().fork.kernel_thread
        done = Completion()

        def generation(left: int) -> None:
            if left:
                kernel_thread(generation, left - 1)
            else:
                done.complete()
            do_exit()

        begin = configuration.now_ns()
        kernel_thread(generation, n - 1)
        done.wait_for_completion()
        return (configuration.now_ns() - begin) / n

    time: float = configuration.run(init)
    return time


def fork_and_yield(configuration: Configuration, n: int) -> float:
    """A parent starts a thread and gives up the CPU until it has ended."""

    def init() -> float:
        kernel = current_kernel()
        kernel_thread = kernel.fork.kernel_thread
        schedule = kernel.sched.schedule
        begin = configuration.now_ns()
        for _ in repeat(None, n):
            kernel_thread(_exit)
            schedule()
        time = (configuration.now_ns() - begin) / n
        _check_all_gone()
        return time

    time: float = configuration.run(init)
    return time


def kthread_run(configuration: Configuration, n: int) -> float:
    """The same with kthreadd, which makes the thread, in between."""

    def init() -> float:
        kernel = current_kernel()
        run = kernel.kthreads.kthread_run
        schedule = kernel.sched.schedule
        begin = configuration.now_ns()
        for _ in repeat(None, n):
            run(_nothing)
            schedule()
        time = (configuration.now_ns() - begin) / n
        _check_all_gone()
        return time

    time: float = configuration.run(init)
    return time


def _check_all_gone() -> None:
    """Only the four tasks of an idle kernel are left, or what was measured is something else."""
    left = [task for task in current_kernel().pids if task.pid > 3]
    assert not left, f"still alive: {left}"


ROWS = (
    Row("fork_chain", "kernel_thread to exit, each starts the next", fork_chain, 20_000, target=10),
    Row("fork_and_yield", "kernel_thread to exit, parent yields", fork_and_yield, 20_000, target=10),
    Row("kthread_run", "kthread_run through kthreadd to exit", kthread_run, 10_000, target=25),
)
