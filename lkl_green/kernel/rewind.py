"""Taking a kernel back to the moment after its boot, where that is the same as booting a new one.

Booting and halting costs about a thousand context switches; a test that is run ten thousand times cannot pay that. But
a kernel in which all that was started has ended differs from a new one only in counters: the next pid, the clock,
sequence numbers, the log. Those are put back. Anything else that is left (a task, an armed timer, an open file, an
interrupt line, a kworker) and the kernel is not clean: `rewind()` says so, and the caller boots a new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.errors import KernelBug
from lkl_green.host.clock import VirtualClock
from lkl_green.kernel.sched import NEVER, POLL_POINTS

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel


class Rewind:
    """Remembers a kernel as it is now, idle, to take it back there.

    Args:
        kernel: one with a virtual clock, of which nothing runs.
    """

    __slots__ = ("_base", "_clock", "_kernel", "_leftovers", "_lines", "_next_pid", "_now_ns", "_programs")

    def __init__(self, kernel: Kernel) -> None:
        if not isinstance(kernel.clock, VirtualClock):
            raise KernelBug(f"a kernel on a {type(kernel.clock).__name__} cannot be rewound: real time has passed")
        self._kernel = kernel
        kernel.bindings.restores = True
        self._clock = kernel.clock
        self._now_ns = kernel.clock.peek_ns()
        self._base = [(task, task.state) for task in kernel.pids]
        self._next_pid = kernel.pids.next_pid
        self._leftovers = (kernel.irq.raised, kernel.irq.held, kernel.host_tasks.posts)
        self._lines = len(kernel.irq.lines)
        self._programs = kernel.exec.nr_programs

    def rewind(self) -> bool:
        """Put the counters back; False, and nothing done, if something is left that a new kernel would not have."""
        kernel = self._kernel
        if kernel.stopping or kernel.halted or not self._is_clean():
            return False
        kernel.pids.next_pid = self._next_pid
        self._clock.rewind_to(self._now_ns)
        sched = kernel.sched
        sched.points = sched.misses = sched.idle_switches = 0
        sched.checkpoint = POLL_POINTS
        sched.leave = False
        kernel.progress.rewind()
        kernel.livelock.rewind()
        kernel.loop.rewind()
        kernel.timers.rewind()
        kernel.exits.rewind()
        kernel.bindings.let_go()
        if kernel.printk.records or kernel.printk.tainted:
            kernel.printk.records.clear()
            kernel.printk.tainted = 0
        return True

    def _is_clean(self) -> bool:
        kernel = self._kernel
        if len(kernel.pids.tasks) != len(self._base) or any(self._leftovers):
            return False
        if (
            kernel.sched.picked is not None
            or kernel.timers.next_ns != NEVER
            or kernel.softirq.pending
            or kernel.fs.nr_files
        ):
            return False
        for task, state in self._base:
            if task.state != state or task.signals:
                return False
        return len(kernel.irq.lines) == self._lines and kernel.exec.nr_programs == self._programs
