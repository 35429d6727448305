"""`python -m benchmarks`: measure and print one table.

It never fails because of a figure. Each row that is missed says so, each that raises is reported in its cell.
"""

from __future__ import annotations

import argparse
import gc
import sys
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.columns import column_named, installed_peers
from benchmarks.configurations import CONFIGURATIONS, configuration_name
from benchmarks.environment import environment, unusual
from benchmarks.isolated import measure_isolated
from benchmarks.report import Report
from benchmarks.rounds import ROUNDS, measure_ratios, or_error
from benchmarks.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.columns import Column
    from benchmarks.row import Cell, Row

HOW = """\
Figures are ratios to one bare greenlet.switch() of the same moment: the median of {rounds} rounds, in brackets the
least. n is what `direct` does; hosted does a fifth, pthreads a fiftieth, peers a quarter. Rows with a unit are measured
once, in a process of their own. Ratios can be compared between machines, with care; absolute times cannot, and are not
shown."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What things cost, as ratios to one bare greenlet.switch()."
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: below a minute, less exact")
    parser.add_argument("--rows", metavar="PATTERN", default="*", help="only rows whose key matches; a part will do")
    parser.add_argument(
        "--configurations", nargs="+", metavar="NAME", type=configuration_name,
        default=list(CONFIGURATIONS), choices=list(CONFIGURATIONS),
        help=f"only these of {', '.join(CONFIGURATIONS)}",
    )  # fmt: skip
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="other libraries, too")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything there, too")
    parser.add_argument("--list", action="store_true", help="list the rows' keys and leave")
    return parser.parse_args(arguments)


def select_rows(pattern: str, quick: bool) -> list[Row]:
    """The rows to be measured."""
    wanted = [row for row in ROWS.values() if fnmatch(row.key, pattern) or pattern in row.key]
    return [row for row in wanted if not (quick and row.full_only)]


def select_columns(configurations: Sequence[str], peers: bool) -> list[Column]:
    """The columns to be measured. A peer that cannot be imported is left out, with a word."""
    columns = [column_named(name) for name in configurations]
    for name in installed_peers() if peers else ():
        try:
            columns.append(column_named(name))
        except ImportError as error:
            say(f"{name} is left out: {error}")
    return columns


def measure(row: Row, column: Column, quick: bool) -> Cell:
    """One cell."""
    n = column.count(row, quick)
    if row.alone:
        return or_error(partial(measure_isolated, column.name, row.key, n), n)
    return or_error(partial(measure_ratios, partial(column.measure, row.key, n), n), n)


def measure_all(rows: Sequence[Row], columns: Sequence[Column], quick: bool) -> Report:
    """The table, row by row, with progress on stderr."""
    report = Report(rows, [column.name for column in columns], environment())
    begin = perf_counter()
    for row in rows:
        for column in columns:
            if column.has(row.key):
                cell = measure(row, column, quick)
                report.add(row.key, column.name, cell)
                say(f"{perf_counter() - begin:6.1f} s  {row.key:20} {column.name:13} {cell.text()} {cell.error}")
    return report


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["schedules"]:
        from benchmarks.schedules.__main__ import main as schedules_main

        return schedules_main(arguments[1:])
    options = parse(arguments)
    if options.list:
        print("\n".join(f"{row.key:20} {row.title}" for row in ROWS.values()))
        return 0
    rows = select_rows(options.rows, options.quick)
    if not rows:
        say(f"no row matches {options.rows!r}: `python -m benchmarks --list` shows their keys")
        return 2
    columns = select_columns(options.configurations, options.peers)
    gc.collect()
    gc.freeze()
    report = measure_all(rows, columns, options.quick)
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    print(HOW.format(rounds=ROUNDS), *(f"Note: {note}." for note in unusual()), "", report.table(), sep="\n")
    if report.errors():
        print(f"\nErrors:\n{report.errors()}")
    if options.json is not None:
        options.json.write_text(report.as_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
