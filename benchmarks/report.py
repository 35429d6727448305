"""The table, for people and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.row import Cell, Row

TARGET_COLUMN = "direct"


class Report:
    """The cells that were measured.

    Args:
        rows: from top to bottom.
        columns: names, from left to right.
        facts: what is printed above the table.
    """

    def __init__(self, rows: Sequence[Row], columns: Sequence[str], facts: dict[str, str]) -> None:
        self._rows = rows
        self._columns = columns
        self._facts = facts
        self._cells: dict[tuple[str, str], Cell] = {}

    def add(self, row: str, column: str, cell: Cell) -> None:
        """One more cell."""
        self._cells[row, column] = cell

    # -- for people

    def table(self) -> str:
        """The table in Markdown, which reads well in a terminal, too."""
        lines = [["", "n", *self._columns, "target"], *(self._line(row) for row in self._rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ["-" * width for width in widths])
        return "\n".join(_aligned(line, widths) for line in lines)

    def _line(self, row: Row) -> list[str]:
        direct = self._cells.get((row.key, TARGET_COLUMN))
        cells = [self._cells.get((row.key, column)) for column in self._columns]
        n = direct.n if direct is not None else max((cell.n for cell in cells if cell is not None), default=0)
        texts = ["" if cell is None else cell.text() + _different_n(row, cell, n) for cell in cells]
        return [row.title, show_n(n), *texts, _verdict(row, direct)]

    def errors(self) -> str:
        """What went wrong, in full."""
        return "\n".join(
            f"{row} in {column}: {cell.error}" for (row, column), cell in self._cells.items() if cell.error
        )

    # -- for programs

    def as_json(self) -> str:
        """Everything, with the ratios of each round."""
        rows: list[dict[str, Any]] = [
            {
                "key": row.key,
                "title": row.title,
                "target": row.target,
                "cells": {
                    column: self._cells[row.key, column].as_json()
                    for column in self._columns
                    if (row.key, column) in self._cells
                },
            }
            for row in self._rows
        ]
        return json.dumps({"environment": self._facts, "rows": rows}, indent=2)


def _aligned(texts: list[str], widths: list[int]) -> str:
    first, *rest = (
        text.ljust(width) if not number else text.rjust(width)
        for number, (text, width) in enumerate(zip(texts, widths, strict=True))
    )
    return "| " + " | ".join([first, *rest]) + " |"


def _verdict(row: Row, cell: Cell | None) -> str:
    """The target, and whether the direct configuration reaches it."""
    if row.target is None:
        return ""
    target = row.target_text or (f"{row.target / 1024:g} KiB" if row.alone else f"{row.target:g}")
    if cell is None or cell.value is None:
        return target
    return f"{target} {'reached' if cell.value <= row.target else 'missed'}"


def _different_n(row: Row, cell: Cell, n: int) -> str:
    """Rows that stand alone say how many it were, where it were not as many as in the direct configuration."""
    return f" /{show_n(cell.n)}" if row.alone and cell.n != n and not cell.error else ""


def show_n(n: int) -> str:
    """A count for people."""
    if n >= 1_000_000:
        return f"{n / 1_000_000:g}M"
    return f"{n / 1000:g}k" if n >= 1000 else str(n)
