"""`python -m benchmarks.schedules`, or `python -m benchmarks schedules`: schedules to the first bug, and per second."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from benchmarks.schedules.programs import PROGRAMS
from benchmarks.schedules.report import header, row, summary
from benchmarks.schedules.trials import LIMIT, TRIALS, Result, run_trials

if TYPE_CHECKING:
    from collections.abc import Sequence

POLICIES = ("default", "portfolio", "pos", "surw", "urw", "pct", "random")
QUICK_TRIALS = 5
QUICK_LIMIT = 500
# A campaign is not begun when a cell has taken this long.
BUDGET_S = 20.0
QUICK_BUDGET_S = 0.5


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks schedules", description="How many schedules it takes to find a known bug."
    )
    parser.add_argument("--quick", action="store_true", help="few trials, short campaigns: about a minute")
    parser.add_argument("--policies", nargs="+", metavar="NAME", default=list(POLICIES), help="as explore() takes them")
    parser.add_argument("--programs", metavar="PATTERN", default="*", help="only programs whose name matches")
    parser.add_argument("--trials", type=int, metavar="N", help=f"campaigns for each figure; {TRIALS} if left out")
    parser.add_argument("--budget", type=float, metavar="S", help="begin no further trial of a figure after so long")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run campaigns, print the table line by line."""
    options = parse(arguments)
    programs = [name for name in PROGRAMS if fnmatch(name, options.programs)]
    if not programs:
        print(f"no program matches {options.programs!r}; there are {', '.join(PROGRAMS)}", file=sys.stderr)
        return 2
    trials = options.trials or (QUICK_TRIALS if options.quick else TRIALS)
    limit = QUICK_LIMIT if options.quick else LIMIT
    budget = options.budget or (QUICK_BUDGET_S if options.quick else BUDGET_S)
    print(
        f"mean±sd schedules to the first bug, up to {trials} trials of up to {limit} schedules; (k/n): found in k of n"
    )
    print(header(options.policies))
    results: dict[str, dict[str, Result]] = {policy: {} for policy in options.policies}
    for program in programs:
        for policy in options.policies:
            results[policy][program] = run_trials(PROGRAMS[program], policy, trials, limit, budget)
        print(row(program, [results[policy][program] for policy in options.policies]), flush=True)
    print()
    for policy in options.policies:
        print(summary(policy, results[policy]))
        print(f"    {_rates(results[policy])}")
    return 0


def _rates(results: dict[str, Result]) -> str:
    """Schedules per second where there were enough of them to say."""
    rates = {name: result.rate for name, result in results.items() if result.schedules >= 200}
    return "schedules/s: " + ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())


if __name__ == "__main__":
    sys.exit(main())
