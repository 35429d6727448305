"""What happens before what in one execution, and which of its operations race.

An *event* is an operation that was done, with whatever else its task did before the next scheduling point. Two events
are ordered if one task did both, if one let the task of the other go on, or if they conflict; and so on from event to
event. The events that happen before an event are the bits of one int. That is what makes this cheap: to unite two
pasts, or to look into one, is one operation whatever their size.

Two events *race* if they conflict, and nothing but that puts them in order. Then there is an execution in which the
second one comes first.

*Locks.* Where a task at a held lock is disabled, a lock is taken after it was given back, whatever else happened. So
taking a lock is ordered after the last release, but races with the last time it was taken: another execution may take
it in the other order, and then nothing of what the first holder did comes before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lkl_green.kernel.points import ATOMIC, COMPARE_EXCHANGE, JOIN, LOCK, POINTS, RESUME, SLEEP, START, UNLOCK
from lkl_green.testing.instrument.places import ALL, ContainerPlace, InheritedPlace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lkl_green.kernel.points import Kind
    from lkl_green.testing.actor import Actor

# What an operation is to others.
LOCAL: Final = 0  # conflicts with nothing
RELEASE: Final = 1  # gives a lock back; no event either, since nothing that conflicts can come before it
READ: Final = 2  # commutes with other reads of its object
WRITE: Final = 3  # conflicts with all operations on its object
ACQUIRE: Final = 4  # takes a lock that disables other tasks meanwhile
UNKNOWN: Final = 5  # conflicts with everything

_RELATIONS: Final = {"reads": READ, "ends": READ, "changes": WRITE, "takes": WRITE, "gives": WRITE}

# What steps do that read the clock: each look moves it on.
CLOCK: Final = "the clock"


def relations(*, observed: bool) -> dict[str, int]:
    """What each kind of operation is to others.

    Args:
        observed: whether the program looks at locks, so that giving one back is an event.
    """
    table: dict[str, int] = {kind: _RELATIONS[point.effect] for kind, point in POINTS.items()}
    table |= dict.fromkeys(ATOMIC, UNKNOWN)
    return table | {JOIN: LOCAL, LOCK: ACQUIRE, UNLOCK: WRITE if observed else RELEASE}


class Cell:
    """What was done last to one object.

    Attributes:
        changed: the last event that changed it; -1 if there is none.
        acquired: the last event that took it, if it is a lock.
        reads: the events that have looked at it since.
        released: what happened before the lock was last given back.
    """

    __slots__ = ("acquired", "changed", "reads", "released")

    def __init__(self) -> None:
        self.changed = self.acquired = -1
        self.reads: list[int] = []
        self.released = 0


class Thread:
    """A task in one execution.

    Attributes:
        number: it is the so-manieth that appeared, which is the same in executions that begin alike.
        past: the events that happen before whatever it does next.
        kind, relation, obj: its last operation, if that may wait and go on later.
        waits: whether it may.
    """

    __slots__ = ("kind", "number", "obj", "past", "relation", "waits")

    def __init__(self, number: int, past: int) -> None:
        self.number = number
        self.past = past
        self.waits = False
        self.kind: Kind = START
        self.relation = LOCAL
        self.obj: Any = None


class History:
    """The events of one execution.

    Attributes:
        looked: whether a task has looked at a lock that others take: `locked()`.
    """

    __slots__ = ("_cells", "_parts", "_pasts", "_threads", "_unknown", "looked")

    def __init__(self) -> None:
        self.looked = False
        self._pasts: list[int] = []
        self._threads: list[int] = []
        self._cells: dict[object, Cell] = {}
        self._parts: dict[object, dict[object, Cell]] = {}
        self._unknown = -1

    def clear(self) -> None:
        """An execution begins."""
        self._pasts.clear()
        self._threads.clear()
        self._cells.clear()
        self._parts.clear()
        self._unknown = -1

    def __len__(self) -> int:
        return len(self._pasts)

    @property
    def all(self) -> int:
        """All events so far."""
        return (1 << len(self._pasts)) - 1

    # -- events

    def begin(self, thread: Thread) -> int:
        """A task does something; the number of the event."""
        event = len(self._pasts)
        past = thread.past
        self._pasts.append(past)
        self._threads.append(thread.number)
        thread.past = past | 1 << event
        return event

    def access(self, thread: Thread, relation: int, obj: object) -> int:
        """The last event does this to an object; the events that race with it, as bits."""
        event = len(self._pasts) - 1
        unknown = [self._unknown] if 0 <= self._unknown < event else []
        if relation <= WRITE:
            return self._order(thread, event, self._conflicting(relation, obj, event) + unknown)
        if relation == ACQUIRE:
            races = self._acquire(thread, obj, event)
            return races | self._order(thread, event, unknown) if unknown else races
        self._unknown = event
        return self._order(thread, event, list(range(event)))

    def _order(self, thread: Thread, event: int, earlier: list[int]) -> int:
        """Put an event after others; those that nothing else puts before it."""
        pasts = self._pasts
        past = pasts[event]
        own = 0
        above = past
        for other in earlier:
            own |= 1 << other
            above |= pasts[other]
        if not own:
            return 0
        pasts[event] = past = above | own
        thread.past = past | 1 << event
        return own & ~above

    def _conflicting(self, relation: int, obj: object, event: int) -> list[int]:
        """The earlier events that conflict, and note this one."""
        if type(obj) is InheritedPlace:  # only read
            return [other for place in obj.places for other in self._conflicting(relation, place, event)]
        if type(obj) is ContainerPlace:
            found: list[int] = []
            for cell in self._cells_of_container(obj):
                found += _last(cell, relation)
            cell = self._parts[obj.address].setdefault(obj.key, Cell())
        else:
            known = self._cells.get(obj)
            if known is None:
                known = self._cells[obj] = Cell()
            cell = known
            found = _last(cell, relation)
        if relation == READ:
            self.looked |= cell.acquired >= 0
            cell.reads.append(event)
        else:
            cell.changed = event
            cell.reads = []
        return [other for other in found if other != event]

    def _cells_of_container(self, place: ContainerPlace) -> Iterator[Cell]:
        """An item conflicts with itself and with the whole, the whole with all items."""
        parts = self._parts.setdefault(place.address, {})
        if place.key is ALL:
            yield from parts.values()
            return
        for key in (place.key, ALL):
            cell = parts.get(key)
            if cell is not None:
                yield cell

    # -- locks

    def _acquire(self, thread: Thread, lock: object, event: int) -> int:
        cell = self._cells.get(lock)
        if cell is None:
            cell = self._cells[lock] = Cell()
        last = cell.acquired
        self.looked |= bool(cell.reads)
        before = self._pasts[event]
        races = (1 << last) & ~before if last >= 0 else 0
        self._pasts[event] = past = before | cell.released
        thread.past = past | 1 << event
        races |= self._order(thread, event, [cell.acquired, *cell.reads] if last >= 0 else cell.reads.copy())
        cell.acquired = cell.changed = event
        cell.reads = []
        return races

    def takes(self, lock: object) -> None:
        """The last event took a lock, though it might have failed to."""
        self._cells[lock].acquired = len(self._pasts) - 1

    def release(self, thread: Thread, lock: object) -> None:
        """A task gives a lock back. Whoever takes it next does so after that."""
        cell = self._cells.get(lock)
        if cell is not None:
            cell.released = thread.past

    def held_before(self, thread: Thread, lock: object) -> int:
        """A task wants a lock that is held for good: the event that took it, as a bit, if the two race."""
        cell = self._cells.get(lock)
        return 0 if cell is None or cell.acquired < 0 else (1 << cell.acquired) & ~thread.past

    # -- reversing

    def past(self, event: int) -> int:
        """What happens before an event."""
        return self._pasts[event]

    def initials(self, first: int, end: int, number: int, past: int) -> int:
        """Whose step may come first in an execution that reverses a race, as bits of tasks.

        It consists of the events after `first` that do not depend on it, and then of the second one of the race.

        Args:
            first: the first event of the race.
            end: the events before this one are looked at.
            number: of the second event's task.
            past: the events before the second that it depends on though `first` has not been done.
        """
        pasts, threads = self._pasts, self._threads
        done = seen = found = 0
        mask = 1 << first
        for event in range(first + 1, end):
            before = pasts[event]
            if before & mask:
                continue
            bit = 1 << threads[event]
            if not seen & bit:
                seen |= bit
                if not before & done:
                    found |= bit
            done |= 1 << event
        bit = 1 << number
        if not seen & bit and not past & done:
            found |= bit
        return found


def _last(cell: Cell, relation: int) -> list[int]:
    """The events at an object after which an operation of this kind is ordered directly."""
    if relation == WRITE and cell.reads:
        return [cell.changed, *cell.reads] if cell.changed >= 0 else cell.reads
    return [cell.changed] if cell.changed >= 0 else []


def conflict(relation: int, obj: object, other: int, other_obj: object) -> bool:
    """Whether the order of two operations may matter."""
    if relation == LOCAL or other == LOCAL:
        return False
    if relation == UNKNOWN or other == UNKNOWN:
        return True
    return not (relation == READ and other == READ) and (obj is other_obj or obj == other_obj)


def pending(actor: Actor, thread: Thread, table: dict[str, int]) -> tuple[int, Any]:
    """What a task is about to do: what that is to others, and to which object."""
    kind = actor.kind
    if kind == RESUME and thread.waits:
        return thread.relation, thread.obj
    relation, obj = table[kind], actor.obj
    if obj is None:
        if kind == SLEEP:
            return WRITE, CLOCK
        return (LOCAL if actor.task is not None else UNKNOWN), None
    if relation == ACQUIRE and obj.owner is actor.task:  # a lock that its holder may take again
        return LOCAL, None
    if kind == COMPARE_EXCHANGE and not obj.would_exchange(actor.task):
        return READ, obj
    return relation, obj
