"""twostage_N: two variables that belong together, under a lock each."""

from __future__ import annotations

from functools import partial

from benchmarks.schedules.program import Program
from benchmarks.schedules.programs.shared import join
from lkl_green.linux import Mutex
from lkl_green.testing import Shared, spawn

# Writers and readers, by what the program is called.
SIZES = {"twostage": (1, 1), "twostage_20": (10, 10), "twostage_50": (40, 10), "twostage_100": (99, 1)}


def twostage(writers: int, readers: int) -> None:
    lock1, lock2 = Mutex(name="lock1"), Mutex(name="lock2")
    data1, data2 = Shared(0, "data1"), Shared(0, "data2")

    def write() -> None:
        with lock1:
            data1.value = 1
        with lock2:
            data2.value = data1.value + 1

    def read() -> None:
        with lock1:
            if data1.value == 0:
                return
            first = data1.value
        with lock2:
            second = data2.value
        assert second == first + 1

    tasks = [spawn(write) for _ in range(writers)]
    tasks += [spawn(read) for _ in range(readers)]
    join(tasks)


PROGRAMS = tuple(Program(name, "twostage", partial(twostage, *sizes)) for name, sizes in SIZES.items())
