"""The decisions on the way down a tree of executions, and what is still to be tried at each."""

from __future__ import annotations


class Node:
    """A decision about who goes on.

    Attributes:
        event: the number of the event that it chose.
        able: the tasks that could go on, as bits.
        taken: the number of the one that was chosen.
        todo: those that were or are to be tried.
        asleep: those whose next step would only repeat what other executions have shown.
    """

    __slots__ = ("able", "asleep", "event", "taken", "todo")

    def __init__(self, event: int, able: int, taken: int, asleep: int) -> None:
        self.event = event
        self.able = able
        self.taken = taken
        self.todo = 1 << taken
        self.asleep = asleep

    def advance(self) -> bool:
        """Take the next task that is to be tried; False if there is none left."""
        self.asleep |= 1 << self.taken
        left = self.todo & ~self.asleep
        if not left:
            return False
        self.taken = lowest(left)
        return True


class Choice:
    """Any other decision: each of its options is tried."""

    __slots__ = ("count", "event", "taken")

    def __init__(self, event: int, count: int) -> None:
        self.event = event
        self.count = count
        self.taken = 0

    def advance(self) -> bool:
        """Take the next option; False if there is none left."""
        self.taken += 1
        return self.taken < self.count


def lowest(bits: int) -> int:
    """The number of the lowest bit."""
    return (bits & -bits).bit_length() - 1
