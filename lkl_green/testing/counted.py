"""Names with numbers that count from schedule to schedule.

Programs number their pools and threads with counters that outlast a schedule: pool-1-worker-0 in the first schedule is
pool-2-worker-0 in the next one. Policies, recorded schedules and reports compare tasks by name, so each task gets the
name it would have had in the first schedule.

A number counts if the first one at its place in a schedule was never seen there before. Then all numbers at this place
are moved by the same distance in this schedule, which takes the first one to the first that was ever seen. Numbers that
were seen before are left alone: worker-0 and worker-1 are the same in each schedule, whichever starts first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NUMBER = re.compile(r"([0-9]+)")

# The text around the numbers of a name, and which of them.
_Place = tuple[tuple[str, ...], int]


class CountedNames:
    """The names of the schedules of one campaign."""

    def __init__(self) -> None:
        self._seen: dict[_Place, dict[int, None]] = {}
        self._distances: dict[_Place, int] = {}  # of the present schedule
        self._names: dict[str, str] = {}  # the same

    def begin(self) -> None:
        """A schedule begins."""
        self._distances.clear()
        self._names.clear()

    def expect(self, names: Iterable[str]) -> None:
        """Take these for the names of the first schedule: they come from a file."""
        for name in names:
            for place, digits in _numbers(name):
                self._seen.setdefault(place, {})[int(digits)] = None

    def given(self) -> list[str]:
        """The names with numbers that were given in the present schedule, in order."""
        return [name for name in self._names.values() if _NUMBER.search(name)]

    def settled(self, name: str) -> str:
        """The name with the numbers that it would have had in the first schedule."""
        known = self._names.get(name)
        if known is None:
            known = self._names[name] = self._settle(name)
        return known

    def _settle(self, name: str) -> str:
        parts = _NUMBER.split(name)
        for place, digits in _numbers(name):
            number = self._number(place, int(digits))
            parts[place[1]] = f"{number:0{len(digits)}}" if digits[0] == "0" else str(number)
        return "".join(parts)

    def _number(self, place: _Place, number: int) -> int:
        seen = self._seen.setdefault(place, {})
        distance = self._distances.get(place)
        if distance is None:
            distance = next(iter(seen)) - number if seen and number not in seen else 0
            self._distances[place] = distance
        seen[number + distance] = None
        return number + distance


def _numbers(name: str) -> list[tuple[_Place, str]]:
    """The numbers of a name, each with its place."""
    parts = _NUMBER.split(name)
    around = tuple(parts[::2])
    return [((around, index), parts[index]) for index in range(1, len(parts), 2)]
