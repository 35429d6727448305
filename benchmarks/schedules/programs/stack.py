"""stack: there is something on the stack once, and is taken to be there for ever."""

from __future__ import annotations

from benchmarks.schedules.program import Program
from benchmarks.schedules.programs.shared import array, join
from lkl_green.linux import Mutex
from lkl_green.testing import Shared, spawn

SIZE = 10


def stack() -> None:
    m = Mutex(name="m")
    top, flag = Shared(0, "top"), Shared(False, "flag")
    slots = array("arr", [0] * SIZE)

    def push(value: int) -> bool:
        if top.value == SIZE:
            return False
        slots[top.value].value = value
        top.value += 1
        return True

    def pop() -> int | None:
        if top.value == 0:
            return None
        top.value -= 1
        value: int = slots[top.value].value
        return value

    def producer() -> None:
        for value in range(SIZE):
            with m:
                assert push(value), "overflow"
                flag.value = True

    def consumer() -> None:
        for _ in range(SIZE):
            with m:
                if flag.value:
                    assert pop() is not None, "underflow"

    join([spawn(producer), spawn(consumer)])


PROGRAMS = (Program("stack", "stack", stack),)
