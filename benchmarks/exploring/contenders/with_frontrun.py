"""frontrun: OS threads held on a leash by tracing; started through its own launcher, which replaces the locks."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import frontrun

LIMIT = {"random": "max_attempts", "dpor": "max_executions"}


class State:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counter = 0


def add(state: State) -> None:
    with state.lock:
        state.counter += 1


def run(strategy: str, n: int) -> None:
    done = 0
    while done < n:  # a search may come to its end
        options: dict[str, Any] = {LIMIT[strategy]: n - done}
        if strategy == "random":
            options["seed"] = done
        result = frontrun.explore(
            State, add, lambda state: state.counter == 2, count=2, strategy=strategy, detect_io=False, **options
        )
        assert result.property_holds
        done += result.num_explored


CONTENDERS = {f"frontrun {strategy}": partial(partial, run, strategy) for strategy in LIMIT}
