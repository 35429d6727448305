"""What a person asks a kernel: ps, stacks, deadlock reports, statistics."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from os.path import dirname, join
from typing import TYPE_CHECKING

from lkl_green.kernel.task import PF_NEWBORN, TASK_NOLOAD, TASK_RUNNING, Task, state_letter, state_name

if TYPE_CHECKING:
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

    def dump_stacks(self) -> str:
        """The Python stack of each task that is switched out (sysrq-t)."""
        return "".join(map(self._describe, self._kernel.pids))

    def _describe(self, task: Task, own_code_only: bool = False) -> str:
        waiting = f", waiting for {task.waiting_for}" if task.waiting_for is not None and task.state else ""
        head = f"task {task.comm}-{task.pid}: {state_name(task.exit_state or task.state)}{waiting}\n"
        if task is self._kernel.sched.current:
            return head
        frame = None if task.flags & PF_NEWBORN else self._kernel.arch.stack_of(task)
        if frame is None:
            return head + "  (has not run)\n"
        stack = traceback.extract_stack(frame)
        # What is above is the host thread's affair, and a different one in each configuration.
        first = next((number for number, entry in enumerate(stack) if entry.name == "ret_from_fork"), 0)
        package = dirname(dirname(__file__))
        hidden = tuple(join(package, layer) for layer in ("arch", "host"))
        shown = [entry for entry in stack[first:] if not entry.filename.startswith(hidden)]
        if own_code_only:  # unless all of it is ours
            shown = [entry for entry in shown if not entry.filename.startswith(join(package, ""))] or shown
        return head + "".join(traceback.format_list(shown))

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
        stacks = "".join(self._describe(task, own_code_only=True) for task in tasks)
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
