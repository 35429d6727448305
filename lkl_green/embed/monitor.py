"""Naming what stops the loop: a kernel thread that blocks, or computes, for longer than a slice should take.

An OS thread looks several times within the limit whether slices come and go. Python code cannot be measured more
cheaply from inside: the slice that blocks is the one that would have to look at the clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.host.native import Event, Thread, get_ident
from lkl_green.host.stacks import os_thread_frame
from lkl_green.kernel.stacktext import kernel_code_line

if TYPE_CHECKING:
    from lkl_green.embed.driver import Driver

_LOOKS = 4


class SliceMonitor:
    """Watches the slices of one driver.

    Args:
        driver: whose.
        limit_s: a slice that takes longer is reported, once, about then.

    Attributes:
        reports: a line for each, with the kernel thread and what it was at.
    """

    def __init__(self, driver: Driver, limit_s: float) -> None:
        if limit_s <= 0:
            raise ValueError(f"slow_slice_s={limit_s}: use a time in seconds above 0, or None to watch nothing")
        self._driver = driver
        self._limit_s = limit_s
        self._owner = get_ident()
        self._stop = Event()
        self._thread = Thread(self._watch, name="lkl_green slices")
        self.reports: list[str] = []

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        driver = self._driver
        seen, looks = -1, 0
        while not self._stop.wait(self._limit_s / _LOOKS):
            slices = driver.slices
            if slices != seen or not driver.kernel.loop.running:
                seen, looks = slices, 0
                continue
            looks += 1
            if looks == _LOOKS:
                self._report()

    def _report(self) -> None:
        kernel = self._driver.kernel
        task = kernel.sched.current
        ident = kernel.arch.os_thread_of(task) if task is not kernel.sched.swapper else self._owner
        where = kernel_code_line(os_thread_frame(ident))
        text = (
            f"kernel thread {task.comm}-{task.pid} keeps the event loop waiting for {self._limit_s:g} s, at {where}; "
            "leave what blocks to to_host_thread(), and call cond_resched() in long computations"
        )
        self.reports.append(text)
        kernel.printk.warn(text)
