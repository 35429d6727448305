"""Lock order inversion, without hitting it (after Linux's lockdep).

Whoever takes lock B while holding A has put A before B. If another task puts B before A, there is a schedule in which
each holds one and waits for the other, whether or not it was met. Orders are collected while a run is recorded: one run
shows both orders if both pieces of code run in it. An order that a third lock guards, held both times, cannot go wrong
and is not reported (lockdep reports it, too); nor is what one task does in turn. Taking without waiting (trylock) never
closes a cycle, but what was taken so is held like anything else. Spin locks do not count: on one CPU their holder is
not switched away from, so that nobody can come in between.

Orders of different runs are not put together: "Lock#2" is the second lock that a run used, in another run maybe
another.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from lkl_green.kernel.points import POINTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lkl_green.kernel.points import Kind
    from lkl_green.kernel.task import Task
    from lkl_green.testing.source import Where

# How many tasks are remembered for one order, and how long the cycles are that are looked for.
_WITNESSES = 4
_LONGEST = 4


class Held(NamedTuple):
    """A lock that a task took."""

    lock: Any
    name: str
    where: Where | None
    task: Task


class Order(NamedTuple):
    """`then` was taken while `first` was held.

    Attributes:
        who: by whom.
        first, then: the locks.
        guards: what else was held.
    """

    who: str
    first: Held
    then: Held
    guards: frozenset[str]

    def __str__(self) -> str:
        return (
            f"{self.who} takes {self.first.name} at {_at(self.first.where)}, then {self.then.name} at "
            f"{_at(self.then.where)}"
        )


class LockOrder:
    """The orders of one run."""

    def __init__(self) -> None:
        self._held: dict[str, list[Held]] = {}
        self._orders: dict[tuple[str, str], list[Order]] = {}

    def announce(self, who: str, task: Task, op: Kind, lock: Any, name: str, where: Where | None) -> None:
        """A task is about to do `op` to `lock`."""
        point = POINTS[op]
        if not point.holds or not hasattr(lock, "owner"):
            return
        # Whether an earlier attempt succeeded, and what was released by whomever, shows in the locks themselves.
        holds = [held for held in self._held.get(who, ()) if held.lock.owner is task]
        taken = Held(lock, name, where, task)
        if point.waits:
            for held in holds:
                if all(other.lock is not lock for other in holds):
                    self._put(Order(who, held, taken, frozenset(other.name for other in holds if other is not held)))
        holds.append(taken)
        self._held[who] = holds

    def _put(self, order: Order) -> None:
        orders = self._orders.setdefault((order.first.name, order.then.name), [])
        if len(orders) < _WITNESSES and all((known.who, known.guards) != (order.who, order.guards) for known in orders):
            orders.append(order)

    def taken_at(self, lock: Any) -> Where | None:
        """Where whoever holds a lock took it."""
        for holds in self._held.values():
            for held in holds:
                if held.lock is lock and held.lock.owner is held.task:
                    return held.where
        return None

    def held(self) -> list[tuple[str, Held]]:
        """The locks that are held now, and who took them."""
        return [(who, held) for who, holds in self._held.items() for held in holds if held.lock.owner is held.task]

    def inversions(self) -> list[str]:
        """Each set of locks that is taken in orders that contradict each other, with both places."""
        found: dict[frozenset[str], str] = {}
        for cycle in self._cycles():
            locks = frozenset(cycle)
            if locks not in found:
                text = self._witnessed(cycle)
                if text:
                    found[locks] = text
        return list(found.values())

    def _cycles(self) -> Iterator[tuple[str, ...]]:
        after: dict[str, list[str]] = {}
        for first, then in self._orders:
            after.setdefault(first, []).append(then)
        paths: list[tuple[str, ...]] = [(lock,) for lock in after]
        for _ in range(_LONGEST):
            longer: list[tuple[str, ...]] = []
            for path in paths:
                for lock in after.get(path[-1], ()):
                    if lock == path[0]:
                        yield path
                    elif lock not in path and lock > path[0]:  # each cycle from its least lock only
                        longer.append((*path, lock))
            paths = longer

    def _witnessed(self, cycle: tuple[str, ...]) -> str:
        """Orders by different tasks, with no guard in common, that make the cycle; "" if there are none."""
        steps = [self._orders[first, then] for first, then in zip(cycle, (*cycle[1:], cycle[0]), strict=True)]
        for orders in product(*steps):
            guards = [order.guards for order in orders]
            if len({order.who for order in orders}) == len(orders) and not frozenset.intersection(*guards):
                return f"lock order inversion of {', '.join(cycle)}: {'; '.join(map(str, orders))}"
        return ""


def _at(where: Where | None) -> str:
    return "an unknown line" if where is None else str(where)
