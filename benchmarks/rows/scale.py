"""Limits: many generations, and many threads at once."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.memory import peak_resident_bytes, resident_bytes, show_bytes
from benchmarks.row import Figure, Row
from lkl_green.linux import Completion, current_kernel, do_exit, kthread_create, wake_up_process

if TYPE_CHECKING:
    from benchmarks.configurations import Configuration

STEPS = 10


def fork_generations(configuration: Configuration, n: int) -> Figure:
    """A chain of n generations, and what the resident set has grown by between the first tenth and the end."""

    def init() -> Figure:
        kernel_thread = current_kernel().fork.kernel_thread
        done = Completion()
        early: list[int] = []

        def generation(number: int) -> None:
            if number == n // STEPS:
                early.append(resident_bytes())
            if number < n:
                kernel_thread(generation, number + 1)
            else:
                done.complete()
            do_exit()

        kernel_thread(generation, 0)
        done.wait_for_completion()
        growth = resident_bytes() - early[0]
        return Figure(growth, f"+{show_bytes(growth)}")

    figure: Figure = configuration.run(init)
    return figure


def never_run_then_run(configuration: Configuration, n: int) -> Figure:
    """Create n threads, then wake them all, then let them run to their end."""
    begin = perf_counter()

    def tell(text: str) -> None:
        print(f"    {perf_counter() - begin:6.1f} s  {text}", file=sys.stderr, flush=True)

    def init() -> None:
        done = Completion()
        ended = [0]

        def thread() -> None:
            ended[0] += 1
            if ended[0] % (n // STEPS) == 0:
                tell(f"{ended[0]:,} threads have run")
            if ended[0] == n:
                done.complete()

        tasks = []
        for number in range(1, n + 1):
            tasks.append(kthread_create(thread))
            if number % (n // STEPS) == 0:
                tell(f"{number:,} threads created")
        for task in tasks:
            wake_up_process(task)
        tell(f"{n:,} threads woken")
        tasks.clear()
        done.wait_for_completion()
        assert ended[0] == n

    configuration.run(init)
    seconds = perf_counter() - begin
    return Figure(seconds, f"{seconds:.0f} s, {show_bytes(peak_resident_bytes())}")


ROWS = (
    Row("fork_generations", "fork chain, generations: growth", fork_generations, 100_000,
        n_threads=2_000, n_least=STEPS, alone=True, whole=True),
    Row("million", "never-run threads, woken, run to exit", never_run_then_run, 1_000_000,
        n_threads=2_000, n_least=STEPS, alone=True, whole=True, full_only=True),
)  # fmt: skip
