"""Looking for a failing schedule with few deviations from the plain one, fewest first.

Each schedule is its parent's up to one decision, there takes another option, and goes the plain way from there. So
every schedule comes up exactly once, at its number of deviations. Alternatives are not listed but counted: what waits
to be tried is a few small iterators for each schedule that was run. Where many tasks could be next, those at both ends
of the queue come first: the others are mostly more of the same.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lkl_green.testing.shrink.measured import ChoicePoint

    _Waiting = tuple[int, int, int, int, Iterator[list[int]]]


class Frontier:
    """What has not been tried, by number of deviations, then of preemptions.

    Args:
        limit: schedules with more preemptions wait until it is raised.
        bound: schedules with more are dropped.

    Attributes:
        limit: it may be lowered, too.
    """

    def __init__(self, limit: int, bound: int) -> None:
        self.limit = limit
        self._bound = bound
        self._heap: list[_Waiting] = []
        self._later: list[_Waiting] = []
        self._serial = 0

    def add(
        self, trail: Sequence[int], forks: Sequence[ChoicePoint], begin: int, deviations: int, preemptions: int
    ) -> None:
        """A schedule was run: its alternatives, from decision `begin` on, can be tried.

        Args:
            trail: its options.
            forks: its decisions.
            begin: the first that is not fixed by what it was made for.
            deviations: how many it has.
            preemptions: how many it has.
        """
        for price in (0, 1):
            if preemptions + price > self._bound:
                continue
            for tier in (0, 1):
                children = _children(trail, forks, begin, bool(price), tier)
                self._serial += 1
                heapq.heappush(self._heap, (deviations + 1, tier, preemptions + price, self._serial, children))

    def next(self) -> tuple[list[int], int, int] | None:
        """The next trail to try, with its deviations and preemptions; None if none is left within the limit."""
        while self._heap:
            deviations, _, preemptions, _, children = self._heap[0]
            if preemptions > self.limit:
                self._later.append(heapq.heappop(self._heap))
                continue
            for trail in children:
                return trail, deviations, preemptions
            heapq.heappop(self._heap)
        return None

    def raise_limit(self, limit: int) -> None:
        """Offer schedules with up to so many preemptions."""
        self.limit = limit
        for waiting in self._later:
            heapq.heappush(self._heap, waiting)
        self._later.clear()


# A random draw has billions of options: which one is the schedule's business only if somebody found that it matters.
_TOO_MANY = 256

_AT_ENDS = 2


def _children(
    trail: Sequence[int], forks: Sequence[ChoicePoint], begin: int, preempting: bool, tier: int
) -> Iterator[list[int]]:
    for position in range(begin, min(len(forks), len(trail))):
        fork = forks[position]
        if fork.preempts is preempting and fork.options <= _TOO_MANY:
            for option in _options(fork.options, tier):
                if option != trail[position]:
                    yield [*trail[:position], option]


def _options(count: int, tier: int) -> Iterable[int]:
    """Those at both ends in the first tier, those between them in the second."""
    if tier:
        return range(_AT_ENDS, count - _AT_ENDS)
    return range(count) if count <= 2 * _AT_ENDS else (*range(_AT_ENDS), *range(count - _AT_ENDS, count))
