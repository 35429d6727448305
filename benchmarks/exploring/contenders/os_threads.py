"""OS threads as they are: nobody says who runs when, and nearly every run is the same schedule."""

from __future__ import annotations

from itertools import repeat

from benchmarks.exploring.contenders.ours import on_threading


def run(n: int) -> None:
    for _ in repeat(None, n):
        on_threading()


CONTENDERS = {"OS threads, nobody in control": lambda: run}
