"""How much a campaign has seen: how many schedules differ, what was decided, and which threads never met."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lkl_green.testing.actor import Actor

# What "exhausted" means where there is one schedule only.
NOTHING_TO_DECIDE = "nothing to decide: at each point there was one way to go on"

# Among more threads than this it is not looked who met whom.
_CROWD = 20

# So many kinds of points, and pairs of threads, are told.
_KINDS = 6
_PAIRS = 3

# More files than these are counted: where the points are is told by name in a line of its own.
_FILES = 3


def told_scope(*, threads: bool, files: Iterable[str]) -> str:
    """The points of a campaign, in words: what "exhausted" is about.

    Args:
        threads: whether threads of `threading` are kernel threads.
        files: the names of files whose accesses are points.
    """
    operations = "operations of threading and of the kernel" if threads else "operations of the kernel and of Shared"
    names = sorted(files)
    places = ", ".join(names) if len(names) <= _FILES else f"{len(names)} files"
    return f"{operations}, and accesses in {places}" if places else operations


def told_end(reason: str, schedules: int, scope: str) -> str:
    """Of what there is nothing more to run, in a line.

    Args:
        reason: why the campaign ended: what its search says of itself, or NOTHING_TO_DECIDE.
        schedules: how many were run.
        scope: what the points were, as `told_scope()` has it.
    """
    if reason == NOTHING_TO_DECIDE:
        return f"points were {scope}: whenever one was reached, no other task could go on"
    begin, _, bound = reason.partition("exhausted")
    if begin:
        return f"exhausted: {begin} ({schedules}); points were {scope}"
    return f"exhausted: {schedules} orders, all that there are{bound}; points were {scope}"


@dataclass
class Coverage:
    """What the schedules of a campaign were.

    Attributes:
        trails: a number for each schedule that differs from the others in some decision.
        recorded: in how many schedules it was looked at what is decided.
        decided: how many decisions of these stood before an operation of each kind.
        threads: the tasks in them, in order of appearance.
        met: pairs of tasks that could go on at the same decision.
    """

    trails: set[int] = field(default_factory=set)
    recorded: int = 0
    decided: Counter[str] = field(default_factory=Counter)
    threads: dict[str, None] = field(default_factory=dict)
    met: set[frozenset[str]] = field(default_factory=set)

    def add(self, trail: Sequence[int]) -> None:
        """A schedule was run."""
        self.trails.add(hash(tuple(trail)))  # of numbers, and so the same in each process

    @property
    def is_one_schedule(self) -> bool:
        """Whether no schedule had anything to decide, so that all of them were the same."""
        return self.trails == {hash(())}

    def decision(self, enabled: Sequence[Actor], about: Actor) -> None:
        """A recorded schedule has decided who goes on, `about` or another one."""
        self.decided[about.kind] += 1
        names = [actor.name for actor in enabled if actor.task is not None]
        self.threads.update(dict.fromkeys(names))
        if len(names) <= _CROWD:
            self.met.update(map(frozenset, combinations(names, 2)))

    def merge(self, other: Coverage) -> None:
        """Take in what another part of the campaign has seen."""
        self.trails |= other.trails
        self.recorded += other.recorded
        self.decided += other.decided
        self.threads.update(other.threads)
        self.met |= other.met

    @property
    def strangers(self) -> list[tuple[str, str]]:
        """Pairs of threads that could not go on at the same decision in any recorded schedule."""
        if len(self.threads) > _CROWD:
            return []
        return [pair for pair in combinations(self.threads, 2) if frozenset(pair) not in self.met]

    def lines(self, schedules: int) -> list[str]:
        """For people.

        Args:
            schedules: how many were run.
        """
        lines = []
        if len(self.trails) < schedules:
            lines.append(f"different schedules: {len(self.trails)}; the others took the same decisions as one of these")
        if self.decided:
            most = self.decided.most_common(_KINDS)
            told = ", ".join(f"{kind} {count}" for kind, count in most)
            more = ", ..." if len(self.decided) > len(most) else ""
            recorded = "1 recorded schedule" if self.recorded == 1 else f"{self.recorded} recorded schedules"
            lines.append(f"decisions in {recorded}, by what came next: {told}{more}")
        strangers = self.strangers
        if strangers:
            told = "; ".join(f"{one} and {other}" for one, other in strangers[:_PAIRS])
            more = f"; and {len(strangers) - _PAIRS} more pairs" if len(strangers) > _PAIRS else ""
            lines.append(f"never able to run at the same time: {told}{more}")
        return lines
