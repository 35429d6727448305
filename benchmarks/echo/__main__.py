"""`python -m benchmarks.echo`: the whole comparison as one table."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from benchmarks.configurations import configuration_name
from benchmarks.echo.compare import Result, compare
from benchmarks.echo.serve import KINDS
from benchmarks.environment import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

STANDARD = "asyncio streams"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.echo", description="TCP echo over loopback.")
    parser.add_argument("--quick", action="store_true", help="three short rounds: less exact")
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 100, 1000], metavar="N")
    parser.add_argument("--servers", nargs="+", type=configuration_name, metavar="NAME", default=list(KINDS),
                        choices=list(KINDS), help=f"only these of: {', '.join(KINDS)}")  # fmt: skip
    return parser.parse_args(arguments)


def table(results: dict[int, dict[str, Result]], servers: Sequence[str]) -> str:
    """Requests per second, share of asyncio streams, 99th percentile, the server's CPU time per request."""
    header = ["", *(f"{number} connections: rate, share, p99, CPU" for number in results)]
    lines = [header, ["---"] * len(header)]
    lines += [[kind, *(_cell(result[kind], result[STANDARD]) for result in results.values())] for kind in servers]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(result: Result, standard: Result) -> str:
    if result.error:
        return result.error
    share = "" if standard.error else f"{result.share_of(standard):.2f}"
    cpu = "" if result.cpu_us is None else f", {result.cpu_us:.1f} us"
    return f"{result.rate:,.0f}/s, {share}, {result.p99_us / 1000:.2f} ms{cpu}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = parse(arguments)
    wanted = [kind for kind in KINDS if kind in options.servers or kind == STANDARD]
    servers = [kind for kind in wanted if not KINDS[kind][3] or find_spec(KINDS[kind][3])]
    rounds, seconds = (3, 1.0) if options.quick else (5, 2.0)
    results = {
        number: compare(servers, number, rounds, seconds, lambda text: print(text, file=sys.stderr, flush=True))
        for number in options.connections
    }
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    print(f"{rounds} rounds of {seconds} s each, one server after the other; medians; share: of asyncio streams")
    print(table(results, servers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
