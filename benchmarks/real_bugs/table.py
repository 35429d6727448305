"""A schedule as a table: one column for each task, one line for each operation, and the line of source that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(steps: Sequence[Sequence[str]]) -> list[str]:
    """The lines of the table.

    Args:
        steps: (task, operation, line of source) for each, in order.
    """
    tasks = list(dict.fromkeys(task for task, _, _ in steps))
    rows = [[operation if task == column else "" for column in tasks] + [where] for task, operation, where in steps]
    rows.insert(0, [*tasks, "source"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
