"""Race reversal: active testing (after Sen: PLDI 2008), with the backtracking points of Flanagan and Godefroid (2005).

Each schedule of this policy is watched for *races*: pairs of operations that could have come in the other order. A
later schedule goes the same way up to the first of the two. There its task is held back, and the other one goes on, or
whoever it waits for, until it has done the second. From there on nobody is preempted; of each race there are two
schedules, one that goes on with the task that was held back, and one with the other. Both are watched in turn.

There are many races and few kinds of them. A kind is: the operation before which a task is held back, for all tasks
that bear one name; the name of the other one; and where the schedule comes from, by the schedule at its root and by how
many reversals it is away from that. Each kind is tried once, by its earliest race, and not at all if the second
operation has been seen to come while the first one was pending. So the number of schedules grows neither with the
number of equal tasks nor with the square of what they do. This exhausts nothing. It sees to it that every pair of
operations has met both ways before chance gets its turn; when nothing is open, this policy samples partial orders, and
watches those.

The first two schedules of a campaign are as different as two can be: round robin from the newest task to the oldest, an
operation each; and every task until it sleeps, the oldest first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lkl_green.testing.policies.base import Policy
from lkl_green.testing.policies.pos import POS
from lkl_green.testing.policies.races import Execution, Operation, Passing, Race
from lkl_green.testing.policies.round_robin import RoundRobin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor
    from lkl_green.testing.run import Run

# How long a task goes on where nobody is to be preempted: for ever, if it were not for those that spin.
_LONG = 200

# No more reversals of reversals than that.
_DEEPEST = 4

# A schedule of more operations is not looked through for races, and no more races than that are kept.
_MOST_EVENTS = 5_000
_MOST_OPEN = 2_000


class Attempt(NamedTuple):
    """A race to be turned round.

    Attributes:
        depth: how many reversals there are, with this one.
        root: the number of the schedule in which there were none.
        race: it.
        returns: whether the task that was held back goes on afterwards.
        prefix: the decisions that lead to it.
    """

    depth: int
    root: int
    race: Race
    returns: bool
    prefix: list[int]


class Reversal(Policy):
    """Turns the races of earlier schedules round, one in each."""

    name = "reversal"
    learns = True

    def __init__(self) -> None:
        super().__init__()
        self._opening: tuple[Policy, ...] = (RoundRobin(newest_first=True), RoundRobin(_LONG))
        self._plain = RoundRobin(_LONG)
        self._sampler = POS()
        self._base: Policy = self._plain
        self._seen: set[Passing] = set()
        self._tried: set[tuple[int, int, Operation, str]] = set()
        self._open: list[Attempt] = []
        self._attempt: Attempt | None = None
        self._root = 0
        self._execution = Execution()
        self._prefix: Sequence[int] = ()
        self._waiting = False
        self._next = ""
        self._decisions = 0
        self._others: Sequence[Actor] = ()

    @property
    def has_open(self) -> bool:
        """Whether there is a race that was not tried yet."""
        return bool(self._open)

    def begin(self, seed: int, number: int) -> bool:
        """Choose a race to be turned round, if there is one."""
        super().begin(seed, number)
        self._execution = Execution()
        self._decisions = 0
        self._others = self._prefix = ()
        self._next = ""
        self._attempt = None
        self._root = number
        if number < len(self._opening):
            self._base = self._opening[number]
        elif self._open:
            self._base = self._plain
            self._attempt = attempt = self._take()
            self._root, self._prefix = attempt.root, attempt.prefix
        else:
            self._base = self._sampler
        self._waiting = self._attempt is not None
        return self._base.begin(seed, number)

    def _take(self) -> Attempt:
        """Any of those with the fewest reversals and the latest root."""
        best = min((attempt.depth, -attempt.root) for attempt in self._open)
        places = [place for place, found in enumerate(self._open) if (found.depth, -found.root) == best]
        return self._open.pop(self.random.choice(places))

    # -- the schedule

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """As before, then the second task of the race, then nobody is preempted."""
        decision = self._decisions
        self._decisions = decision + 1
        self._others = enabled
        if decision < len(self._prefix):
            return min(self._prefix[decision], len(enabled) - 1)
        index = -1
        if self._waiting and self._attempt is not None and decision < len(self._prefix) + _LONG:
            index = self._towards(self._attempt.race, enabled)
        elif self._next:
            index = _place_of(self._next, enabled)
            self._next = ""
        return self._base.pick(enabled, running) if index < 0 else index

    def _towards(self, race: Race, enabled: Sequence[Actor]) -> int:
        """The second task; while it sleeps, anybody but the first; -1 if there is only that."""
        index = _place_of(race.second.operation.actor, enabled)
        if index < 0:
            first = race.first.operation.actor
            index = max((place for place, actor in enumerate(enabled) if actor.name != first), default=-1)
        return index

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
        operation = self._execution.add(actor, self._decisions - 1 if others else -1, others)
        if self._waiting and self._attempt is not None and self._decisions > len(self._prefix):
            self._waiting = operation != self._attempt.race.second.operation
            if not self._waiting and self._attempt.returns:
                self._next = self._attempt.race.first.operation.actor

    # -- what it was like

    def end(self, run: Run) -> None:
        """Remember what was seen, and what could be turned round."""
        depth = 1 if self._attempt is None else self._attempt.depth + 1
        if depth > _DEEPEST or len(self._execution.events) > _MOST_EVENTS:
            return
        self._seen.update(self._execution.passings())
        for race in self._execution.races():
            turned = race.turned()
            kind = (self._root, depth, turned.pending, turned.done.actor)
            if turned not in self._seen and kind not in self._tried and len(self._open) < _MOST_OPEN:
                self._tried.add(kind)
                prefix = run.trail[: race.first.decision]
                self._open += [Attempt(depth, self._root, race, returns, prefix) for returns in (False, True)]


def _place_of(name: str, enabled: Sequence[Actor]) -> int:
    return next((place for place, actor in enumerate(enabled) if actor.name == name), -1)
