"""What URW and SURW have in common: tasks that weigh what they still have to do.

A task's weight stands in its `rank`. Until it has started its children, theirs is part of it: else the choice between
"the parent goes on, and starts ten tasks" and "the only other task goes on" would be taken for an even one.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from lkl_green.testing.actor import UNDRAWN
from lkl_green.testing.names import Names
from lkl_green.testing.policies.base import Policy
from lkl_green.testing.policies.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.kernel.task import Task
    from lkl_green.testing.actor import Actor
    from lkl_green.testing.run import Run

# The first schedule of a campaign is profiled, and then one in so many: it costs a tenth of the speed.
_PROFILE_EVERY = 16


class Weighted(Policy):
    """Chooses by what each task still has to do, as far as earlier schedules tell."""

    learns = True

    def __init__(self) -> None:
        super().__init__()
        self.profile = Profile()
        self._runs = 0
        self._weights: dict[str, int] = {}
        self._present: list[Actor] = []
        self._by_task: dict[Task | None, Actor] = {}
        self._names = Names()
        self._profiling: Profile | None = None

    def begin(self, seed: int, number: int) -> bool:
        """A schedule begins: weigh what is known."""
        super().begin(seed, number)
        self._present = []
        self._by_task = {}
        self._names = Names()
        self._profiling = Profile() if self._runs % _PROFILE_EVERY == 0 else None
        self._runs += 1
        self._weights = self.weigh()
        return True

    @abstractmethod
    def weigh(self) -> dict[str, int]:
        """What each actor and those that it starts will have to do in this schedule."""

    def appears(self, actor: Actor) -> Actor | None:
        """An actor that was not there before: it takes its weight over from its parent, which is returned."""
        actor.rank = weight = float(self._weights.get(actor.name, 0))
        self._present.append(actor)
        task = actor.task
        self._by_task[task] = actor
        parent = None if task is None else self._by_task.get(task.parent)
        if parent is not None:
            parent.rank = max(parent.rank - weight, 0.0)
            if self._profiling is not None:
                self._profiling.families.setdefault(parent.name, set()).add(actor.name)
        return parent

    def heaviest_draw(self, actors: Sequence[Actor], least: float) -> int:
        """An index into `actors`, drawn by weight; each counts for at least `least`. -1 if nobody weighs anything."""
        total = 0.0
        for actor in actors:
            total += max(least, actor.rank)
        if total == 0:
            return -1
        point = self.random.random() * total
        for index, actor in enumerate(actors):
            point -= max(least, actor.rank)
            if point < 0:
                return index
        return len(actors) - 1

    def executes(self, actor: Actor) -> None:
        """Count it."""
        if actor.rank == UNDRAWN:
            self.appears(actor)
        if self._profiling is not None:
            self._profiling.count(actor, self._names)

    def end(self, run: Run) -> None:
        """Keep what was counted."""
        if self._profiling is not None:
            self.profile.merge(self._profiling)
