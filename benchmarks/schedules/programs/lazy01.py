"""lazy01: the third of three threads comes last."""

from __future__ import annotations

from benchmarks.schedules.program import Program
from benchmarks.schedules.programs.shared import join
from lkl_green.linux import Mutex
from lkl_green.testing import Shared, spawn


def lazy01() -> None:
    m = Mutex(name="m")
    data = Shared(0, "data")

    def add(amount: int) -> None:
        with m:
            data.value += amount

    def check() -> None:
        with m:
            assert data.value < 3

    join([spawn(add, 1, name="add 1"), spawn(add, 2, name="add 2"), spawn(check)])


PROGRAMS = (Program("lazy01", "lazy01", lazy01),)
