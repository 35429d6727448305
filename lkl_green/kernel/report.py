"""What a person asks a kernel: ps, stacks, deadlock reports, statistics."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from os.path import join
from typing import TYPE_CHECKING

from lkl_green.host.stacks import PACKAGE, of_package, os_thread_frame
from lkl_green.kernel.hung_task import blocked_for_good
from lkl_green.kernel.stacktext import task_frames
from lkl_green.kernel.task import PF_NEWBORN, TASK_NOLOAD, TASK_RUNNING, Task, state_letter, state_name
from lkl_green.kernel.waitfor import find_cycle, wait_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from lkl_green.kernel.kernel import Kernel


@dataclass(frozen=True)
class KernelStatistics:
    """Counts since boot.

    Attributes:
        switches: context switches.
        irqs: interrupt handlers run.
        softirqs: per vector name, how often it ran.
        timers_pending: armed timers.
        tasks: tasks that exist, zombies included.
        time_ns: the kernel's clock.
        tainted: oopses and warnings.
    """

    switches: int
    irqs: int
    softirqs: dict[str, int]
    timers_pending: int
    tasks: int
    time_ns: int
    tainted: int


class Reports:
    """Reports about one kernel; nothing here changes anything."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def ps(self) -> str:
        """A table of the tasks: pid, parent, state, priority, name, and what each waits for."""
        lines = [f"{'PID':>7} {'PPID':>7} S {'PRI':>3} COMM             WAITING FOR"]
        for task in self._kernel.pids:
            ppid = task.parent.pid if task.parent is not None else 0
            waiting = str(task.waiting_for) if task.waiting_for is not None and task.state else ""
            line = f"{task.pid:>7} {ppid:>7} {state_letter(task)} {task.prio:>3} {task.comm:<16} {waiting}"
            lines.append(line.rstrip())
        return "\n".join(lines) + "\n"

    def report(self) -> str:
        """Each task: state, for how long, what it waits for, who holds that, its stack; and who waits in a cycle."""
        kernel = self._kernel
        tasks = list(kernel.pids)
        head = f"kernel {kernel.name} at {kernel.clock.peek_ns() / 1e9:.6f} s, {len(tasks)} tasks:\n"
        return head + self._cycle(tasks) + "".join(map(self.describe, tasks))

    def describe(self, task: Task) -> str:
        """One task of `report()`. A service thread that waits for work needs no stack."""
        waits = [self._for_how_long(task), self._for_what(task)]
        head = f"task {task.comm}-{task.pid}: {state_name(task.exit_state or task.state)}{''.join(waits)}\n"
        return head if task.state & TASK_NOLOAD else head + self._stack(task, own_code_only=True)

    def _for_how_long(self, task: Task) -> str:
        kernel = self._kernel
        since_ns = None if task.state == TASK_RUNNING else kernel.progress.off_cpu_since(task)
        return "" if since_ns is None else f" for at least {max(kernel.clock.peek_ns() - since_ns, 0) / 1e9:.3f} s"

    def _for_what(self, task: Task) -> str:
        if task.state == TASK_RUNNING:
            return ""
        wait = wait_of(task, self._kernel.pids)
        parts = [] if wait.obj is None else [f", waiting for {wait.obj}"]
        if wait.holder is not None:
            name = f"{wait.holder.comm}-{wait.holder.pid}"
            parts.append(f", until {name} ends" if wait.ends else f", which {name} holds")
        if task in (sleepers := self._kernel.timers.sleepers()):
            parts.append(f", with a time-out at {sleepers[task] / 1e9:.6f} s")
        return "".join(parts)

    def _cycle(self, tasks: Iterable[Task]) -> str:
        waits = [wait_of(task, tasks) for task in tasks if task.state != TASK_RUNNING]
        names = [f"{wait.task.comm}-{wait.task.pid}" for wait in find_cycle(waits)]
        return f"a cycle: {' -> '.join([*names, names[0]])}, each waits for the next\n" if names else ""

    def blocked_for_good(self) -> str:
        """The tasks that nothing in the kernel can wake any more; "" if there are none."""
        tasks = blocked_for_good(self._kernel)
        if not tasks:
            return ""
        names = ", ".join(f"{task.comm}-{task.pid}" for task in tasks)
        head = f"init has ended, and {names} {'is' if len(tasks) == 1 else 'are'} blocked for good (state D)\n"
        return head + self._cycle(tasks) + "".join(map(self.describe, tasks))

    def dump_stacks(self) -> str:
        """The Python stack of each task that is switched out, this package's frames included."""
        return "".join(self._describe_stack(task) for task in self._kernel.pids)

    def _describe_stack(self, task: Task, own_code_only: bool = False) -> str:
        waiting = f", waiting for {task.waiting_for}" if task.waiting_for is not None and task.state else ""
        head = f"task {task.comm}-{task.pid}: {state_name(task.exit_state or task.state)}{waiting}\n"
        return head if task is self._kernel.sched.current else head + self._stack(task, own_code_only)

    def _stack(self, task: Task, own_code_only: bool) -> str:
        frame = self._frame(task)
        if frame is None:
            return "" if task.exit_state else "  (has not run)\n"
        stack = traceback.StackSummary.extract((each, each.f_lineno) for each in task_frames(frame))
        # How a task is switched out is a different matter in each configuration.
        hidden = tuple(join(PACKAGE, layer) for layer in ("arch", "host"))
        shown = [entry for entry in reversed(stack) if not entry.filename.startswith(hidden)]
        if own_code_only:  # unless all of it is of this package
            shown = [entry for entry in shown if not of_package(entry.filename)] or shown
        return "".join(traceback.format_list(shown))

    def _frame(self, task: Task) -> FrameType | None:
        """The innermost frame of a task; that of the current one is ours, unless another OS thread runs it."""
        arch = self._kernel.arch
        if task.flags & PF_NEWBORN:
            return None
        if task is not self._kernel.sched.current:
            return arch.stack_of(task)
        return sys._getframe() if arch.runs_current() else os_thread_frame(arch.os_thread_of(task))

    def stuck(self) -> list[Task]:
        """Sleeping tasks that only another task could wake: not service threads, not host tasks between calls.

        Init is no service thread, however it sleeps: the kernel runs for as long as it does.
        """
        host_tasks = self._kernel.host_tasks
        return [
            task
            for task in self._kernel.pids
            if task.state != TASK_RUNNING
            and (not task.state & TASK_NOLOAD or (task.pid == 1 and self._kernel.has_init))
            and not task.exit_state
            and not host_tasks.outside(task)
        ]

    def deadlock(self, what: str) -> str:
        """Who waits for what, and where in the program; empty if nobody is stuck."""
        tasks = self.stuck()
        if not tasks:
            return ""
        names = ", ".join(f"{task.comm}-{task.pid}" for task in tasks)
        stacks = "".join(self._describe_stack(task, own_code_only=True) for task in tasks)
        return (
            f"deadlock: {what}: nothing is runnable, no timer is armed and no interrupt is expected, "
            f"while {names} wait{'s' if len(tasks) == 1 else ''}\n{stacks}"
        )

    def statistics(self) -> KernelStatistics:
        """Counts since boot."""
        from lkl_green.kernel.softirq import SOFTIRQ_NAMES

        kernel = self._kernel
        return KernelStatistics(
            switches=kernel.sched.nr_switches,
            irqs=kernel.irq.nr_irqs,
            softirqs={SOFTIRQ_NAMES[vec]: count for vec, count in kernel.softirq.counts.items() if count},
            timers_pending=len(kernel.timers),
            tasks=len(kernel.pids),
            time_ns=kernel.clock.peek_ns(),
            tainted=kernel.printk.tainted,
        )
