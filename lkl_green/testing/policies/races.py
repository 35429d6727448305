"""Which operations of a schedule could have come in the other order: its races.

Two operations of different tasks race if they conflict, nothing that conflicts with both lies between them, and the
task of the second could have gone on where the first was chosen. Operations under a common lock do not race: what races
there is the taking of the lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lkl_green.testing.actor import READS
from lkl_green.testing.names import Names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lkl_green.testing.actor import Actor

# What takes a lock, and what gives it back.
TAKES = frozenset({"lock", "down", "spin_lock"})
GIVES = frozenset({"unlock", "up", "spin_unlock"})

# So many conflicting operations back, and no further: a long loop has races with everything before it.
_HORIZON = 8


class Operation(NamedTuple):
    """What identifies an operation in every schedule: the so-manieth of its kind that its task does to its object."""

    actor: str
    kind: str
    obj: str
    nth: int

    def generic(self) -> Operation:
        """The same for all tasks of one name: "setter#3" does what "setter" does."""
        return self._replace(actor=self.actor.partition("#")[0])


class Event(NamedTuple):
    """An operation that was done.

    Attributes:
        operation: what.
        decision: by which decision it was chosen; -1 if there was no other way.
        others: who could have gone on instead.
        held: the locks that its task held.
    """

    operation: Operation
    decision: int
    others: frozenset[str]
    held: frozenset[str]


class Race(NamedTuple):
    """Two events that could have come in the other order."""

    first: Event
    second: Event

    def order(self) -> tuple[Operation, Operation]:
        """What came before what, for all tasks of these names."""
        return self.first.operation.generic(), self.second.operation.generic()


class Trace:
    """The events of one schedule, as they happen."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._names = Names()
        self._counts: dict[tuple[str, str, str], int] = {}
        self._held: dict[str, frozenset[str]] = {}

    def add(self, actor: Actor, decision: int, others: Sequence[Actor]) -> Operation:
        """`actor` does its pending operation."""
        name, kind, obj = actor.name, actor.kind, self._names.object(actor.obj)
        nth = self._counts[name, kind, obj] = self._counts.get((name, kind, obj), 0) + 1
        held = self._held.get(name, frozenset())
        operation = Operation(name, kind, obj, nth)
        able = frozenset(other.name for other in others if other is not actor)
        self.events.append(Event(operation, decision, able, held))
        if kind in TAKES:
            self._held[name] = held | {obj}
        elif kind in GIVES:
            self._held[name] = held - {obj}
        return operation

    def races(self) -> Iterator[Race]:
        """Every race, in the order of the second events."""
        past: dict[str, list[Event]] = {}
        for event in self.events:
            obj = event.operation.obj
            if obj and event.operation.kind not in GIVES:
                before = past.setdefault(obj, [])
                yield from _races_with(event, before)
                before.append(event)


def _races_with(second: Event, before: Sequence[Event]) -> Iterator[Race]:
    """The races of an event with those before it on its object."""
    actor = second.operation.actor
    reads = second.operation.kind in READS
    for first in before[: -_HORIZON - 1 : -1]:
        changes = first.operation.kind not in READS
        if first.operation.actor == actor:
            if changes:
                return
        elif changes or not reads:
            if actor in first.others and not first.held & second.held:
                yield Race(first, second)
            if changes:
                return
