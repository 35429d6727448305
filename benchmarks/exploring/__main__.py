"""`python -m benchmarks.exploring`: measure and print one table."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from benchmarks.environment import environment
from benchmarks.exploring.compare import OURS, PEERS, Comparison, compare, installed

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS = 25


def table(comparison: Comparison) -> list[str]:
    """The table, with how many times as fast we are."""
    ours = [contender.name for contender in OURS]
    lines = [
        f"| | per CPU second | per second | raw switches | {' | '.join(f'{name}: times' for name in ours)} |",
        f"|---|---:|---:|---:|{'---:|' * len(ours)}",
    ]
    for name, times in comparison.times.items():
        rates = f"{1e9 / times.cpu_ns:,.0f} | {1e9 / times.wall_ns:,.0f} | {comparison.switches(name):,.0f}"
        ratios = ["" if name in ours else f"{comparison.ratio(one, name):.1f}" for one in ours]
        lines.append(f"| {name} | {rates} | {' | '.join(ratios)} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exploring", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="how many batches each")
    options = parser.parse_args(arguments)
    for peer in PEERS:
        if not installed(peer):
            print(f"{peer.name} is left out: {peer.needs} is not installed", file=sys.stderr)
    comparison = compare((*OURS, *PEERS), options.rounds, lambda text: print(text, file=sys.stderr, flush=True))
    print(", ".join(f"{name} {value}" for name, value in environment().items()), "", *table(comparison), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
