"""boundedBuffer: a consumer looks, lets go of the lock, and takes what may be gone."""

from __future__ import annotations

from benchmarks.schedules.program import Program
from benchmarks.schedules.programs.shared import Condition, Mutex, array, join
from lkl_green.testing import Shared, spawn

SIZE = 3
TURNS = 4


class BoundedBuffer:
    """A ring that holds one less than it has slots."""

    def __init__(self) -> None:
        self._mutex = Mutex(name="mutex")
        self._not_full, self._not_empty = Condition(self._mutex, "not_full"), Condition(self._mutex, "not_empty")
        self._slots = array("buf", [0] * SIZE)
        self._head, self._rear = Shared(0, "head"), Shared(0, "rear")
        self._producers, self._consumers = Shared(0, "p_wait"), Shared(0, "c_wait")

    def put(self, value: int) -> None:
        with self._mutex:
            if self._is_full():
                self._producers.value += 1
                while self._is_full():
                    self._not_full.wait()
                self._producers.value -= 1
            self._slots[self._rear.value].value = value
            self._rear.value = (self._rear.value + 1) % SIZE
            if self._consumers.value > 0:
                self._not_empty.signal()

    def get(self) -> int:
        with self._mutex:
            if self._is_empty():
                self._consumers.value += 1
                while self._is_empty():
                    self._not_empty.wait()
                self._consumers.value -= 1
        with self._mutex:
            assert not self._is_empty()
            value: int = self._slots[self._head.value].value
            self._head.value = (self._head.value + 1) % SIZE
            if self._producers.value > 0:
                self._not_full.signal()
            return value

    def _is_full(self) -> bool:
        return (self._rear.value + 1) % SIZE == self._head.value

    def _is_empty(self) -> bool:
        return self._head.value == self._rear.value


def bounded_buffer() -> None:
    buffer = BoundedBuffer()

    def produce() -> None:
        for value in range(TURNS):
            buffer.put(value)

    def consume() -> None:
        for _ in range(TURNS):
            buffer.get()

    join([spawn(produce), spawn(produce), spawn(consume), spawn(consume)])


PROGRAMS = (Program("boundedBuffer", "boundedBuffer", bounded_buffer),)
