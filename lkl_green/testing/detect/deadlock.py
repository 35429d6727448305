"""Deadlocks, exactly: nothing can run any more, and this is who waits for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.kernel.task import TASK_DEAD
from lkl_green.kernel.waitfor import Wait, find_cycle, wait_of
from lkl_green.testing.detect.lostwakeup import hints
from lkl_green.testing.detect.queues import told_queue
from lkl_green.testing.source import stack_of

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.testing.detect.evidence import Evidence

_STACK_LINES = 4


def describe_deadlock(kernel: Kernel, evidence: Evidence) -> str:
    """Who waits for what, who holds it since where, the cycle if there is one, and stacks without our frames."""
    stuck = kernel.reports.stuck()
    waits = [wait_of(task, stuck) for task in stuck]
    cycle = find_cycle(waits)
    lines = []
    if cycle:
        names = [evidence.task(wait.task) for wait in cycle]
        lines.append(f"a cycle of {len(cycle)}: {' -> '.join([*names, names[0]])}, each waits for the next")
    for wait in [*cycle, *(wait for wait in waits if wait not in cycle)]:
        frame = kernel.arch.stack_of(wait.task)
        what = told_queue(frame, wait.obj, evidence) or f"waits for {_what(wait, evidence)}"
        lines.append(f"{evidence.task(wait.task)} {what}")
        stack = stack_of(frame)
        lines.extend(_tasks_of_loop(wait.obj))
        lines.extend(f"    {where} in {where.function}: {where.text}" for where in stack[-_STACK_LINES:])
    lines.extend(hints(kernel, waits, evidence))
    return "\n".join(lines)


def _tasks_of_loop(obj: object) -> list[str]:
    """What the tasks of an event loop wait for, if a thread waits in the selector of one."""
    loop = getattr(obj, "loop", None)
    if loop is None:
        return []
    from lkl_green.testing.loops.awaiting import unfinished_tasks

    return [f"    {task}" for task in unfinished_tasks(loop)]


def _what(wait: Wait, evidence: Evidence) -> str:
    """The object, and who could let go of it."""
    if wait.obj is None:
        return "a wake-up: it sleeps outside every wait queue"
    holder = wait.holder
    if holder is None:
        return evidence.told(wait.obj) + (", which no task holds" if hasattr(wait.obj, "owner") else "")
    name = evidence.task(holder)
    if wait.ends:
        return f"the end of {name}"
    taken = evidence.locks.taken_at(wait.obj)
    since = f" since {taken}" if taken is not None else ""
    gone = ", and has ended" if holder.state == TASK_DEAD else ""
    return f"{evidence.told(wait.obj)}, which {name} holds{since}{gone}"
