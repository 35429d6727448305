"""Processes that run chunks of a campaign, one chunk at a time each, with a kernel that they keep."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import warnings
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lkl_green.testing.campaign import Campaign, Chunk

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

_EXIT_TIMEOUT_S = 5.0


class ChunkRunner(Protocol):
    """A campaign as plain data."""

    def open(self) -> Campaign:
        """A campaign of the worker's own."""

    def run(self, campaign: Campaign, first: int, count: int, deadline_s: float | None) -> Chunk:
        """Run a chunk, until a time of day."""


class _Order(NamedTuple):
    first: int
    length: int
    deadline_s: float | None


class Workers:
    """Some processes.

    Args:
        plan: the campaign.
        jobs: how many.
        fork: whether they are forked, or else spawned.

    Attributes:
        capacity: how many chunks to have under way: one for each process and one for each that waits for it, so that
            nobody is idle while we look at what came back.
    """

    def __init__(self, plan: ChunkRunner, jobs: int, *, fork: bool) -> None:
        self.capacity = 2 * jobs
        self._waiting: deque[_Order] = deque()
        self._lost: list[Chunk] = []
        self._orders: dict[Connection, deque[_Order]] = {}
        self._processes: dict[Connection, BaseProcess] = {}
        context: Any = multiprocessing.get_context("fork" if fork else "spawn")
        for number in range(jobs):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(plan, theirs), name=f"schedules-{number}", daemon=True)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
                process.start()  # from Python 3.12 on it warns of threads that run no Python, too
            theirs.close()
            self._processes[ours] = process
            self._orders[ours] = deque()

    def submit(self, first: int, count: int, deadline_s: float | None) -> None:
        """Have a chunk run by whoever has least to do."""
        order = _Order(first, count, deadline_s)
        if not self._orders:
            self._lose(order, "no worker process is left")
            return
        worker = min(self._orders, key=lambda worker: len(self._orders[worker]))
        self._orders[worker].append(order)
        with suppress(OSError):  # if it has died, collect() finds out
            worker.send(order)

    def collect(self, timeout_s: float) -> list[Chunk]:
        """What has come back; a chunk whose worker died was not run."""
        chunks, self._lost = self._lost, []
        for worker in wait(list(self._orders), 0 if chunks else timeout_s):
            assert isinstance(worker, Connection)
            try:
                chunks.append(worker.recv())
                self._orders[worker].popleft()
            except (EOFError, OSError):
                self._bury(worker)
        lost, self._lost = self._lost, []
        return chunks + lost

    def _bury(self, worker: Connection) -> None:
        process = self._processes[worker]
        process.join(_EXIT_TIMEOUT_S)
        for order in self._orders.pop(worker):
            self._lose(order, f"a worker process ended with exit code {process.exitcode}")

    def _lose(self, order: _Order, why: str) -> None:
        last = order.first + order.length - 1
        what = f"{why}; it had schedules {order.first} to {last} to run: run them with jobs=1 to see what they do"
        self._lost.append(Chunk(order.first, order.length, cut_off=what))

    def close(self) -> None:
        """End all of them, whatever they are at."""
        for worker, process in self._processes.items():
            worker.close()
            process.kill()
        for process in self._processes.values():
            process.join(_EXIT_TIMEOUT_S)
            process.close()


def _work(plan: ChunkRunner, orders: Connection) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us, who ends us
    gc.freeze()  # what was there before the fork stays shared
    with plan.open() as campaign:
        while True:
            try:
                order: _Order = orders.recv()
            except EOFError:
                return
            orders.send(plan.run(campaign, *order))
