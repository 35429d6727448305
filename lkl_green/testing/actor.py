"""Whom a decision can be about: the tasks of a test, each with the operation it is about to do.

A scheduling point stands *before* its operation. So every runnable task has exactly one pending operation, known before
it is chosen; policies that look for conflicts (POS, SURW, and partial order reduction) need that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.kernel.points import COMMUTES, START

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.points import Kind
    from lkl_green.kernel.task import Task

# A pending event to which the policy has given no priority yet.
UNDRAWN = -1.0


class Actor:
    """A task, or something else that can be chosen to act next: a timer, an interrupt.

    Attributes:
        task: the task; None for an actor that is none.
        act: what such an actor does when it is chosen; None for a task.
        name: the thread's name or the task's comm, numbered from its second bearer in this run: the same in every run
            of a schedule.
        kind, obj: the pending operation and the object it is done to.
        priority: of the pending event, for policies that use one; UNDRAWN when the event is new.
        rank: for policies that use one that lasts.
        events: how many operations it has done.
        state: what a policy keeps of it; None at first.
    """

    __slots__ = ("act", "events", "kind", "name", "obj", "priority", "rank", "state", "task")

    def __init__(self, name: str, task: Task | None, act: Callable[[], object] | None = None) -> None:
        self.name = name
        self.task = task
        self.act = act
        self.kind: Kind = START
        self.obj: Any = None
        self.priority = UNDRAWN
        self.rank = UNDRAWN
        self.events = 0
        self.state: Any = None

    def conflicts(self, other: Actor) -> bool:
        """Whether the order of the two pending operations can matter: one object, and they do not commute."""
        obj = self.obj
        return obj is not None and obj == other.obj and not (self.kind in COMMUTES and other.kind in COMMUTES)

    def __repr__(self) -> str:
        return f"<Actor {self.name} {self.kind} {self.obj!r}>"
