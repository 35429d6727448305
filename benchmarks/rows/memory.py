"""What a kernel thread takes, from the resident set of a process that makes many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.memory import resident_bytes, show_bytes
from benchmarks.row import Figure, Row
from lkl_green.linux import TASK_INTERRUPTIBLE, kthread_create, kthread_run, schedule, set_current_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.configurations import Configuration
    from lkl_green.linux import Task


def per_task(bytes_before: int, n: int) -> Figure:
    """The growth of the resident set, per task."""
    size = (resident_bytes() - bytes_before) / n
    return Figure(size, show_bytes(size))


def _measure(configuration: Configuration, n: int, make: Callable[[], Task]) -> Figure:
    def init() -> Figure:
        before = resident_bytes()
        tasks = [make() for _ in range(n)]
        schedule()
        return per_task(before, len(tasks))

    figure: Figure = configuration.run(init)
    return figure


def _park() -> None:
    set_current_state(TASK_INTERRUPTIBLE)
    schedule()


def parked(configuration: Configuration, n: int) -> Figure:
    """Threads that have started and sleep."""
    return _measure(configuration, n, lambda: kthread_run(_park))


def never_run(configuration: Configuration, n: int) -> Figure:
    """Threads that were created and not woken."""
    return _measure(configuration, n, lambda: kthread_create(_park))


ROWS = (
    Row("memory_parked", "memory of a parked thread", parked, 100_000,
        n_threads=1_000, target=8192, alone=True, whole=True),
    Row("memory_never_run", "memory of a never-run thread", never_run, 100_000,
        n_threads=1_000, target=1536, alone=True, whole=True),
)  # fmt: skip
