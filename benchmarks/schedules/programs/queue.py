"""queue: both sides count their turns, and take for granted that they alternate."""

from __future__ import annotations

from benchmarks.schedules.program import Program
from benchmarks.schedules.programs.shared import array, join
from lkl_green.linux import Mutex
from lkl_green.testing import Shared, spawn

SIZE = 20


class Queue:
    """A ring that forgets its first slot when it wraps."""

    def __init__(self) -> None:
        self.element = array("element", [0] * (SIZE + 1))
        self.head, self.tail, self.amount = Shared(0, "head"), Shared(0, "tail"), Shared(0, "amount")

    def enqueue(self, value: int) -> None:
        self.element[self.tail.value].value = value
        self.amount.value += 1
        self._advance(self.tail)

    def dequeue(self) -> int:
        value: int = self.element[self.head.value].value
        self.amount.value -= 1
        self._advance(self.head)
        return value

    def is_empty(self) -> bool:
        return self.head.value == self.tail.value

    def _advance(self, end: Shared[int]) -> None:
        if end.value == SIZE:
            end.value = 1
        else:
            end.value += 1


def queue() -> None:
    m = Mutex(name="m")
    ring = Queue()
    stored = array("stored", [0] * SIZE)
    may_enqueue, may_dequeue = Shared(True, "enqueue_flag"), Shared(False, "dequeue_flag")

    def producer() -> None:
        value = 0
        with m:
            ring.enqueue(value)
            stored[0].value = value
            assert not ring.is_empty()
        for turn in range(SIZE - 1):
            with m:
                if may_enqueue.value:
                    value += 1
                    ring.enqueue(value)
                    stored[turn + 1].value = value
                    may_enqueue.value = False
                    may_dequeue.value = True

    def consumer() -> None:
        for turn in range(SIZE):
            with m:
                if may_dequeue.value:
                    assert ring.dequeue() == stored[turn].value
                    may_dequeue.value = False
                    may_enqueue.value = True

    join([spawn(producer), spawn(consumer)])


PROGRAMS = (Program("queue", "queue", queue),)
