"""System calls, from the three kinds of callers."""

from __future__ import annotations

import threading
from itertools import repeat
from time import perf_counter_ns
from typing import TYPE_CHECKING

from benchmarks.row import Row
from lkl_green.linux import current_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.configurations import Configuration
    from lkl_green import Kernel

NR_GETPID = 39


def from_kernel_thread(configuration: Configuration, n: int) -> float:
    """In the calling thread."""

    def init() -> float:
        return _call(current_kernel(), n, configuration.now_ns)

    time: float = configuration.run(init)
    return time


def from_application(configuration: Configuration, n: int) -> float:
    """By the owner: a wake-up of its host task, lkl_run(), and back."""
    with configuration.start() as kernel:
        return _call(kernel, n, configuration.now_ns)


def from_foreign_thread(configuration: Configuration, n: int) -> float:
    """By another OS thread, while the owner runs the kernel and sleeps in between."""
    times: list[float] = []

    def call() -> None:
        try:
            times.append(_call(kernel, n, perf_counter_ns))
        finally:
            kernel.lkl_trigger_irq(irq)

    with configuration.start(open_ended=True) as kernel:
        irq = kernel.lkl_get_free_irq("done")
        done: list[int] = []
        kernel.irq.request_irq(irq, done.append, "done")
        thread = threading.Thread(target=call)
        thread.start()
        while not done:
            status = kernel.lkl_run()
            if not done:
                kernel.pause(status)
        # Its end wakes its host task, which is one more thing to run.
        while thread.is_alive():
            kernel.lkl_run()
    thread.join()
    return times[0]


def _call(kernel: Kernel, n: int, now_ns: Callable[[], int]) -> float:
    syscall = kernel.lkl_syscall
    assert syscall(NR_GETPID) >= 0
    begin = now_ns()
    for _ in repeat(None, n):
        syscall(NR_GETPID)
    return (now_ns() - begin) / n


ROWS = (
    Row("syscall_kernel", "lkl_syscall(getpid) in a kernel thread", from_kernel_thread, 200_000, target=2),
    Row("syscall_application", "lkl_syscall(getpid), application", from_application, 20_000, target=15),
    Row("syscall_foreign", "lkl_syscall(getpid), other OS thread", from_foreign_thread, 1_000, n_threads=300),
)
