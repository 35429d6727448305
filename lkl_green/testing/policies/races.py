"""Which operations of a schedule could have come in the other order: its races.

Two operations of different tasks race if they conflict, nothing that conflicts with both lies between them, and the
task of the second could have gone on where the first was chosen. Operations under a common lock do not race: what races
there is the taking of the lock. A semaphore is not such a lock, because its count may let several tasks in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lkl_green.kernel.points import COMMUTES, GIVES, POINTS, RESUME, START
from lkl_green.testing.instrument.places import Place
from lkl_green.testing.names import Names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lkl_green.kernel.points import Kind
    from lkl_green.testing.actor import Actor

# So many different operations on one object, and no more: a long loop has races with everything before it.
_KINDS = 100


class Operation(NamedTuple):
    """What identifies an operation in every schedule: the so-manieth that its task does."""

    actor: str
    kind: Kind
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
        place: of an access of ordinary code.
    """

    operation: Operation
    decision: int
    others: frozenset[str]
    held: frozenset[str]
    place: Place | None = None

    @property
    def group(self) -> object:
        """What is equal for all events that can conflict with this one."""
        return self.operation.obj if self.place is None else self.place.group


class Race(NamedTuple):
    """Two events that could have come in the other order."""

    first: Event
    second: Event

    def turned(self) -> Passing:
        """What it would be, turned round."""
        return Passing(self.first.operation.generic(), self.second.operation.generic())


class Passing(NamedTuple):
    """A task is about to do something, and meanwhile another one does what conflicts with it."""

    pending: Operation
    done: Operation


class Execution:
    """The events of one schedule, as they happen: what the literature calls an execution."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._names = Names()
        self._counts: dict[str, int] = {}
        self._held: dict[str, frozenset[str]] = {}
        # Of each actor: the lock that it took or tried to take, its name, and whether it waited for it.
        self._taking: dict[str, tuple[Any, str, bool]] = {}

    def add(self, actor: Actor, decision: int, others: Sequence[Actor]) -> Operation:
        """`actor` does its pending operation."""
        name, kind, obj = actor.name, actor.kind, self._names.object(actor.obj)
        nth = self._counts[name] = self._counts.get(name, 0) + 1
        held = self._held_by(actor)
        operation = Operation(name, kind, obj, nth)
        able = frozenset(other.name for other in others if other is not actor)
        place = actor.obj if isinstance(actor.obj, Place) else None
        self.events.append(Event(operation, decision, able, held, place))
        point = POINTS[kind]
        if point.holds:
            self._taking[name] = actor.obj, obj, point.waits
        elif obj in held and kind in GIVES:
            self._held[name] = held - {obj}
        return operation

    def _held_by(self, actor: Actor) -> frozenset[str]:
        """The locks that an actor holds while it does its pending operation.

        Only now is it known whether its last attempt to take a lock succeeded: the lock says so by its `owner`. A lock
        without that attribute is held if its `lock` operation is over. RESUME says nothing yet, it may sleep again.
        """
        held = self._held.get(actor.name, frozenset())
        if actor.kind != RESUME and actor.name in self._taking:
            lock, name, waited = self._taking.pop(actor.name)
            if getattr(lock, "owner", actor.task if waited else None) is actor.task:
                held = self._held[actor.name] = held | {name}
        return held

    def races(self) -> Iterator[Race]:
        """Every kind of race, by its earliest first event."""
        firsts: dict[object, dict[Operation, Event]] = {}
        for event in self.events:
            operation = event.operation
            if not operation.obj or operation.kind in GIVES:
                continue
            before = firsts.setdefault(event.group, {})
            for first in before.values():
                if operation.actor in first.others and not first.held & event.held and _conflict(first, event):
                    yield Race(first, event)
            generic = operation.generic()
            if generic not in before and len(before) < _KINDS:
                before[generic] = event

    def passings(self) -> Iterator[Passing]:
        """Every conflicting operation that came while another one was pending."""
        past: dict[object, list[tuple[int, Event]]] = {}
        latest: dict[str, int] = {}
        for place, event in enumerate(self.events):
            operation = event.operation
            since = latest.get(operation.actor, -1)
            if operation.kind != START or operation.obj:  # without an object it is the first run of the task
                latest[operation.actor] = place
            if operation.obj:
                before = past.setdefault(event.group, [])
                for when, other in reversed(before):
                    if when < since:
                        break
                    if _conflict(other, event):
                        yield Passing(operation.generic(), other.operation.generic())
                before.append((place, event))


def _conflict(event: Event, other: Event) -> bool:
    one, two = event.operation, other.operation
    if one.actor == two.actor or (one.kind in COMMUTES and two.kind in COMMUTES):
        return False
    return event.place == other.place
