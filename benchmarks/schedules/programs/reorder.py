"""reorder_N: a checker sees what one setter has done so far."""

from __future__ import annotations

from functools import partial

from benchmarks.schedules.program import Program
from benchmarks.schedules.programs.shared import join
from lkl_green.testing import Shared, spawn

# Setters and checkers, by what the program is called.
SIZES = {3: (2, 1), 4: (3, 1), 5: (4, 1), 10: (9, 1), 20: (10, 10), 50: (49, 1), 100: (99, 1)}


def reorder(setters: int, checkers: int) -> None:
    a, b = Shared(0, "a"), Shared(0, "b")

    def set_both() -> None:
        a.value = 1
        b.value = -1

    def check() -> None:
        assert (a.value == 0 and b.value == 0) or (a.value == 1 and b.value == -1)

    tasks = [spawn(set_both, name="set") for _ in range(setters)]
    tasks += [spawn(check) for _ in range(checkers)]
    join(tasks)


PROGRAMS = tuple(Program(f"reorder_{size}", "reorder", partial(reorder, *sizes)) for size, sizes in SIZES.items())
