"""Selectively uniform random walk (Zhao, Wolff, Mathur, Roychoudhury: ASPLOS 2025).

Bugs hang on the order of a few operations. So each schedule picks one object that several tasks use, at random by how
much it is used, and makes every order of the operations on *that* equally likely; whatever else happens is left to
random priorities.

*How.* One task is *intended* to do the next interesting operation, drawn in proportion to the interesting operations
that each has left, as in URW. A task that comes to an interesting operation and is not the intended one is parked.
All others go on by priority, which each draws anew with each operation. When the intended task has done its operation,
the next is drawn and nobody is parked any more.

*Staying alive.* Where everybody is parked, because the intended task sleeps or has less to do than was thought, the
intention is drawn again among those that are there. So it is where nothing interesting happens for long: the intended
task may be spinning, for one that is parked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.actor import UNDRAWN
from lkl_green.testing.policies.weighted import Weighted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor

# So many decisions without an interesting operation, and intention and priorities are drawn again.
_PATIENCE = 200

# An interesting pending operation has a priority below this: the drawn one, mirrored.
_INTERESTING = -2.0


class SURW(Weighted):
    """Every order of the operations on one object equally likely; another object each time."""

    name = "surw"

    def __init__(self) -> None:
        super().__init__()
        self._target = ""
        self._intended: Actor | None = None
        self._idle = 0

    def begin(self, seed: int, number: int) -> bool:
        """A schedule begins."""
        super().begin(seed, number)
        self._intended = None
        self._idle = 0
        return True

    def weigh(self) -> dict[str, int]:
        """The operations on one object, which is drawn here."""
        shared = self.profile.shared()
        self._target = ""
        if not shared:
            return {}
        objects = sorted(shared)
        self._target = self.random.choices(objects, [shared[obj] for obj in objects])[0]
        return self.profile.with_descendants(self.profile.objects[self._target])

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The highest priority of those that are not parked."""
        self._idle += 1
        if self._idle > _PATIENCE:
            self._start_over(enabled)
        for actor in enabled:
            if actor.priority == UNDRAWN:
                self._announced(actor)
        if self._intended is None:
            self._intend(self._present)
        index = self._highest(enabled)
        if index < 0:
            self._intend(enabled)
            index = self._highest(enabled)
        return index

    def _announced(self, actor: Actor) -> None:
        """A new pending operation: draw a priority, see whether it is interesting."""
        if actor.rank == UNDRAWN:
            self.appears(actor)
        actor.priority = self.random.random()
        if self._is_interesting(actor):
            actor.priority = _INTERESTING - actor.priority
            actor.rank = max(actor.rank, 1.0)

    def _is_interesting(self, actor: Actor) -> bool:
        return actor.obj is not None and self._target != "" and self._names.object(actor.obj) == self._target

    def _highest(self, enabled: Sequence[Actor]) -> int:
        """The highest priority; -1 if all are parked."""
        chosen, highest = -1, UNDRAWN
        for index, actor in enumerate(enabled):
            priority = actor.priority
            if priority < UNDRAWN:
                if actor is not self._intended:
                    continue
                priority = _INTERESTING - priority
            if priority > highest:
                chosen, highest = index, priority
        return chosen

    def _intend(self, actors: Sequence[Actor]) -> None:
        index = self.heaviest_draw(actors, 0.0)
        self._intended = None if index < 0 else actors[index]

    def _start_over(self, enabled: Sequence[Actor]) -> None:
        self._idle = 0
        self._intended = None
        for actor in enabled:
            actor.priority = UNDRAWN
        self._intend(enabled)

    def appears(self, actor: Actor) -> Actor | None:
        """A new actor, to whom its parent's intention may pass on."""
        parent = super().appears(actor)
        if parent is not None and parent is self._intended and actor.rank:
            before = parent.rank + actor.rank
            if self.random.random() * before < actor.rank:
                self._intended = actor
        return parent

    def executes(self, actor: Actor) -> None:
        """After an interesting operation, somebody else may be intended."""
        super().executes(actor)
        priority = actor.priority
        if priority < UNDRAWN or (priority == UNDRAWN and self._is_interesting(actor)):
            actor.rank = max(actor.rank - 1, 0.0)
            self._idle = 0
            if actor is self._intended:
                self._intended = None
