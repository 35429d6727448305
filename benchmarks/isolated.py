"""Running one cell in a process of its own: `python -m benchmarks.isolated COLUMN ROW N`.

The answer is one line of JSON, the last on standard output. Standard error is shared, for progress.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

from benchmarks.columns import column_named
from benchmarks.row import Cell, Figure

TIMEOUT_S = 300


def measure_isolated(column: str, row: str, n: int) -> Cell:
    """The figure of a row that stands alone. Raises RuntimeError with what the process said last."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.isolated", column, row, str(n)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise RuntimeError(lines[-1] if lines else f"the process ended with status {done.returncode}")
    return Cell(n, figure=Figure(**json.loads(lines[-1])))


def main(column: str, row: str, n: str) -> int:
    """The other side: measure and say what was found."""
    try:
        figure = column_named(column).measure(row, int(n))
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    print(json.dumps(asdict(figure)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
