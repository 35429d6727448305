"""interleave-test: OS threads held on a leash by sys.monitoring."""

from __future__ import annotations

import threading
from functools import partial

import interleave_test


def program() -> None:
    lock, counter = threading.Lock(), [0]

    def add() -> None:
        with lock:
            counter[0] += 1

    threads = [interleave_test.spawn(add), interleave_test.spawn(add)]
    for thread in threads:
        thread.join()
    assert counter[0] == 2


def run(strategy: str, granularity: str, n: int) -> None:
    done = 0
    while done < n:  # a search may come to its end
        result = interleave_test.explore(
            program, iterations=n - done, seed=done, strategy=strategy, granularity=granularity
        )
        done += result.schedules_run


CONTENDERS = {
    f"interleave-test {strategy}/{granularity}": partial(partial, run, strategy, granularity)
    for strategy in ("random", "pct", "dfs")
    for granularity in ("opcode", "line")
}
