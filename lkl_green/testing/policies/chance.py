"""Chance, a schedule at a time: random numbers of which the first are cheap.

A schedule is a function of the policy, the seed and its number, so each has random numbers of its own, which nothing
before it can change. To seed CPython's generator, a Mersenne Twister, takes as long as several operations of a test,
and most schedules draw a dozen numbers. So one generator is seeded for `CHUNK` schedule numbers in a row, and draws
`SHARE` for each of them in advance. A schedule that wants more seeds a generator for itself alone and goes on.
What is seeded is named by all that it depends on, and the name is hashed; so each schedule has a stretch of a stream to
itself, and no two streams have anything in common.

Dropped: a counter that is hashed, and a small generator written out. In Python either costs as much for ten numbers as
seeding does.
"""

from __future__ import annotations

from itertools import chain, repeat, starmap
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Schedules that share a seeding, and numbers drawn in advance for each.
CHUNK = 64
SHARE = 24

_BITS = 32


class _Rest:
    """The numbers of the present schedule after those that were drawn in advance; seeded when they are asked for."""

    __slots__ = ("number", "seed")

    def __init__(self) -> None:
        self.seed = self.number = 0

    def __iter__(self) -> Iterator[float]:
        return starmap(Random(f"schedule {self.number} of seed {self.seed}").random, repeat(()))


class Chance(Random):
    """The random numbers of one schedule after another.

    It can do what `random.Random` can. Copied or pickled it begins anew: a policy begins a schedule before it draws.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self._drawn: list[float] = []
        self._drawn_for = 0, -1
        self._rest = _Rest()

    def begin(self, seed: int, number: int) -> None:
        """Draw the numbers of schedule `number` of a campaign with this seed from now on."""
        chunk, place = divmod(number, CHUNK)
        if self._drawn_for != (seed, chunk):
            self._draw(seed, chunk)
        first = place * SHARE
        rest = self._rest
        rest.seed = seed
        rest.number = number
        self.gauss_next = None  # of a pair that was drawn by an earlier schedule
        # In the instance, where it is found before the method: one call into C for each number.
        self.random = chain(self._drawn[first : first + SHARE], rest).__next__  # type: ignore[method-assign]

    def _draw(self, seed: int, chunk: int) -> None:
        draw = Random(f"chunk {chunk} of seed {seed}").random
        self._drawn = list(starmap(draw, repeat((), CHUNK * SHARE)))
        self._drawn_for = seed, chunk

    def random(self) -> float:
        """In [0, 1)."""
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        """`k` bits, 32 of each number."""
        bits = 0
        for shift in range(0, k, _BITS):
            bits |= int(self.random() * (1 << min(_BITS, k - shift))) << shift
        return bits

    def __reduce__(self) -> tuple[type[Chance], tuple[()]]:
        return Chance, ()
