"""circular_buffer: the consumer counts its turns, not what it received."""

from __future__ import annotations

from benchmarks.schedules.program import Program
from benchmarks.schedules.programs.shared import array, join
from lkl_green.linux import Mutex
from lkl_green.testing import Shared, spawn

ROUNDS = 7
BUFFER_MAX = 10


def circular_buffer() -> None:
    m = Mutex(name="m")
    buffer = array("buffer", [0] * BUFFER_MAX)
    first, next_, size = Shared(0, "first"), Shared(0, "next"), Shared(BUFFER_MAX, "size")
    send, receive = Shared(True, "send"), Shared(False, "receive")

    def insert(value: int) -> None:
        if next_.value < size.value:
            buffer[next_.value].value = value
            next_.value = (next_.value + 1) % size.value

    def remove() -> int:
        if next_.value > 0 and first.value < size.value:
            first.value += 1
            taken: int = buffer[first.value - 1].value
            return taken
        return -1

    def producer() -> None:
        for value in range(ROUNDS):
            with m:
                if send.value:
                    insert(value)
                    send.value = False
                    receive.value = True

    def consumer() -> None:
        for value in range(ROUNDS):
            with m:
                if receive.value:
                    assert remove() == value
                    receive.value = False
                    send.value = True

    join([spawn(producer), spawn(consumer)])


PROGRAMS = (Program("circular_buffer", "circular_buffer", circular_buffer),)
