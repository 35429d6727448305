"""Schedules to the first bug; `python -m benchmarks schedules` shows them one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.row import Figure, Row
from benchmarks.schedules.programs import PROGRAMS
from benchmarks.schedules.report import families_reached
from benchmarks.schedules.trials import run_trials

if TYPE_CHECKING:
    from benchmarks.configurations import Configuration


def families_missed(configuration: Configuration, n: int) -> Figure:
    """Families of programs for which the portfolio needs more schedules than the best published figure; of n trials."""
    reached = families_reached({name: run_trials(program, "portfolio", n) for name, program in PROGRAMS.items()})
    missed = [family for family, whether in reached.items() if not whether]
    return Figure(len(missed), f"{len(missed)} of {len(reached)}")


ROWS = (
    Row("first_bug", "families of programs with a bug that the best published tool finds sooner",
        families_missed, 20, alone=True, full_only=True, whole=True, target=1, target_text="1",
        only=("direct",)),
)  # fmt: skip
