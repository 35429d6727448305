"""The table: each program under each policy, beside the published figures."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from benchmarks.schedules.programs import PROGRAMS
from benchmarks.schedules.published import best, figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.schedules.trials import Result

# Published columns that are worth the room.
SHOWN = ("POS", "SURW", "PCT-3", "RW", "RFF", "PERIOD")


def reaches(program: str, result: Result) -> bool:
    """Whether a mean, rounded as the published ones are, is no worse than the best of them."""
    return result.mean is not None and len(result.found) == result.trials and round(result.mean) <= best(program)[0]


def families_reached(results: Mapping[str, Result]) -> dict[str, bool]:
    """For each family, whether all its programs that were run reach the best published figure."""
    reached: dict[str, bool] = {}
    for name, result in results.items():
        family = PROGRAMS[name].family
        reached[family] = reached.get(family, True) and reaches(name, result)
    return reached


def header(policies: Sequence[str]) -> str:
    """The head of the table."""
    columns = ["program", *policies, "best published", *SHOWN]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def row(program: str, results: Sequence[Result]) -> str:
    """A line of the table; * marks what is no worse than the best published figure."""
    cells = [result.text() + (" *" if reaches(program, result) else "") for result in results]
    value, tool = best(program)
    published = [_short(figure(program, name)) for name in SHOWN]
    return f"| {' | '.join([program, *cells, f'{_short(value)} ({tool})', *published])} |"


def summary(policy: str, results: Mapping[str, Result]) -> str:
    """What a policy reaches, in a line or two."""
    reached = families_reached(results)
    missed = [family for family, whether in reached.items() if not whether]
    text = f"{policy}: {sum(reached.values())} of {len(reached)} families at or below the best published figure"
    lost = [name for name, result in results.items() if len(result.found) < result.trials]
    return text + _list("; not", missed) + _list("; not always found", lost)


def _list(what: str, names: Iterable[str]) -> str:
    text = ", ".join(names)
    return f"{what}: {text}" if text else ""


def _short(value: float | None) -> str:
    return "" if value is None else "-" if value == inf else f"{value:.0f}"
