"""python -m benchmarks.dpor [MOST]: counts and times of partial order reduction on programs with known counts.

MOST: leave out programs with more traces; 10,000.
"""

from __future__ import annotations

import sys
from time import perf_counter

from benchmarks.dpor.programs import Row, rows
from lkl_green.testing import explore


def told(row: Row) -> str:
    """A line of the table: what was counted, and how fast."""
    begin = perf_counter()
    report = explore(
        row.program, policy="dpor", verify=False, lockdep=False, races="off", stop_on_failure=not row.deadlocks
    )
    elapsed_s = perf_counter() - begin
    wrong = "" if report.schedules == row.count else f"  WRONG: {row.count} are known"
    rate = (report.schedules + report.redundant) / elapsed_s
    return (
        f"{row!s:18} {report.schedules:>7} {report.redundant:>9} {elapsed_s:>8.3f} {rate:>8.0f}/s  {row.source}{wrong}"
    )


def main() -> None:
    """Print the table."""
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    print(f"{'program':18} {'traces':>7} {'redundant':>9} {'seconds':>8} {'executions':>10}  count known by")
    for row in rows():
        if row.count <= most:
            print(told(row), flush=True)


if __name__ == "__main__":
    main()
