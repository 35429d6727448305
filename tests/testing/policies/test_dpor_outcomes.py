"""Random programs of ordinary threads: partial order reduction finds each way to end that a full search finds."""

from __future__ import annotations

import os
import queue
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.testing import Outcome, Shared, explore

if TYPE_CHECKING:
    from lkl_green.testing.run import Verdict

_PROGRAMS = int(os.environ.get("LKL_GREEN_EXAMPLES", "60"))

# Programs with more schedules are left out.
_MOST = 2000

_KINDS = (
    *("read", "write", "add", "lock", "lock", "try", "timed", "locked", "semaphore", "try_semaphore", "set", "wait"),
    *("is_set", "put", "get", "size", "wait_for_notify", "notify", "sleep"),
)


def operations(chance: random.Random, most: int, held: frozenset[int] = frozenset()) -> list[Any]:
    """What one thread does."""
    found: list[Any] = []
    for _ in range(chance.randint(1, most)):
        kind, at = chance.choice(_KINDS), chance.randrange(2)
        if kind not in ("lock", "try", "timed"):
            found.append((kind, at, chance.randrange(1, 3)))
        elif at not in held:
            found.append((kind, at, operations(chance, max(1, most - 1), held | {at})))
    return found


class Program:
    """Two or three threads, the same in each run, which note what they see."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        count, most = chance.choice(((2, 2), (2, 2), (2, 3), (3, 1)))
        self.threads = [operations(chance, most) for _ in range(count)]
        self.endings: set[object] = set()

    def run(self) -> None:
        self.cells = [Shared(0, "x"), Shared(0, "y")]
        self.locks: list[Any] = [threading.Lock(), threading.RLock()]
        self.semaphore, self.event, self.condition = threading.Semaphore(1), threading.Event(), threading.Condition()
        self.queue: queue.Queue[int] = queue.Queue(1)
        self.notified = False
        seen: list[list[object]] = [[] for _ in self.threads]
        threads = [
            threading.Thread(target=self.body, args=(operations, seen[number]))
            for number, operations in enumerate(self.threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.endings.add((tuple(map(tuple, seen)), tuple(cell.peek() for cell in self.cells)))

    def body(self, operations: list[Any], seen: list[object]) -> None:
        for kind, at, more in operations:
            seen.append(getattr(self, f"do_{kind}")(at, more, seen))

    def do_read(self, at: int, _more: int, _seen: list[object]) -> object:
        return self.cells[at].value

    def do_write(self, at: int, more: int, _seen: list[object]) -> None:
        self.cells[at].value = more

    def do_add(self, at: int, more: int, _seen: list[object]) -> object:
        return self.cells[at].fetch_add(more)

    def do_lock(self, at: int, more: list[Any], seen: list[object]) -> None:
        with self.locks[at]:
            self.body(more, seen)

    def do_try(self, at: int, more: list[Any], seen: list[object]) -> object:
        return self.if_taken(self.locks[at].acquire(blocking=False), at, more, seen)

    def do_timed(self, at: int, more: list[Any], seen: list[object]) -> object:
        return self.if_taken(self.locks[at].acquire(timeout=1), at, more, seen)

    def if_taken(self, taken: bool, at: int, more: list[Any], seen: list[object]) -> bool:
        if taken:
            self.body(more, seen)
            self.locks[at].release()
        return taken

    def do_locked(self, _at: int, _more: int, _seen: list[object]) -> object:
        return self.locks[0].locked()

    def do_semaphore(self, at: int, _more: int, _seen: list[object]) -> object:
        with self.semaphore:
            return self.cells[at].value

    def do_try_semaphore(self, _at: int, _more: int, _seen: list[object]) -> object:
        taken = self.semaphore.acquire(blocking=False)
        if taken:
            self.semaphore.release()
        return taken

    def do_set(self, _at: int, _more: int, _seen: list[object]) -> None:
        self.event.set()

    def do_wait(self, _at: int, _more: int, _seen: list[object]) -> object:
        return self.event.wait(2)

    def do_is_set(self, _at: int, _more: int, _seen: list[object]) -> object:
        return self.event.is_set()

    def do_put(self, _at: int, more: int, _seen: list[object]) -> object:
        try:
            return self.queue.put(more, timeout=3)
        except queue.Full:
            return "full"

    def do_get(self, _at: int, _more: int, _seen: list[object]) -> object:
        try:
            return self.queue.get(timeout=3)
        except queue.Empty:
            return "empty"

    def do_size(self, _at: int, _more: int, _seen: list[object]) -> object:
        return self.queue.qsize()

    def do_wait_for_notify(self, _at: int, _more: int, _seen: list[object]) -> object:
        with self.condition:
            return self.notified or self.condition.wait(4)

    def do_notify(self, _at: int, _more: int, _seen: list[object]) -> None:
        with self.condition:
            self.notified = True
            self.condition.notify()

    def do_sleep(self, _at: int, more: int, _seen: list[object]) -> None:
        time.sleep(more)


def explored(program: Program, policy: str) -> tuple[set[object], set[Verdict]] | None:
    """The ways in which a program ends, and the verdicts; None if there are too many schedules."""
    program.endings.clear()
    report = explore(
        program.run, policy=policy, schedules=_MOST, threads=True, points="sync", verify=False, lockdep=False,
        races="off", stop_on_failure=False,
    )  # fmt: skip
    if report.schedules == _MOST:
        return None
    assert report.outcome in (Outcome.EXHAUSTED, Outcome.FAILED), report.text()
    return set(program.endings), {failure.verdict for failure in report.failures}


@pytest.mark.once
@pytest.mark.parametrize("part", range(4))
def test_all_ways_to_end_are_found(part: int) -> None:
    compared = 0
    for seed in range(part, _PROGRAMS, 4):
        program = Program(seed)
        every = explored(program, "dfs")
        if every is not None:
            assert explored(program, "dpor") == every, f"seed {seed}: {program.threads}"
            compared += 1
    assert compared > _PROGRAMS // 12
