"""How a cell is measured: in rounds, each between two measurements of the unit."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from benchmarks.raw import raw_switch_ns
from benchmarks.row import Cell

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5
RAW_SWITCHES = 50_000


def measure_ratios(
    measure: Callable[[], float], n: int, rounds: int = ROUNDS, raw_switches: int = RAW_SWITCHES
) -> Cell:
    """Ratios of `measure()`, which gives nanoseconds per operation, to the raw switch."""
    ratios = []
    before = raw_switch_ns(raw_switches)
    for _ in range(rounds):
        gc.collect()
        time = measure()
        after = raw_switch_ns(raw_switches)
        ratios.append(2 * time / (before + after))
        before = after
    return Cell(n, ratios)


def or_error(cell: Callable[[], Cell], n: int) -> Cell:
    """A cell, whatever happens: what raises is reported in the table and does not end the run."""
    try:
        return cell()
    except Exception as error:
        return Cell(n, error=f"{type(error).__name__}: {error}")
    finally:
        gc.collect()
