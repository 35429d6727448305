"""One contender in a process of its own: `python -m benchmarks.exploring.contenders.serve MODULE NAME`.

It runs as many schedules as each line of standard input says, and answers with the nanoseconds that took, by two
clocks, until there are no more lines.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from time import perf_counter_ns, process_time_ns

MARK = "result "


def main(module: str, name: str) -> None:
    """Answer until nobody asks."""
    run = importlib.import_module(f"benchmarks.exploring.contenders.{module}").CONTENDERS[name]()
    for line in sys.stdin:
        n = int(line)
        gc.collect()
        wall, cpu = perf_counter_ns(), process_time_ns()
        run(n)
        took = {"cpu_ns": process_time_ns() - cpu, "wall_ns": perf_counter_ns() - wall}
        print(MARK + json.dumps(took), flush=True)
    os._exit(0)  # whatever threads a tool has left are its own affair


if __name__ == "__main__":
    main(*sys.argv[1:])
