"""Race reversal: active testing (after Sen: PLDI 2008), with the backtracking points of Flanagan and Godefroid (2005).

Each schedule of this policy is watched for races: pairs of operations that could have come in the other order. A later
schedule goes the same way up to the first of the two, and there lets the second task go on, and nobody else if that is
possible, until it has done the second. From there on nobody is preempted. Such schedules are watched in turn.

There are many races and few kinds of them. Two races are of one kind if the same operations meet in the same order, by
tasks that bear one name; each order of each pair is tried once. So the number of schedules does not grow with the
number of equal tasks, nor much with the length of what they do before. Nothing is exhausted by that; what it does is to
see each pair of neighbours both ways before chance gets its turn. When there is no order left that was not seen, this
policy samples partial orders, and watches those.

The first two schedules of a campaign are as different as two can be, for little to be left over: round robin from the
newest task to the oldest, an operation each; and every task until it sleeps, oldest first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.policies.base import Policy
from lkl_green.testing.policies.pos import POS
from lkl_green.testing.policies.races import Operation, Race, Trace
from lkl_green.testing.policies.round_robin import RoundRobin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor
    from lkl_green.testing.run import Run

# How long a task goes on where nobody is to be preempted: for ever, if it were not for those that spin.
_LONG = 200


class Reversal(Policy):
    """Turns the races of earlier schedules round, one in each."""

    name = "reversal"
    learns = True

    def __init__(self) -> None:
        super().__init__()
        self._sampler = POS()
        self._opening: tuple[Policy, ...] = (RoundRobin(newest_first=True), RoundRobin(_LONG))
        self._plain = RoundRobin(_LONG)
        self._base: Policy = self._plain
        self._seen: set[tuple[Operation, Operation]] = set()
        self._open: dict[tuple[Operation, Operation], tuple[Race, list[int]]] = {}
        self._trace = Trace()
        self._prefix: Sequence[int] = ()
        self._goal: Race | None = None
        self._decisions = 0
        self._others: Sequence[Actor] = ()

    @property
    def has_open(self) -> bool:
        """Whether there is an order that was not seen yet."""
        return bool(self._open)

    def begin(self, seed: int, number: int) -> bool:
        """Choose a race to be reversed, if there is one."""
        super().begin(seed, number)
        self._trace = Trace()
        self._decisions = 0
        self._others = ()
        self._prefix, self._goal = (), None
        if number < len(self._opening):
            self._base = self._opening[number]
        elif self._open:
            self._base = self._plain
            race, self._prefix = self._take()
            self._goal = race
        else:
            self._base = self._sampler
        return self._base.begin(seed, number)

    def _take(self) -> tuple[Race, list[int]]:
        """One of the open races; it does not come again."""
        _, found = self._open.popitem()
        self._seen.add(_turned(found[0].order()))
        return found

    # -- the schedule

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """As before, then the second task of the race, then nobody is preempted."""
        decision = self._decisions
        self._decisions = decision + 1
        self._others = enabled
        if decision < len(self._prefix):
            return min(self._prefix[decision], len(enabled) - 1)
        if self._goal is not None and decision < len(self._prefix) + _LONG:
            index = self._towards(self._goal, enabled)
            if index >= 0:
                return index
        return self._base.pick(enabled, running)

    def _towards(self, goal: Race, enabled: Sequence[Actor]) -> int:
        """The second task; while it sleeps, anybody but the first."""
        second, first = goal.second.operation.actor, goal.first.operation.actor
        other = -1
        for index, actor in enumerate(enabled):
            if actor.name == second:
                return index
            if actor.name != first:
                other = index
        return other

    def choose(self, kind: str, count: int) -> int:
        """As before; afterwards, by chance."""
        decision = self._decisions
        self._decisions = decision + 1
        if decision < len(self._prefix):
            return min(self._prefix[decision], count - 1)
        return super().choose(kind, count)

    def executes(self, actor: Actor) -> None:
        """Write it down; see whether the race is turned round."""
        others = self._others
        self._others = ()
        operation = self._trace.add(actor, self._decisions - 1 if others else -1, others)
        if self._goal is not None and operation == self._goal.second.operation and self._decisions > len(self._prefix):
            self._goal = None

    # -- what it was like

    def end(self, run: Run) -> None:
        """Remember which orders were seen, and which could be turned round."""
        if self._base is not self._plain:
            self._base.end(run)
        races = list(self._trace.races())
        for race in races:
            self._seen.add(race.order())
        for order in [order for order in self._open if _turned(order) in self._seen]:
            del self._open[order]
        for race in races:
            order = race.order()
            if _turned(order) not in self._seen and order not in self._open:
                self._open[order] = (race, run.trail[: race.first.decision])


def _turned(order: tuple[Operation, Operation]) -> tuple[Operation, Operation]:
    return order[1], order[0]
