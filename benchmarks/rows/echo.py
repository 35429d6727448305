"""TCP echo over loopback, against asyncio streams of the same moment; `python -m benchmarks.echo` says more."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.echo.compare import compare
from benchmarks.row import Figure, Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.configurations import Configuration

STANDARD = "asyncio streams"
ROUNDS, SECONDS = 3, 1.0


def against_asyncio_streams(kind: str, connections: int) -> Figure:
    """Time per request in units of asyncio streams'. Raises RuntimeError if one of the two cannot be measured."""
    results = compare([STANDARD, kind], connections, ROUNDS, SECONDS)
    for name, result in results.items():
        if result.error:
            raise RuntimeError(f"{name}: {result.error}")
    mine, theirs = results[kind], results[STANDARD]
    share = mine.share_of(theirs)
    return Figure(1 / share, f"{share:.2f}x, {mine.rate / 1000:.0f}k/s, {mine.p99_us / 1000:.1f} ms")


def of_kernel(configuration: Configuration, n: int) -> Figure:
    """A kernel thread for each of n connections."""
    return against_asyncio_streams(configuration.name, n)


def of_peer(kind: str) -> dict[str, Callable[[int], Any]]:
    """The same rows for another library."""
    return {row.key: partial(against_asyncio_streams, kind) for row in ROWS}


ROWS = (
    Row("echo_1", "TCP echo, 1 connection: rate of asyncio streams', 99 % within", of_kernel, 1,
        alone=True, whole=True, full_only=True),
    Row("echo_100", "TCP echo, 100 connections", of_kernel, 100,
        n_least=100, alone=True, whole=True, target=1.25, target_text="0.8x"),
    Row("echo_1000", "TCP echo, 1000 connections", of_kernel, 1000,
        n_least=1000, alone=True, whole=True, full_only=True),
)  # fmt: skip
