"""Giving up the CPU while others are runnable.

init is one of the tasks. The others wait at a starting line until all of them have started; then everybody gives up the
CPU in turn, so that in each round of init's every task is switched to once, and nothing else happens.
"""

from __future__ import annotations

from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING

from benchmarks.row import Row
from lkl_green import linux
from lkl_green.linux import TASK_INTERRUPTIBLE, current_kernel, kthread_run, set_current_state, wake_up_process

if TYPE_CHECKING:
    from benchmarks.configurations import Configuration


def schedule_among(tasks: int, through_linux: bool, configuration: Configuration, n: int) -> float:
    """Nanoseconds per switch between `tasks` runnable kernel threads."""
    rounds = max(n // tasks, 1)

    def init() -> float:
        schedule = linux.schedule if through_linux else current_kernel().sched.schedule

        def thread() -> None:
            set_current_state(TASK_INTERRUPTIBLE)
            schedule()
            for _ in repeat(None, rounds + 1):
                schedule()

        threads = [kthread_run(thread) for _ in range(tasks - 1)]
        schedule()
        for task in threads:
            wake_up_process(task)
        begin = configuration.now_ns()
        for _ in repeat(None, rounds):
            schedule()
        return (configuration.now_ns() - begin) / (rounds * tasks)

    time: float = configuration.run(init)
    return time


ROWS = (
    Row("schedule_2", "schedule() between 2 threads", partial(schedule_among, 2, False), 200_000, target=2.5),
    Row("linux_schedule_2", "the same through linux.schedule", partial(schedule_among, 2, True), 200_000),
    Row("schedule_1000", "schedule() among 1000 threads", partial(schedule_among, 1000, False), 200_000,
        n_threads=5_000, n_least=3_000, target=2.4),
    Row("linux_schedule_1000", "the same through linux.schedule", partial(schedule_among, 1000, True), 200_000,
        n_threads=5_000, n_least=3_000),
)  # fmt: skip
