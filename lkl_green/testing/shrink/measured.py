"""Policies that know how far a schedule is from the plainest one.

The plainest schedule preempts nobody and serves in order of arrival. Whatever a run does otherwise is a `Deviation`,
and a schedule *is* its deviations. Each is written down by where it happened in terms of the task that gave way: after
how many operations of its own. So it keeps its meaning when an earlier one is taken out, which a position in the list
of decisions does not, and a candidate that asks for something impossible simply goes on the plain way.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from lkl_green.kernel.points import YIELD
from lkl_green.testing.cost import Cost
from lkl_green.testing.policies.abort import abort_schedule
from lkl_green.testing.policies.base import Policy
from lkl_green.testing.policies.delegating import Delegating
from lkl_green.testing.run import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lkl_green.testing.actor import Actor

NEVER = 1 << 62


class Pace(NamedTuple):
    """How long things may take, in operations.

    Attributes:
        max_steps: after these the run is given up; None: the test bed's limit counts.
        turn: so many in a row, and somebody else goes on, or a task that spins would never see what it waits for.
        half: from there on it is watched who could go on, and who does.
    """

    max_steps: int | None = None
    turn: int = 1_000
    half: int = NEVER


class Place(NamedTuple):
    """Where in a run something is decided.

    Attributes:
        who: the task that could go on, or the one that was the last to run; for other choices, their kind.
        after: how many operations it has done; for other choices, how many of the kind there were before.
        nth: which decision at this point.
    """

    who: str
    after: int
    nth: int = 0


class Deviation(NamedTuple):
    """One decision that was not the plain one.

    Attributes:
        place: where.
        target: who was chosen; for other choices, the number of the option.
        preempts: whether a task that could have gone on was not let.
    """

    place: Place
    target: str
    preempts: bool


class ChoicePoint(NamedTuple):
    """A decision, as far as a search goes: how many options, which one is plain, and what another one costs."""

    options: int
    plain: int
    preempts: bool


_USUAL = Pace()


class Measured(Policy):
    """Decides as a subclass wishes, and counts.

    Args:
        pace: how long it may take.

    Attributes:
        taken: the deviations of the run.
        forks: its decisions.
        met_faults: whether a fault could have happened.
    """

    name = "measured"

    def __init__(self, pace: Pace = _USUAL) -> None:
        super().__init__()
        self._set_pace(pace)

    def _set_pace(self, pace: Pace) -> None:
        self._pace = pace
        self._reset()

    def _reset(self) -> None:
        self.taken: list[Deviation] = []
        self.forks: list[ChoicePoint] = []
        self._done: dict[str, int] = {}
        self._choices: dict[str, int] = {}
        self._last = ""
        self._turn = 0
        self._place = Place("", -1)
        self._steps = self._jumps = self._faults = 0
        self.met_faults = False
        self._able: set[str] = set()
        self._active: set[str] = set()

    def begin(self, seed: int, number: int) -> bool:
        """From the start."""
        self._reset()
        return True

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """What is wished for, else the plain option."""
        pace = self._pace
        if pace.max_steps is not None and self._steps > pace.max_steps:
            abort_schedule(Verdict.LIVELOCK, f"given up after {pace.max_steps} steps")
        if self._steps > pace.half:
            self._able.update(actor.name for actor in enabled)
        plain = self._plain(enabled, running)
        place = self._here(self._last if running is None else running.name)
        index = self.wish(place, enabled, plain)
        chosen = enabled[index]
        if chosen.act is not None:
            self._jumps += 1
        self.forks.append(ChoicePoint(len(enabled), plain, running is not None))
        if index != plain:
            preempts = running is not None and chosen.act is None
            self.taken.append(Deviation(place, chosen.name, preempts))
        return index

    def choose(self, kind: str, count: int) -> int:
        """The same for what is not about tasks; option 0 is the plain one."""
        place = Place(kind, self._choices.get(kind, 0))
        self._choices[kind] = place.after + 1
        index = self.wish_choice(place, count)
        fault = kind.startswith("fault")
        # A search takes faults away and never adds any: with enough of them, anything fails.
        self.forks.append(ChoicePoint(1 if fault else count, index if count > 2 else 0, preempts=False))
        self.met_faults |= fault
        if index:
            self._faults += fault
            self.taken.append(Deviation(place, str(index), preempts=False))
        return index

    def executes(self, actor: Actor) -> None:
        """Count."""
        name = actor.name
        self._turn = self._turn + 1 if name == self._last else 0
        self._last = name
        self._done[name] = self._done.get(name, 0) + 1
        self._steps += 1
        if self._steps > self._pace.half:
            self._active.add(name)

    def _plain(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The running task; else the longest runnable, but not the one that has just yielded."""
        if running is not None and self._turn < self._pace.turn:
            return enabled.index(running)
        for index, actor in enumerate(enabled):
            if actor.name != self._last or (running is None and actor.kind != YIELD):
                return index
        return 0

    def _here(self, who: str) -> Place:
        before = self._place
        after = self._done.get(who, 0)
        nth = before.nth + 1 if before.who == who and before.after == after else 0
        self._place = Place(who, after, nth)
        return self._place

    @property
    def cost(self) -> Cost:
        """Of the run that has ended."""
        preemptions = sum(deviation.preempts for deviation in self.taken)
        return Cost(preemptions, self._faults, len(self._done), self._steps, self._jumps, len(self.taken))

    @property
    def starves(self) -> bool:
        """Whether somebody could have gone on in the second half of the run, and never did."""
        return bool(self._able - self._active)

    @abstractmethod
    def wish(self, place: Place, enabled: Sequence[Actor], plain: int) -> int:
        """Who should go next."""

    def wish_choice(self, place: Place, count: int) -> int:
        """Which option should be taken."""
        return 0


class Following(Measured, Delegating):
    """Measures what another policy does.

    Args:
        policy: the policy that decides.
        pace: see `Measured`.
    """

    name = "following"

    def __init__(self, policy: Policy, pace: Pace = _USUAL) -> None:
        Delegating.__init__(self, policy)
        self._set_pace(pace)

    def begin(self, seed: int, number: int) -> bool:
        """Begin the schedule with the other policy, and count from 0."""
        self._reset()
        return Delegating.begin(self, seed, number)

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The other policy's choice, measured."""
        self._running = running
        return super().pick(enabled, running)

    def wish(self, place: Place, enabled: Sequence[Actor], plain: int) -> int:
        """The other policy's choice."""
        return Delegating.pick(self, enabled, self._running)

    def choose(self, kind: str, count: int) -> int:
        """The other policy's choice, measured."""
        self._kind = kind
        return super().choose(kind, count)

    def wish_choice(self, place: Place, count: int) -> int:
        """The other policy's choice."""
        return Delegating.choose(self, self._kind, count)

    def executes(self, actor: Actor) -> None:
        """Report the operation to the other policy, and count it."""
        Delegating.executes(self, actor)
        super().executes(actor)


class Guided(Measured):
    """Goes the plain way but for some deviations, as far as they are possible.

    Args:
        wishes: the deviations.
        pace: see `Measured`.
    """

    name = "guided"

    def __init__(self, wishes: Sequence[Deviation], pace: Pace = _USUAL) -> None:
        super().__init__(pace)
        self._wishes = {wish.place: wish.target for wish in wishes}

    def wish(self, place: Place, enabled: Sequence[Actor], plain: int) -> int:
        """As wished, if that one is enabled."""
        target = self._wishes.get(place)
        if target is not None:
            for index, actor in enumerate(enabled):
                if actor.name == target:
                    return index
        return plain

    def wish_choice(self, place: Place, count: int) -> int:
        """As wished, if there are so many options."""
        index = int(self._wishes.get(place, 0))
        return index if index < count else 0


class Branch(Measured):
    """Follows a trail, and goes the plain way where it ends: one node of a search.

    Args:
        trail: the numbers of the options, up to and including the one that is tried.
        choices: what to choose, beyond the trail, where it is not about tasks, by place.
        pace: see `Measured`.
    """

    name = "branch"

    def __init__(self, trail: Sequence[int], choices: Mapping[Place, int], pace: Pace = _USUAL) -> None:
        super().__init__(pace)
        self._trail = trail
        self._known = choices

    def wish(self, place: Place, enabled: Sequence[Actor], plain: int) -> int:
        """As the trail says."""
        position = len(self.forks)
        if position < len(self._trail) and self._trail[position] < len(enabled):
            return self._trail[position]
        return plain

    def wish_choice(self, place: Place, count: int) -> int:
        """As the trail says, else as in the schedule that is to be made simpler."""
        position = len(self.forks)
        index = self._trail[position] if position < len(self._trail) else self._known.get(place, 0)
        return index if index < count else 0
