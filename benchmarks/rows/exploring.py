"""Schedules of two threads and a locked counter; `python -m benchmarks.exploring` says more."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from benchmarks.exploring.compare import OURS, PEERS, compare, installed
from benchmarks.exploring.contenders.ours import explore_explicit, explore_threading
from benchmarks.row import Figure, Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.configurations import Configuration
    from benchmarks.exploring.contenders.ours import Exploring

WARM_UP = 50
ROUNDS = 15


def rate_of(exploring: Callable[[], Exploring]) -> Callable[[Configuration, int], float]:
    """What one schedule takes."""

    def measure(configuration: Configuration, n: int) -> float:
        with closing(exploring()) as run:
            run(WARM_UP)
            begin = configuration.now_ns()
            run(n)
            return (configuration.now_ns() - begin) / n

    return measure


def against_peers(configuration: Configuration, n: int) -> Figure:
    """Explicit points against the peers that are installed."""
    comparison = compare((*OURS[:1], *PEERS), ROUNDS)
    ours = OURS[0].name
    fastest, free = comparison.fastest(controls=True), comparison.fastest(controls=False)
    assert fastest is not None
    assert free is not None
    ratio = comparison.ratio(ours, fastest)
    return Figure(1 / ratio, f"{ratio:.1f}x {fastest}, {comparison.ratio(ours, free):.1f}x OS threads")


def have_peers() -> bool:
    """Whether there is a peer that controls schedules; `pip install --group explore-peers` gets them."""
    return any(installed(peer) for peer in PEERS if peer.controls)


RATES = (
    Row("explore_explicit", "a schedule of 2 threads and a locked counter, explicit points",
        rate_of(explore_explicit), 2000, n_least=100, target=192, only=("direct",)),
    Row("explore_threading", "the same on threading", rate_of(explore_threading), 2000,
        n_least=100, target=385, only=("direct",)),
)  # fmt: skip
BESIDE_PEERS = Row(
    "explore_peers", "rate of explored schedules beside the fastest peer's", against_peers, 1,
    alone=True, full_only=True, target=1 / 30, target_text="30x", only=("direct",),
)  # fmt: skip
ROWS = (*RATES, BESIDE_PEERS) if have_peers() else RATES
