"""Round robin: every task in its turn, for a fixed number of operations.

The plainest *fair* schedules: a task that spins until another one has done something cannot keep that one from doing
it. Turned round, newest task first, it is about the opposite of what a program meets in life, where tasks that were
started first come first; a campaign that begins with both has the extremes behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.actor import UNDRAWN
from lkl_green.testing.policies.base import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor


class RoundRobin(Policy):
    """Each task does `quantum` operations, then it is the next one's turn.

    Args:
        quantum: how many decisions in a row may go to one task.
        newest_first: go round from the task that was started last to the one that was started first.
        ragged: draw the length of each turn, up to `quantum`; else there is no chance in it at all.
    """

    name = "round-robin"

    def __init__(self, quantum: int = 1, *, newest_first: bool = False, ragged: bool = False) -> None:
        super().__init__()
        if quantum < 1:
            raise ValueError(f"round-robin: a quantum of {quantum} operations lets nobody run; use 1 or more")
        self.quantum = quantum
        self._ragged = ragged
        self._direction = -1 if newest_first else 1
        self._seats = 0
        self._turn = 0.0
        self._left = quantum

    def begin(self, seed: int, number: int) -> bool:
        """From the start."""
        self._seats = 0
        self._turn = 0.0
        self._left = self.quantum
        return super().begin(seed, number)

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The running one while its quantum lasts, then the next in the ring."""
        for actor in enabled:
            if actor.rank == UNDRAWN:
                self._seats += 1
                actor.rank = float(self._seats)
        if running is not None:
            if self._turn == 0:
                self._turn = running.rank  # it was chosen by somebody else, before us
            if running.rank == self._turn and self._left > 0:
                self._left -= 1
                return enabled.index(running)
        index = self._next_in_ring(enabled)
        self._turn = enabled[index].rank
        quantum = 1 + int(self.random.random() * self.quantum) if self._ragged else self.quantum
        self._left = quantum - 1
        return index

    def _next_in_ring(self, enabled: Sequence[Actor]) -> int:
        """The nearest seat after the present one, round the end if need be."""
        direction, turn = self._direction, self._turn
        ahead = [(actor.rank - turn) * direction for actor in enabled]
        wrapped = [distance if distance > 0 else distance + self._seats + 1 for distance in ahead]
        return wrapped.index(min(wrapped))

    def choose(self, kind: str, count: int) -> int:
        """The first option."""
        return 0
