"""Processes that run chunks of a campaign, one chunk at a time each, with a kernel that they keep.

Ctrl-C goes to every process of the terminal's foreground. Only the process that started the workers acts on it, and
ends them; a worker that died of it would look like a worker that failed. So a worker ignores SIGINT, and until it does
the signal is blocked: a new process inherits the mask of the thread that starts it, through exec() too. In that thread
the signal waits until all workers are known, so that every one of them is ended.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import warnings
from collections import deque
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lkl_green.testing.campaign import Campaign, Chunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
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


class ProcessPool:
    """Some processes, from start() to close().

    Args:
        plan: the campaign.
        jobs: how many.
        fork: whether they are forked, or else spawned.

    Attributes:
        capacity: how many chunks to have under way: two for each process, so that none is idle while the results of
            the last chunk are examined.
    """

    def __init__(self, plan: ChunkRunner, jobs: int, *, fork: bool) -> None:
        self.capacity = 2 * jobs
        self._plan = plan
        self._jobs = jobs
        self._fork = fork
        self._waiting: deque[_Order] = deque()
        self._lost: list[Chunk] = []
        self._orders: dict[Connection, deque[_Order]] = {}
        self._processes: dict[Connection, BaseProcess] = {}

    def start(self) -> None:
        """Start all of them. close() has to follow, even if this raises."""
        context: Any = multiprocessing.get_context("fork" if self._fork else "spawn")
        if not self._fork:
            resource_tracker.ensure_running()  # starting it unblocks SIGINT, whatever the mask was
        with _sigint_held():
            for number in range(self._jobs):
                self._start_one(context, f"schedules-{number}")

    def _start_one(self, context: Any, name: str) -> None:
        ours, theirs = context.Pipe()
        # A forked worker inherits this process's ends of the pipes, and would not see that this process has ended.
        not_theirs = [*self._processes, ours] if self._fork else []
        process = context.Process(target=_work, args=(self._plan, theirs, not_theirs), name=name, daemon=True)
        self._processes[ours] = process
        self._orders[ours] = deque()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            process.start()  # from Python 3.12 on it warns of threads that run no Python, too
        theirs.close()

    def submit(self, first: int, count: int, deadline_s: float | None) -> None:
        """Have a chunk run by the process that has the fewest."""
        order = _Order(first, count, deadline_s)
        if not self._orders:
            self._lose(order, "no worker process is left")
            return
        worker = min(self._orders, key=lambda worker: len(self._orders[worker]))
        self._orders[worker].append(order)
        with suppress(OSError):  # if it has died, collect() finds out
            worker.send(order)

    def collect(self, timeout_s: float) -> list[Chunk]:
        """The chunks that have been run; one whose process died is returned as not run."""
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
        """Kill all processes; what they run is lost."""
        with _sigint_held():
            for worker, process in self._processes.items():
                worker.close()
                if process.pid is not None:
                    process.kill()
            for process in self._processes.values():
                if process.pid is not None:
                    process.join(_EXIT_TIMEOUT_S)
                process.close()
            self._processes.clear()


@contextmanager
def _sigint_held() -> Iterator[None]:
    """Block SIGINT in the calling thread; a Ctrl-C that comes meanwhile is delivered afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(plan: ChunkRunner, orders: Connection, not_ours: Iterable[Connection]) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Unblocked again, because tests of signals expect the usual mask.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for connection in not_ours:
        connection.close()
    gc.freeze()  # keeps what existed before the fork shared
    with plan.open() as campaign:
        while True:
            try:
                order: _Order = orders.recv()
            except EOFError:
                return
            orders.send(plan.run(campaign, *order))
