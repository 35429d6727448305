"""Hung tasks: who has been blocked for too long (kernel/hung_task.c), and who is blocked for good.

    INFO: task init:1 blocked for more than 120 seconds.

Linux's khungtaskd wakes up now and then and looks. Here no thread and no timer does it. The look is taken where time
has passed anyway: when idle moves a virtual clock on, after the host has slept, and every POLL_POINTS points.
A timer would keep a deadlock from being one, would move the end of virtual time, and would stand in every trace.

*Who counts* is Linux's rule: a task in TASK_UNINTERRUPTIBLE, neither killable (TASK_WAKEKILL) nor a service thread
(TASK_NOLOAD), that has run before. Interruptible sleepers may wait for as long as they like. One thing is added: a task
that sleeps for a time, or with a time-out, is not hung, as virtual time makes it easy to sleep for hours.

*How long* is known without a stamp in the task: see kernel/progress.py. A task is named once for each time it blocks,
and after `_MAX_WARNINGS` there are no more reports (Linux: hung_task_warnings). Linux names it again every 120 seconds;
under a virtual clock that may be each millisecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.kernel.printk import KERN_ERR
from lkl_green.kernel.sched import NEVER
from lkl_green.kernel.task import (
    PF_NEWBORN,
    TASK_NOLOAD,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    TASK_WAKEKILL,
)
from lkl_green.kernel.waitfor import wait_of

if TYPE_CHECKING:
    from collections.abc import Container

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task

DEFAULT_TIMEOUT_S = 120

_MAX_WARNINGS = 10
_LOOKS_PER_TIMEOUT = 8


class HungTasks:
    """Watches one kernel.

    Args:
        kernel: the kernel.
        timeout_ns: how long a task may be blocked; None: for ever.

    Attributes:
        due_ns: when to look next, on the kernel's clock.
    """

    __slots__ = ("_kernel", "_timeout_ns", "_told", "_warnings", "due_ns")

    def __init__(self, kernel: Kernel, timeout_ns: int | None) -> None:
        self._kernel = kernel
        self._timeout_ns = NEVER if timeout_ns is None else timeout_ns
        self._told: dict[Task, int | None] = {}  # and at which scheduling point each was switched out
        self._warnings = _MAX_WARNINGS
        self.due_ns = self._timeout_ns

    def look(self, now_ns: int) -> None:
        """Report who has been blocked for too long, and note when the next one could be."""
        kernel = self._kernel
        progress = kernel.progress
        sleepers = kernel.timers.sleepers()
        due_ns = now_ns + self._timeout_ns
        for task in kernel.pids:
            if not is_blocked(task, sleepers):
                continue
            since_ns = progress.off_cpu_since(task)
            if since_ns is None:
                continue
            if now_ns - since_ns < self._timeout_ns:
                due_ns = min(due_ns, since_ns + self._timeout_ns)
            elif self._told.get(task) != (point := progress.switched_out_at(task)):
                self._told[task] = point
                self._tell(task)
        self.due_ns = max(due_ns, now_ns + self._timeout_ns // _LOOKS_PER_TIMEOUT)

    def _tell(self, task: Task) -> None:
        if not self._warnings:
            return
        self._warnings -= 1
        kernel = self._kernel
        text = (
            f"INFO: task {task.comm}:{task.pid} blocked for more than {self._timeout_ns / 1e9:g} seconds.\n"
            f"{kernel.reports.describe(task)}"
        )
        if not self._warnings:
            text += "Future hung task reports are suppressed"
        kernel.printk.printk(text, KERN_ERR)


def is_blocked(task: Task, sleepers: Container[Task]) -> bool:
    """Whether a task is in Linux's state D, has run before, and is not among those that a timer will wake."""
    state = task.state
    return bool(
        state & TASK_UNINTERRUPTIBLE
        and not state & (TASK_WAKEKILL | TASK_NOLOAD)
        and not task.flags & PF_NEWBORN
        and not task.exit_state
        and task not in sleepers
    )


def blocked_for_good(kernel: Kernel) -> list[Task]:
    """The tasks that are blocked although nothing that is left in the kernel could wake them.

    A task that waits for what another one holds is blocked as long as that one is, and for good in a cycle. A task that
    any code could wake, by completing a completion for example, is blocked for good if no code is left that can run: no
    task is runnable, no timer is armed, and no interrupt is handled.
    """
    sleepers = kernel.timers.sleepers()
    tasks = list(kernel.pids)
    waits = {task: wait_of(task, tasks) for task in tasks if is_blocked(task, sleepers)}
    code_may_run = (
        kernel.irq.has_sources
        or kernel.timers.next_ns != NEVER
        or any(task.state == TASK_RUNNING and not task.exit_state for task in tasks)
    )

    def blocked(task: Task, waiting: tuple[Task, ...] = ()) -> bool:
        if task in waiting:
            return True
        wait = waits.get(task)
        if wait is None:
            return bool(task.exit_state)
        if wait.holder is None:
            return not code_may_run
        return blocked(wait.holder, (*waiting, task))

    return [task for task in waits if blocked(task)]
