"""What earlier schedules of a campaign were like: how many operations each task did, to what, and who started whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.kernel.points import COMMUTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lkl_green.testing.actor import Actor
    from lkl_green.testing.names import Names


class Profile:
    """Counts, by names that are the same in every schedule; of several schedules, the largest.

    Attributes:
        events: operations of each actor.
        families: the actors that each actor started.
        objects: operations of each actor on each object.
        written: objects that somebody changes.
    """

    def __init__(self) -> None:
        self.events: dict[str, int] = {}
        self.families: dict[str, set[str]] = {}
        self.objects: dict[str, dict[str, int]] = {}
        self.written: set[str] = set()

    def merge(self, other: Profile) -> None:
        """Take in what another schedule was like."""
        _raise_to(self.events, other.events)
        for parent, children in other.families.items():
            self.families.setdefault(parent, set()).update(children)
        for obj, counts in other.objects.items():
            _raise_to(self.objects.setdefault(obj, {}), counts)
        self.written |= other.written

    def count(self, actor: Actor, names: Names) -> None:
        """`actor` does its pending operation."""
        self.events[actor.name] = self.events.get(actor.name, 0) + 1
        if actor.obj is None:
            return
        obj = names.object(actor.obj)
        counts = self.objects.setdefault(obj, {})
        counts[actor.name] = counts.get(actor.name, 0) + 1
        if actor.kind not in COMMUTES:
            self.written.add(obj)

    def with_descendants(self, own: Mapping[str, int]) -> dict[str, int]:
        """For each actor, its own count and those of all whom it starts, and they start, and so on."""
        totals: dict[str, int] = {}

        def total(name: str) -> int:
            if name not in totals:
                totals[name] = own.get(name, 0)
                totals[name] += sum(total(child) for child in self.families.get(name, ()))
            return totals[name]

        for name in self.events:
            total(name)
        return totals

    def shared(self) -> dict[str, int]:
        """How often each object is used, of those that several actors use and somebody changes."""
        return {
            obj: sum(counts.values()) for obj, counts in self.objects.items() if len(counts) > 1 and obj in self.written
        }


def _raise_to(counts: dict[str, int], others: Mapping[str, int]) -> None:
    for name, count in others.items():
        if count > counts.get(name, 0):
            counts[name] = count
