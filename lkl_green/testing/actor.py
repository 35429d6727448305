"""Whom a decision can be about: the tasks of a test, each with the operation it is about to do.

A scheduling point stands *before* its operation. So every runnable task has exactly one pending operation, known before
it is chosen; policies that look for conflicts (POS, SURW, and partial order reduction) need that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.task import Task

# An operation that is not here may change its object.
READS = frozenset({"read", "wait", "wait_for_completion", "join", "poll", "start", "resume", "yield", "is_set"})

# What a task is about to do that has announced nothing: run for the first time, run on after a sleep, or after a yield.
START, RESUME, YIELD = "start", "resume", "yield"

# A pending event to which the policy has given no priority yet.
UNDRAWN = -1.0


class Actor:
    """A task, or something else that can be chosen to act next: a timer, an interrupt.

    Attributes:
        task: the task; None for an actor that is none.
        act: what such an actor does when it is chosen; None for a task.
        name: the task's comm, numbered from its second bearer in this run: the same in every run of a schedule.
        kind, obj: the pending operation and the object it is done to.
        priority: of the pending event, for policies that use one; UNDRAWN when the event is new.
        rank: for policies that use one that lasts.
        events: how many operations it has done.
    """

    __slots__ = ("act", "events", "kind", "name", "obj", "priority", "rank", "task")

    def __init__(self, name: str, task: Task | None, act: Callable[[], object] | None = None) -> None:
        self.name = name
        self.task = task
        self.act = act
        self.kind = START
        self.obj: Any = None
        self.priority = UNDRAWN
        self.rank = UNDRAWN
        self.events = 0

    def conflicts(self, other: Actor) -> bool:
        """Whether the order of the two pending operations can matter: one object, and one of them changes it."""
        obj = self.obj
        return obj is not None and obj == other.obj and not (self.kind in READS and other.kind in READS)

    def __repr__(self) -> str:
        return f"<Actor {self.name} {self.kind} {self.obj!r}>"
