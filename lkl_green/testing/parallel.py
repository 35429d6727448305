"""Campaigns shared out among processes, or given to an executor.

Schedules are handed out in chunks of numbers, and what comes back is put in the order of the numbers before anybody
looks at it. The first failure is the one with the lowest number, whoever finished first: a chunk with a failure is
believed only when every chunk before it has come back clean. So the report is that of a single process.

Processes of our own are forked where that is safe, because then the test may be anything, a closure over a fixture
say. A process with several threads is not forked: its workers are spawned, and the test has to be importable.
"""

from __future__ import annotations

import copy
import os
import pickle
import sys
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from lkl_green.errors import NotParallel
from lkl_green.host import native
from lkl_green.testing.campaign import CHUNK, Campaign, Chunk
from lkl_green.testing.policies import make_policy
from lkl_green.testing.process_pool import ProcessPool

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from lkl_green.testing.progress import Meter
    from lkl_green.testing.settings import Settings

_POLL_S = 0.1

# How long a place in the pool is to have a chunk. Handing one out and taking it in costs up to a quarter of a
# millisecond of our time, which a worker may want, too. But a failure is believed, and progress told, only when chunks
# have come back.
_BUSY_S = 0.2


@dataclass
class Plan:
    """A campaign as plain data: what a worker needs to run a chunk of it."""

    test: Callable[[], object]
    settings: Settings

    def open(self) -> Campaign:
        """A campaign of the worker's own, with a policy of its own."""
        return Campaign(self.test, replace(self.settings, policy=copy.deepcopy(self.settings.policy)))

    def run(self, campaign: Campaign, first: int, count: int, deadline_s: float | None) -> Chunk:
        """Run a chunk, and stop at a time of day: clocks that count from a start differ between machines."""
        advance = None if deadline_s is None else (lambda _: native.time() < deadline_s)
        return campaign.run_chunk(first, count, advance=advance)


def run_in_executor(plan: Plan, first: int, count: int, deadline_s: float | None) -> Chunk:
    """A chunk in a campaign of its own: what an executor is given to do."""
    with plan.open() as campaign:
        return plan.run(campaign, first, count, deadline_s)


class Pool(Protocol):
    """Who runs chunks."""

    capacity: int

    def start(self) -> None:
        """Be ready."""

    def submit(self, first: int, count: int, deadline_s: float | None) -> None:
        """Have a chunk run."""

    def collect(self, timeout_s: float) -> list[Chunk]:
        """What has come back, after waiting so long for it."""

    def close(self) -> None:
        """Whatever still runs is not needed."""


class ExecutorPool:
    """Chunks as calls of an executor.

    Args:
        executor: it.
        plan: the campaign.
        capacity: how many calls are under way at a time.
    """

    def __init__(self, executor: Executor, plan: Plan, capacity: int) -> None:
        self.capacity = capacity
        self._executor = executor
        self._plan = plan
        self._calls: dict[Future[Chunk], tuple[int, int]] = {}

    def start(self) -> None:
        """The executor has been started by whoever gave it to us."""

    def submit(self, first: int, count: int, deadline_s: float | None) -> None:
        """Have a chunk run."""
        self._calls[self._executor.submit(run_in_executor, self._plan, first, count, deadline_s)] = first, count

    def collect(self, timeout_s: float) -> list[Chunk]:
        """What has come back; a call that failed is a chunk that was not run."""
        done = wait(self._calls, timeout_s, FIRST_COMPLETED).done
        return [self._result(call, *self._calls.pop(call)) for call in done]

    def _result(self, call: Future[Chunk], first: int, count: int) -> Chunk:
        error = call.exception()
        if error is None:
            return call.result()
        if isinstance(error, (pickle.PicklingError, AttributeError, TypeError)):
            raise NotParallel(_cannot_travel(self._plan.test, error)) from error
        what = f"the executor failed at schedules {first} to {first + count - 1}: {type(error).__name__}: {error}"
        return Chunk(first, count, cut_off=what)

    def close(self) -> None:
        """Cancel what has not begun, and forget the rest; the executor is somebody else's."""
        for call in self._calls:
            call.cancel()
        wait([call for call in self._calls if not call.cancelled()])


def run_chunks(plan: Plan, settings: Settings, meter: Meter) -> Generator[Chunk]:
    """Run all schedules of a campaign elsewhere; its chunks in order, as far as they count.

    Args:
        plan: what a worker needs of the campaign.
        settings: of the campaign.
        meter: watches its time budget.

    Raises:
        NotParallel: neither the test nor the policy allows it.
    """
    policy = make_policy(settings.policy)
    if policy.systematic:
        raise NotParallel(
            f"policy {policy.name!r} searches: each schedule follows from the one before, so that schedules cannot be "
            "shared out by their numbers. Use jobs=1 and no executor, or a policy that samples, such as 'pos'"
        )
    pool = _pool(plan, settings.jobs, settings.executor)
    try:
        pool.start()
        yield from _in_order(pool, settings.count, meter, settings.stop_on_failure)
    finally:
        pool.close()


def _pool(plan: Plan, jobs: int, executor: Executor | None) -> Pool:
    if executor is None:
        return ProcessPool(plan, jobs, fork=_may_fork(plan))
    _check_travels(plan)
    if jobs == 1:
        jobs = 2 * (getattr(executor, "_max_workers", None) or os.cpu_count() or 1)
    return ExecutorPool(executor, plan, jobs)


def _may_fork(plan: Plan) -> bool:
    """Whether workers are forked. A fork copies one thread, and whatever locks the others hold.

    Threads that run no Python, such as faulthandler's, do not count: they hold no lock that a worker will want.
    """
    if len(sys._current_frames()) == 1:
        return True
    _check_travels(plan, "this process has other threads, so that its workers cannot be forked. ")
    return False


def _check_travels(plan: Plan, why: str = "") -> None:
    try:
        pickle.dumps(plan)
    except Exception as error:
        raise NotParallel(why + _cannot_travel(plan.test, error)) from error


def _cannot_travel(test: object, error: BaseException) -> str:
    return (
        f"{getattr(test, '__qualname__', test)!s} cannot be sent to another process ({type(error).__name__}: {error}). "
        "A test that is to be is a function at the top of a module that can be imported there; so are a policy's class "
        "and whatever else the test refers to"
    )


def _in_order(pool: Pool, schedules: int, meter: Meter, stop_on_failure: bool) -> Generator[Chunk]:
    """Hand out chunks, take them in, and pass them on by number."""
    left_s = meter.left_s()
    deadline_s = None if left_s is None else native.time() + left_s
    finished: dict[int, Chunk] = {}
    next_first = running = run = following = 0
    while next_first < schedules or running:
        while next_first < schedules and running < pool.capacity:
            size = _size(schedules - next_first, run / meter.elapsed_s() / pool.capacity, pool.capacity)
            pool.submit(next_first, size, deadline_s)
            next_first += size
            running += 1
        for chunk in pool.collect(_POLL_S):
            running -= 1
            run += chunk.schedules
            finished[chunk.first] = chunk
            if chunk.exhausted or chunk.cut_off or chunk.needs_threads or (chunk.failing and stop_on_failure):
                schedules = next_first  # numbers only grow: nothing that has not begun can come before this one
        meter.advance(run)
        while following in finished:
            chunk = finished.pop(following)
            following += chunk.count
            yield chunk


def _size(left: int, rate: float, capacity: int) -> int:
    """How many schedules to hand out at once: enough to be busy for a while, but leave some for everybody.

    Args:
        left: schedules that nobody has yet.
        rate: schedules a second of one place in the pool.
        capacity: how many places there are.
    """
    worth_it = int(rate * _BUSY_S)
    share = left // (2 * capacity)
    return min(max(min(worth_it, share) // CHUNK, 1) * CHUNK, left)
