"""From the trigger of an interrupt to its handler, and back to whoever triggered it."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

from benchmarks.row import Row
from lkl_green.linux import current_kernel, request_irq

if TYPE_CHECKING:
    from benchmarks.configurations import Configuration


def from_application(configuration: Configuration, n: int) -> float:
    """The owner triggers it and calls lkl_run()."""
    with configuration.start() as kernel:
        irq = kernel.lkl_get_free_irq("bench")
        handled: list[int] = []
        kernel.irq.request_irq(irq, handled.append, "bench")
        trigger, run = kernel.lkl_trigger_irq, kernel.lkl_run
        run()
        begin = configuration.now_ns()
        for _ in repeat(None, n):
            trigger(irq)
            run()
        time = (configuration.now_ns() - begin) / n
        assert len(handled) == n
        return time


def from_kernel_thread(configuration: Configuration, n: int) -> float:
    """A kernel thread triggers it and reaches a scheduling point."""

    def init() -> float:
        kernel = current_kernel()
        irq = kernel.lkl_get_free_irq("bench")
        handled: list[int] = []
        request_irq(irq, handled.append, "bench")
        trigger, schedule = kernel.lkl_trigger_irq, kernel.sched.schedule
        begin = configuration.now_ns()
        for _ in repeat(None, n):
            trigger(irq)
            schedule()
        time = (configuration.now_ns() - begin) / n
        assert len(handled) == n
        return time

    time: float = configuration.run(init)
    return time


ROWS = (
    Row("irq_application", "irq to handler, owner's thread", from_application, 20_000, target=15),
    Row("irq_kernel", "irq to handler, in a kernel thread", from_kernel_thread, 20_000),
)
