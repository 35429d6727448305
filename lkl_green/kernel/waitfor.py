"""The wait-for graph: which task waits for what, and which task could give it.

A task's `waiting_for` is the object it waits for. An object that has an `owner` (a mutex, a lock of `threading`) is
waited for until that task gives it up; one that has a `task` (a thread that is joined), until that task ends. Other
objects (semaphores, completions, wait queues) can be served by anybody, so that no edge leads on from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lkl_green.kernel.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterable


class Wait(NamedTuple):
    """One task that waits.

    Attributes:
        task: it.
        obj: for what.
        holder: the task that has to do something about it; None if that could be anybody.
        ends: whether what the holder has to do is to end.
    """

    task: Task
    obj: object
    holder: Task | None
    ends: bool


def wait_of(task: Task, others: Iterable[Task] = ()) -> Wait:
    """What a sleeping task waits for; `others` are the tasks that it may be about to join."""
    obj = task.waiting_for
    owner = getattr(obj, "owner", None)
    if isinstance(owner, Task):
        return Wait(task, obj, owner, ends=False)
    joined = getattr(obj, "task", None)
    if joined is None and obj is not None:  # a Thread object does not know its task; the task knows it
        joined = next((other for other in others if getattr(other.kthread, "thread", None) is obj), None)
    return Wait(task, obj, joined if isinstance(joined, Task) else None, ends=True)


def find_cycle(waits: Iterable[Wait]) -> list[Wait]:
    """Tasks that wait for one another, each for the next and the last for the first; empty if there are none."""
    by_task = {wait.task: wait for wait in waits}
    for start in by_task.values():
        path: list[Wait] = []
        wait: Wait | None = start
        while wait is not None and wait not in path:
            path.append(wait)
            wait = None if wait.holder is None else by_task.get(wait.holder)
        if wait is start:
            return path
    return []
