"""deadlock01: two locks, taken in two orders."""

from __future__ import annotations

from benchmarks.schedules.program import Program
from benchmarks.schedules.programs.shared import join
from lkl_green.linux import Mutex
from lkl_green.testing import Shared, Verdict, spawn


def deadlock01() -> None:
    a, b = Mutex(name="a"), Mutex(name="b")
    counter = Shared(1, "counter")

    def up() -> None:
        with a, b:
            counter.value += 1

    def down() -> None:
        with b, a:
            counter.value -= 1

    join([spawn(up), spawn(down)])


PROGRAMS = (Program("deadlock01", "deadlock01", deadlock01, Verdict.DEADLOCK),)
