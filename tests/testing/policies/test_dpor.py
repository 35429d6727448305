"""Partial order reduction: one execution for each Mazurkiewicz trace, no more and no less."""

from __future__ import annotations

import asyncio
import os
import queue
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.dpor.programs import Row, rows
from lkl_green.linux import Mutex, SpinLock
from lkl_green.testing import Outcome, Shared, explore, replay, spawn
from lkl_green.testing import random as schedule_random
from lkl_green.testing.policies import DFS, DPOR
from lkl_green.testing.run import Verdict
from lkl_green.testing.settings import ScheduleSettings
from lkl_green.testing.testbed import Testbed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lkl_green.testing.actor import Actor
    from lkl_green.testing.policies.base import Policy
    from lkl_green.testing.report import Report

_PROGRAMS = int(os.environ.get("LKL_GREEN_EXAMPLES", "2000"))

# Programs with more schedules are left out.
_MOST_SCHEDULES = 200

# Larger programs are for `make soak`.
_MOST_TRACES = int(os.environ.get("LKL_GREEN_TRACES", "400"))


def search(test: Callable[[], object], **options: Any) -> Report:
    """Explore all of it, whatever fails."""
    quick = {"verify": False, "lockdep": False, "races": "off", "stop_on_failure": False}
    return explore(test, **({"policy": "dpor", "schedules": 1_000_000} | quick | options))  # type: ignore[arg-type]


# -- known counts


@pytest.mark.once
@pytest.mark.parametrize("row", [row for row in rows() if row.count <= _MOST_TRACES], ids=str)
def test_the_number_of_traces_is_exact(row: Row) -> None:
    report = search(row.program)
    assert report.schedules == row.count
    assert len(report.failures) == row.deadlocks
    assert all(failure.verdict is Verdict.DEADLOCK for failure in report.failures)
    assert report.outcome is (Outcome.FAILED if row.deadlocks else Outcome.EXHAUSTED)


# -- random programs, against a search of all schedules


class RandomProgram:
    """Threads of operations on two cells and two locks, the same in each run."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        count, most = chance.choice(((2, 3), (2, 3), (2, 4), (3, 2), (3, 3), (4, 1)))
        self.threads = [_operations(chance, most) for _ in range(count)]
        self.forms: list[object] = []
        self._log: list[tuple[int, str, str]] = []

    def __call__(self) -> None:
        self._log = []
        cells = [Shared(0, "x"), Shared(0, "y")]
        locks = [Mutex(name="a"), Mutex(name="b")]
        threads = [
            spawn(self._run, number, operations, cells, locks, name="t")
            for number, operations in enumerate(self.threads)
        ]
        for thread in threads:
            thread.join()

    def _run(self, me: int, operations: list[Any], cells: list[Shared[int]], locks: list[Mutex]) -> None:
        note = self._log.append
        for kind, at, *more in operations:
            if kind == "lock":
                with locks[at]:
                    note((me, "write", f"lock{at}"))
                    self._run(me, more[0], cells, locks)
            elif kind == "if":
                seen = cells[at].value
                note((me, "read", f"cell{at}"))
                if seen == more[0]:
                    self._run(me, more[1], cells, locks)
            elif kind == "read":
                _ = cells[at].value
                note((me, "read", f"cell{at}"))
            elif kind == "write":
                cells[at].value = more[0]
                note((me, "write", f"cell{at}"))
            elif kind == "add":
                cells[at].fetch_add(1)
                note((me, "write", f"cell{at}"))
            else:
                done = cells[at].compare_exchange(more[0], more[1])
                note((me, "write" if done else "read", f"cell{at}"))

    def form(self) -> object:
        """What all schedules of one trace have in common: the writes of each object, and who read between them."""
        counts: dict[int, int] = {}
        objects: dict[str, list[Any]] = {}
        for me, kind, obj in self._log:
            counts[me] = event = counts.get(me, 0) + 1
            history = objects.setdefault(obj, [None, set()])
            if kind == "read":
                history[-1].add((me, event))
            else:
                history += [(me, event), set()]
        return frozenset(
            (obj, tuple(frozenset(each) if isinstance(each, set) else each for each in history))
            for obj, history in objects.items()
        )


def _operations(chance: random.Random, most: int, held: frozenset[int] = frozenset()) -> list[Any]:
    found: list[Any] = []
    for _ in range(chance.randint(1, most)):
        at = chance.randrange(2)
        kind = chance.choice(["read", "write", "write", "add", "cas", "if", "lock", "lock"])
        if kind == "lock" and at not in held:
            inner = _operations(chance, max(most - 1, 1), held | {at})
            if not held and chance.random() < 0.5:
                inner.append(("lock", 1 - at, _operations(chance, 1, frozenset((0, 1)))))
            found.append((kind, at, inner))
        elif kind == "if" and most > 1:
            found.append((kind, at, chance.randrange(2), _operations(chance, most - 1, held)))
        elif kind not in ("lock", "if"):
            found.append((kind, at, chance.randrange(2), chance.randrange(1, 3)))
    return found


class EveryOrder(DFS):
    """Every order of the operations on cells and locks; for what is none, the order makes no difference."""

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        for index, actor in enumerate(enabled):
            if actor.kind in ("start", "resume", "join", "unlock"):
                return index
        return super().pick(enabled, running)


def forms(program: RandomProgram, policy: Policy, most: int, held_locks: str = "disable") -> list[object] | None:
    """The form of each execution that is counted; None if there are too many."""
    settings = ScheduleSettings(held_locks=held_locks, after_points=False)
    found: list[object] = []
    with Testbed(settings) as testbed:
        number = 0
        while policy.begin(0, number):
            run = testbed.run(program, policy)
            assert run.verdict in (Verdict.PASSED, Verdict.DEADLOCK), run.error
            number += 1
            if not run.redundant:
                found.append((run.verdict, program.form()))
            if len(found) > most:
                return None
    return found


@pytest.mark.once
@pytest.mark.parametrize("part", range(4))
def test_random_programs_have_the_traces_that_brute_force_finds(part: int) -> None:
    compared = deadlocks = 0
    for seed in range(part, _PROGRAMS, 4):
        program = RandomProgram(seed)
        every = forms(program, EveryOrder(), _MOST_SCHEDULES)
        if every is None:
            continue
        reduced = forms(program, DPOR(), _MOST_SCHEDULES)
        assert reduced is not None
        assert len(reduced) == len(set(reduced)), f"seed {seed}: a trace was run twice: {program.threads}"
        assert set(reduced) == set(every), f"seed {seed}: traces are missing: {program.threads}"
        compared += 1
        deadlocks += any(verdict is Verdict.DEADLOCK for verdict, _ in every)  # type: ignore[misc]
    assert compared > _PROGRAMS // 4 // 3
    assert deadlocks, "the programs of this test have deadlocks, too"


# -- ordinary threads


def run_threads(*functions: Callable[[], object]) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Counter:
    """Counts in an attribute of its own, which begins as its class's."""

    count = 0

    def add(self) -> None:
        self.count += 1


class Derived(Counter):
    """Its class attribute is set where another class's was read."""


def lock_sections(n: int, make: Callable[[], Any] = threading.Lock) -> None:
    lock, counter = make(), Counter()

    def add() -> None:
        with lock:
            counter.add()

    run_threads(*[add] * n)
    assert counter.count == n


def lost_update() -> None:
    counter = Counter()
    run_threads(counter.add, counter.add)


def looked_at_after_the_end() -> None:
    """To join a thread that has ended puts all that it did before what follows."""
    counter = Counter()
    run_threads(counter.add, counter.add)
    assert counter.count in (1, 2)


def lost_update_of_a_class() -> None:
    Derived.count = Counter.count  # as in each schedule
    del Derived.count

    def add() -> None:
        Derived.count += 1

    run_threads(add, add)
    del Derived.count


def lost_update_behind_a_list() -> None:
    counters = [Counter()]

    def add() -> None:
        counters[0].count += 1

    run_threads(add, add)


def item_and_whole() -> None:
    numbers = [0, 0]

    def set_first() -> None:
        numbers[0] = 1

    run_threads(set_first, lambda: numbers[1], lambda: sum(numbers))


def philosophers() -> None:
    forks = [threading.Lock() for _ in range(3)]

    def eat(me: int) -> None:
        with forks[me], forks[(me + 1) % 3]:
            pass

    run_threads(*[lambda me=me: eat(me) for me in range(3)])  # type: ignore[misc]


def queue_of_one() -> None:
    items: queue.Queue[int] = queue.Queue()
    run_threads(lambda: items.put(1), items.get)


def condition() -> None:
    ready, done = threading.Condition(), [False]

    def tell() -> None:
        with ready:
            done[0] = True
            ready.notify()

    def wait() -> None:
        with ready:
            while not done[0]:
                ready.wait()

    run_threads(tell, wait)


def event() -> None:
    set = threading.Event()
    run_threads(set.set, set.wait)


def held_while_asleep() -> None:
    lock = threading.Lock()

    def sleep() -> None:
        with lock:
            time.sleep(1)

    run_threads(sleep, sleep, sleep)


def held_lock_is_seen() -> None:
    lock = threading.Lock()

    def hold() -> None:
        with lock:
            pass

    def look() -> None:
        if lock.acquire(blocking=False):
            lock.release()

    run_threads(hold, look)


def sections_of_two() -> None:
    lock_sections(2)


def sections_of_four() -> None:
    lock_sections(4)


def sections_under_rlock() -> None:
    lock_sections(3, threading.RLock)


COUNTS = [
    (sections_of_two, 2),
    (sections_of_four, 24),
    (sections_under_rlock, 6),
    (lost_update, 4),
    (looked_at_after_the_end, 4),
    (lost_update_of_a_class, 4),
    (lost_update_behind_a_list, 4),
    (item_and_whole, 2),
    (philosophers, 7),
    (queue_of_one, 2),
    (condition, 2),
    (event, 2),
    (held_while_asleep, 6),
    (held_lock_is_seen, 3),
]


@pytest.mark.parametrize(("program", "count"), COUNTS)
def test_the_number_of_traces_of_ordinary_threads(program: Callable[[], object], count: int) -> None:
    report = search(program, threads=True)
    assert (report.schedules, len(report.failures)) == (count, program is philosophers)
    assert report.redundant == (program is held_lock_is_seen), "only where the search starts over"
    assert report.outcome in (Outcome.EXHAUSTED, Outcome.FAILED), report.text()


@pytest.mark.parametrize("policy", ["dfs", "dpor"])
def test_a_timeout_at_a_lock_is_found(policy: str) -> None:
    seen = set()

    def program() -> None:
        lock = threading.Lock()

        def hold() -> None:
            with lock:
                time.sleep(5)

        def take() -> None:
            took = lock.acquire(timeout=1)
            seen.add(took)
            if took:
                lock.release()

        run_threads(hold, take)

    assert search(program, threads=True, points="sync", policy=policy).passed
    assert seen == {False, True}


# -- sections without points


@pytest.mark.parametrize("locks", [1, 2], ids=["one lock", "two locks"])
def test_a_section_under_a_spin_lock_is_one_step_with_all_it_does(locks: int) -> None:
    seen = set()

    def program() -> None:
        spinlocks, x = [SpinLock() for _ in range(locks)], Shared(0, "x")

        def write(me: int) -> None:
            with spinlocks[me % locks]:
                x.value = 1
                x.value = me + 2

        for thread in [spawn(write, 0), spawn(write, 1)]:
            thread.join()
        seen.add(x.peek())

    report = search(program)
    assert (report.schedules, report.outcome) == (2, Outcome.EXHAUSTED)
    assert seen == {2, 3}


# -- the rule for held locks


def test_both_rules_for_held_locks_find_the_same() -> None:
    """Where arrivals count there are more schedules, and no other ways to end."""
    more = 0
    for seed in range(30):
        program = RandomProgram(seed)
        arriving = forms(program, EveryOrder(), 4 * _MOST_SCHEDULES, held_locks="arrive")
        disabled = forms(program, EveryOrder(), 4 * _MOST_SCHEDULES)
        if arriving is not None and disabled is not None:
            assert set(disabled) == set(arriving), program.threads
            more += len(arriving) > len(disabled)
    assert more > 2


def test_a_schedule_replays_under_the_rule_that_made_it() -> None:
    failure = explore(next(row.program for row in rows() if row.name == "deadlock01"), policy="dpor").failure
    assert failure is not None
    assert failure.schedule.options["held_locks"] == "disable"
    again = replay(next(row.program for row in rows() if row.name == "deadlock01"), failure.schedule)
    assert again is not None
    assert again.verdict is Verdict.DEADLOCK


# -- what it cannot answer for


def test_a_thread_that_is_asked_whether_it_is_alive() -> None:
    """Its end is no operation, so that not all orders of the question and the end can be tried."""

    def program() -> None:
        thread = threading.Thread(target=int)
        thread.start()
        thread.is_alive()
        thread.join()

    report = search(program, threads=True)
    assert report.outcome is Outcome.INCOMPLETE
    assert "asks whether a thread is alive" in report.reason


def test_a_limit_is_no_end_of_the_search() -> None:
    report = search(lost_update, threads=True, schedules=3)
    assert (report.schedules, report.outcome) == (3, Outcome.INCOMPLETE)
    assert report.reason == "the search has not come to its end"


def test_of_a_wide_range_not_all_is_tried() -> None:
    report = search(lambda: spawn(schedule_random.getrandbits, 10).join())
    assert report.outcome is Outcome.INCOMPLETE
    assert "of the 1024 values of a decision of kind 'random', 4 were tried" in report.reason


def test_draws_are_decisions_with_all_their_values() -> None:
    seen = set()

    def program() -> None:
        x = Shared(0, "x")

        def draw() -> None:
            x.value = 1 + schedule_random.getrandbits(1)

        def look() -> None:
            seen.add(x.value)

        for thread in [spawn(draw), spawn(look)]:
            thread.join()

    report = search(program)
    assert (report.schedules, report.outcome) == (4, Outcome.EXHAUSTED)
    assert seen == {0, 1, 2}


def test_tasks_of_an_event_loop_are_not_answered_for() -> None:
    async def main() -> None:
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))

    report = search(lambda: asyncio.run(main()), threads=True)
    assert report.outcome is Outcome.INCOMPLETE
    assert "the tasks of an event loop are not yet known to this search" in report.reason


@pytest.mark.parametrize(
    "option",
    [{"explore_time": True}, {"host_faults": True}, {"explore_cancel": True}, {"held_locks": "arrive"}],
    ids=str,
)
def test_settings_under_which_dependence_is_not_known_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"policy='dpor' needs {next(iter(option))}="):
        search(lost_update, **option)
