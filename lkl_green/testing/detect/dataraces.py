"""Data races: two accesses to one thing, one of them a write, that no operation puts in order (after FastTrack).

Each task has a vector clock: how much it knows of what every task has done. An operation that lets others continue, a
release or a notification, leaves the clock of its task at the object. An operation that takes or waits fetches what
has been left there. A task that another one makes or wakes begins with what that one knows. An access of a task races
with an earlier access of another one if the clock of the later one does not contain the earlier one.

*When an operation fetches.* Operations are announced before they are done, and some of them sleep. So what is left at
the object is fetched later: when the next operation of any task is announced, if the task did not sleep, else each
time it continues after the sleep. A try-lock that failed fetches nothing: the lock has another owner.

*Wake-ups.* A task that was not enabled at the last operation and is now was woken, or made, by the task that did that
operation, unless time has passed in between: then a timer has woken it, and no task knows of it.

*In doubt there is no race.* What is announced and is neither an access nor in the table of fetching and leaving kinds
does both. A section in which preemption is disabled is one step, so that taking a spin lock does both, too. A work runs
in whatever kernel thread is free: kernel threads that come from kthreadd share one clock of all works.

A race is reported for any schedule in which it can be seen, also if the two accesses came one long after the other.
"""

from __future__ import annotations

import linecache
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from lkl_green.kernel.kthread import KThread
from lkl_green.kernel.kthread_work import KthreadWork
from lkl_green.kernel.points import FETCHES, LEAVES, POINTS, RESUME, START
from lkl_green.kernel.task import TASK_RUNNING
from lkl_green.kernel.work import Work
from lkl_green.testing.instrument.places import Place
from lkl_green.testing.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lkl_green.kernel.points import Kind
    from lkl_green.kernel.task import Task
    from lkl_green.testing.source import Where

Clock = dict[str, int]

# A comment with this word at either access says that the race is meant.
BENIGN = "data_race"


class Access(NamedTuple):
    """An access to something that several tasks can access.

    Attributes:
        who: the task's name in this run.
        epoch: of the task's own clock.
        place, name: what is accessed, and what schedules call it.
        writes: whether it may change it.
        stack: the lines of source that do it, outermost first.
        step: its number in the schedule, from 1.
    """

    who: str
    epoch: int
    place: object
    name: str
    writes: bool
    stack: tuple[Where, ...]
    step: int

    @property
    def where(self) -> Where | None:
        """The line that does it."""
        return self.stack[-1] if self.stack else None

    def __str__(self) -> str:
        does = "writes" if self.writes else "reads"
        return f"{self.who} {does} it at {self.where or 'an unknown line'} (step {self.step})"


class DataRace(NamedTuple):
    """Two accesses that nothing puts in order."""

    first: Access
    second: Access

    def sentence(self) -> str:
        """In one line."""
        return f"data race on {self.second.name}: {self.first}, {self.second}, and no operation puts the two in order"

    def lines(self) -> str:
        """The two lines that race: the same for all races of these lines, in whatever schedule."""
        return " ".join(sorted(f"{access.where} {'writes' if access.writes else 'reads'}" for access in self))

    def text(self) -> str:
        """With both stacks."""
        lines = [self.sentence()]
        for access in self:
            lines += [f"    {access.who}, step {access.step}:"]
            lines += [f"        {where}  {where.text}" for where in access.stack]
        return "\n".join(lines)

    def is_benign(self, patterns: Sequence[str]) -> bool:
        """Whether a comment at one of its lines, or one of the patterns, says that it is meant."""
        names = {self.second.name}
        for where in (self.first.where, self.second.where):
            if where is not None:
                names |= {str(where), where.function}
                if BENIGN in linecache.getline(where.filename, where.line).partition("#")[2]:
                    return True
        return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


class DataRaces:
    """The data races of one run, as it happens.

    Args:
        names: of the run's tasks, as they become known.
    """

    def __init__(self, names: Mapping[Task, str]) -> None:
        self._names = names
        self._clocks: dict[str, Clock] = {}
        self._left: dict[int, Clock] = {}
        self._objects: list[object] = []  # whose addresses are in use above
        self._fetching: dict[str, tuple[Task, Any]] = {}
        self._works: Clock = {}
        self._last = ""
        self._enabled: frozenset[str] = frozenset()
        self._time_ns = 0
        self._accesses: dict[object, dict[tuple[str, bool, Where | None], Access]] = {}
        self._races: dict[str, DataRace] = {}

    def found(self, patterns: Sequence[str] = ()) -> list[DataRace]:
        """The races, each pair of lines once, without those that are meant.

        Args:
            patterns: names of places, of functions, and FILE.py:LINE, with wildcards, whose races are meant.
        """
        return [race for race in self._races.values() if not race.is_benign(patterns)]

    # -- what happens

    def enabled(self, names: Iterable[str], time_ns: int) -> None:
        """These tasks can run before the next operation is done."""
        now = frozenset(names)
        if self._last and time_ns == self._time_ns:
            for name in now - self._enabled:
                _join(self._clock(name), self._clock(self._last))
            if now - self._enabled:
                self._advance(self._last)
        self._enabled, self._time_ns = now, time_ns

    def operation(self, who: str, task: Task, kind: Kind, obj: Any) -> None:
        """A task is about to do an operation that is not an access."""
        self._begin(who, task, kind)
        if obj is None or kind == START:
            return
        if kind in LEAVES or kind not in FETCHES:
            self._leave(who, obj)
        if kind in FETCHES or kind not in LEAVES:
            self._fetching[who] = task, obj
        if POINTS[kind].waits and hasattr(obj, "_lock"):  # Condition.wait() gives its lock back without announcing it
            self._leave(who, obj._lock)

    def access(
        self, who: str, task: Task, place: Any, name: str, writes: bool, stack: tuple[Where, ...], step: int
    ) -> None:
        """A task is about to access something."""
        self._begin(who, task, START)
        clock = self._clock(who)
        access = Access(who, clock[who], place, name, writes, stack, step)
        before = self._accesses.setdefault(place.group if isinstance(place, Place) else id(place), {})
        for other in before.values():
            conflict = (other.writes or writes) and other.who != who and other.place == place
            if conflict and other.epoch > clock.get(other.who, 0):
                race = DataRace(other, access)
                self._races.setdefault(race.lines(), race)
        before[who, writes, access.where] = access

    def _begin(self, who: str, task: Task, kind: Kind) -> None:
        self._settle(who, kind)
        self._last = who
        if isinstance(task.kthread, KThread):
            _join(self._clock(who), self._works)
            _join(self._works, self._clock(who))

    # -- clocks

    def _clock(self, who: str) -> Clock:
        clock = self._clocks.get(who)
        if clock is None:
            clock = self._clocks[who] = {who: 1}
        return clock

    def _advance(self, who: str) -> None:
        self._clock(who)[who] += 1

    def _leave(self, who: str, obj: Any) -> None:
        clock = self._clock(who)
        left = self._left.get(id(obj))
        if left is None:
            left = self._left[id(obj)] = {}
            self._objects.append(obj)
        _join(left, clock)
        if isinstance(obj, (Work, KthreadWork)):
            _join(self._works, clock)
        self._advance(who)

    def _settle(self, who: str, kind: Kind) -> None:
        """Fetch what earlier operations were waiting for, as far as they are over."""
        fetching = self._fetching
        mine = fetching.get(who)
        if mine is not None:
            self._fetch(who, *mine)
            if kind != RESUME:  # it may sleep again
                del fetching[who]
        last = self._last
        if last != who and last in fetching:
            task, obj = fetching[last]
            if task.state == TASK_RUNNING and not task.exit_state:
                self._fetch(last, task, obj)
                del fetching[last]

    def _fetch(self, who: str, task: Task, obj: Any) -> None:
        if hasattr(obj, "owner") and obj.owner is not task:
            return
        _join(self._clock(who), self._works if isinstance(obj, (Work, KthreadWork)) else self._left.get(id(obj), {}))
        ended = getattr(getattr(obj, "_green", obj), "task", None)  # of a thread, its handle, or what spawn() returned
        if ended is not None and ended in self._names and ended.exit_state:
            _join(self._clock(who), self._clock(self._names[ended]))


def is_access(obj: object) -> bool:
    """Whether an operation on `obj` is an access to data, and not one that puts others in order."""
    return isinstance(obj, (Place, Shared))


def _join(clock: Clock, other: Clock) -> None:
    for who, epoch in other.items():
        if epoch > clock.get(who, 0):
            clock[who] = epoch
