"""Systematic search: a tree of decisions, walked depth first.

A node is a decision of the present schedule: which of its options is taken, counted from the plainest, which goes on
with whoever runs. The next schedule goes the same way down to the last node that has another option, and takes that;
below, everything goes its plainest way again. A subclass says what an option costs and what a schedule may cost.
Options that cost too much are cut, and then the end of the search is the end within that bound.

*Draws.* A random number has too many values to try. Of a wide range a few stand for all. Then nobody can say that
everything was tried, and the search ends as incomplete.

*Spinning.* The plainest way for a task that spins is to spin on. Where one task has been chosen very often in a row,
the plainest way is another task, as if it had yielded; the options change places, none is lost. A program that may spin
for ever has no end of schedules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.policies.base import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor
    from lkl_green.testing.run import Run

# So many decisions in a row for one task, and it counts as one that spins.
_SPINNING = 200

# A range of more values than the first is represented by the second.
_WIDE = 16
_STAND_INS = 4


class Node:
    """A decision on the way down.

    Attributes:
        taken: which option is taken, in order of plainness.
        affordable: how many options, the plainest first, are within the bound.
        price: what the second plainest costs, and all after it.
        slope: what each after that costs more.
        spent: what the way down to here has cost.
    """

    __slots__ = ("affordable", "price", "slope", "spent", "taken")

    def __init__(self, count: int, spent: int, bound: int | None, price: int, slope: int) -> None:
        self.taken = 0
        self.spent = spent
        self.price = price
        self.slope = slope
        self.affordable = count
        if bound is not None:
            while self.affordable > 1 and spent + self.cost(self.affordable - 1) > bound:
                self.affordable -= 1

    def cost(self, place: int) -> int:
        """What an option costs."""
        return self.price + self.slope * (place - 1) if place else 0


class Search(Policy):
    """Depth-first search over all schedules whose cost is within a bound.

    Args:
        bound: what a schedule may cost; None: anything.
    """

    systematic = True
    unit = ""

    def __init__(self, bound: int | None = None) -> None:
        super().__init__()
        if bound is not None and bound < 0:
            raise ValueError(f"{self.name}: a bound is 0 or more, not {bound}")
        self.bound = bound
        self._path: list[Node] = []
        self._depth = 0
        self._last: Actor | None = None
        self._in_a_row = 0
        self._cut = False
        self._exhausted = False
        self._not_tried = ""
        self.left_out = "the search has not come to its end"

    # -- what it costs

    def price_of_switch(self, preempts: bool) -> tuple[int, int]:
        """What it costs not to take the plainest task, and how much more for each further one in the ring."""
        return 0, 0

    def price_of_choice(self) -> int:
        """What it costs not to take the plainest option of another decision."""
        return 0

    # -- the way down

    def begin(self, seed: int, number: int) -> bool:
        """The next way down, if there is one."""
        super().begin(seed, number)
        self._depth = 0
        self._last = None
        self._in_a_row = 0
        return not self._exhausted

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """As far as the path goes, its option; the plainest below."""
        plainest = 0 if running is None else enabled.index(running)
        preempts = running is not None
        if preempts and self._in_a_row >= _SPINNING:
            plainest += 1
            preempts = False
        place = self._descend(len(enabled), *self.price_of_switch(preempts))
        index = (plainest + place) % len(enabled)
        chosen = enabled[index]
        self._in_a_row = self._in_a_row + 1 if chosen is self._last else 0
        self._last = chosen
        return index

    def choose(self, kind: str, count: int) -> int:
        """The same for every other decision; of a wide range, a few values."""
        if count <= _WIDE:
            return self._descend(count, self.price_of_choice(), 0)
        self._not_tried = f"of the {count} values of a decision of kind {kind!r}, {_STAND_INS} were tried"
        place = self._descend(_STAND_INS, self.price_of_choice(), 0)
        return place * (count - 1) // (_STAND_INS - 1)

    def _descend(self, count: int, price: int, slope: int) -> int:
        path, depth = self._path, self._depth
        self._depth = depth + 1
        if depth < len(path):
            return path[depth].taken
        spent = path[-1].spent + path[-1].cost(path[-1].taken) if path else 0
        node = Node(count, spent, self.bound, price, slope)
        self._cut |= node.affordable < count
        path.append(node)
        return 0

    # -- backing up

    def end(self, run: Run) -> None:
        """Back up to the last decision that has another option."""
        path = self._path
        del path[self._depth :]
        while path and path[-1].taken + 1 >= path[-1].affordable:
            path.pop()
        if path:
            path[-1].taken += 1
        else:
            self._exhausted = True
            self.verdict = (
                f"exhausted within {self.bound} {self.unit}" if self._cut else "every order of the operations"
            )
            self.left_out = self._not_tried
