"""wronglock: one thread locks one lock, the others another."""

from __future__ import annotations

from functools import partial

from benchmarks.schedules.program import Program
from benchmarks.schedules.programs.shared import join
from lkl_green.linux import Mutex
from lkl_green.testing import Shared, spawn


def wronglock(others: int) -> None:
    data_lock, this_lock = Mutex(name="dataLock"), Mutex(name="thisLock")
    data = Shared(0, "dataValue")

    def right() -> None:
        with data_lock:
            before = data.value
            data.value += 1
            assert data.value == before + 1

    def wrong() -> None:
        with this_lock:
            data.value += 1

    join([spawn(right), *(spawn(wrong) for _ in range(others))])


PROGRAMS = (
    Program("wronglock", "wronglock", partial(wronglock, 7)),
    Program("wronglock_3", "wronglock", partial(wronglock, 3)),
)
