"""Policies and detectors take what a kind of operation means from the kernel's table, and so they agree."""

from __future__ import annotations

import ast
import threading
from pathlib import Path

import pytest
from recorded import renamed

from lkl_green.kernel.points import POINTS
from lkl_green.linux import Mutex, Semaphore, SpinLock, cond_resched, current_kernel
from lkl_green.testing import Schedule, Shared, Verdict, explore, replay, spawn
from lkl_green.testing.actor import Actor
from lkl_green.testing.policies import Reversal
from lkl_green.testing.policies.races import Execution
from lkl_green.testing.settings import ScheduleSettings
from lkl_green.testing.testbed import Testbed

TESTING = Path(__file__).parents[2] / "lkl_green" / "testing"
RECORDED = Path(__file__).parent / "schedules" / "renamed.json"
CONSUMERS = [
    "actor.py",
    "controller.py",
    "recording.py",
    "detect/lockorder.py",
    "detect/lostwakeup.py",
    "detect/spinning.py",
    "policies/profile.py",
    "policies/races.py",
    "policies/replay.py",
    "shrink/measured.py",
]


def literals(tree: ast.AST) -> set[str]:
    """The strings in collections and comparisons."""
    found = set()
    for node in ast.walk(tree):
        parts = []
        if isinstance(node, ast.Set | ast.Tuple | ast.List):
            parts = node.elts
        elif isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        found |= {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    return found


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_consumer_reads_the_table(name):
    tree = ast.parse((TESTING / name).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "lkl_green.kernel.points" in modules


def test_no_policy_or_detector_has_a_list_of_its_own():
    files = [
        *TESTING.glob("*.py"),
        *(path for part in ("policies", "detect", "shrink") for path in TESTING.glob(f"{part}/*.py")),
    ]
    assert len(files) > 50
    own = {
        str(path.relative_to(TESTING)): literals(ast.parse(path.read_text(encoding="utf-8"))) & set(POINTS)
        for path in files
    }
    assert {name: kinds for name, kinds in own.items() if kinds} == {}


# -- which operations commute


def pending(kind, obj):
    actor = Actor("task", None)
    actor.kind, actor.obj = kind, obj
    return actor


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        ("read", "read", False),
        ("read", "write", True),
        ("read", "unlock", True),
        ("trylock", "trylock", True),
        ("wait", "wait", True),  # Condition.notify(1) wakes the first
        ("wait_for_completion", "wait_for_completion", True),  # and so does complete()
        ("wait_event", "wait_event", False),
        ("wait_event", "wake_up", True),
        ("flush_work", "flush_work", False),
        ("flush_work", "queue_work", True),
        ("join", "join", False),
        ("start", "read", True),  # is_alive()
    ],
)
def test_operations_conflict_unless_both_commute(one, other, conflict):
    obj = object()
    assert pending(one, obj).conflicts(pending(other, obj)) is conflict
    assert pending(other, obj).conflicts(pending(one, obj)) is conflict
    assert not pending(one, obj).conflicts(pending(other, object()))


# -- which operations are under a common lock


def races_of(test, **options):
    policy = Reversal()
    turned = set()
    with Testbed(ScheduleSettings(**options)) as testbed:
        for number in range(2):
            policy.begin(0, number)
            testbed.run(test, policy)
            turned |= {race.turned() for race in policy._execution.races()}
    return {race.pending.obj for race in turned}


def twice(increment):
    for task in [spawn(increment), spawn(increment)]:
        task.join()


def test_what_a_lock_excludes_that_was_tried_and_was_free_is_no_race():
    def test():
        lock, x = Mutex(name="lock"), Shared(0, "x")

        def increment():
            if lock.trylock():
                x.value += 1
                lock.unlock()

        twice(increment)

    assert races_of(test) == {"lock"}


def test_a_lock_that_was_tried_and_was_taken_excludes_nothing():
    def test():
        lock, x = Mutex(name="lock"), Shared(0, "x")

        def increment():
            lock.trylock()
            x.value += 1

        with lock:
            twice(increment)

    assert "x" in races_of(test)


def test_a_semaphore_lets_several_in_so_that_they_race():
    def test():
        room, x = Semaphore(2, name="room"), Shared(0, "x")

        def increment():
            with room:
                x.value += 1

        twice(increment)

    assert "x" in races_of(test)


def test_a_spin_lock_excludes_nothing_after_its_section():
    def test():
        lock, x = SpinLock(name="lock"), Shared(0, "x")

        def increment():
            with lock:
                pass
            x.value += 1

        twice(increment)

    assert "x" in races_of(test)


def test_the_start_of_a_thread_is_an_operation_and_the_first_run_of_a_task_is_not():
    """What came before a task announced its operation did not come while that was pending."""

    def passings(*operations):
        execution = Execution()
        actors = {name: Actor(name, None) for name in "ab"}
        for name, kind, obj in operations:
            actors[name].kind, actors[name].obj = kind, obj
            execution.add(actors[name], -1, ())
        return list(execution.passings())

    assert passings(("b", "write", "x"), ("a", "start", None), ("a", "read", "x"))
    assert not passings(("b", "write", "x"), ("a", "start", "thread"), ("a", "read", "x"))


# -- what looks at a lock


def test_two_looks_at_a_mutex_may_differ():
    def test():
        mutex = Mutex(name="mutex")

        def take():
            with mutex:
                pass

        taker = spawn(take)
        assert mutex.is_locked() == mutex.is_locked()
        taker.join()

    assert explore(test, policy="dfs", schedules=1000).failure is not None


def test_two_looks_at_a_recursive_lock_may_differ():
    def test():
        lock = threading.RLock()

        def take():
            with lock:
                pass

        taker = threading.Thread(target=take)
        taker.start()
        assert lock.locked() == lock.locked()
        taker.join()

    assert explore(test, policy="dfs", schedules=1000, threads=True).failure is not None


def test_trying_a_semaphore_for_ever_changes_nothing():
    def test():
        semaphore = Semaphore(0, name="never")
        while not semaphore.down_trylock():
            cond_resched()

    report = explore(test, schedules=5, max_steps=2000)
    assert report.failure is not None
    assert report.failure.verdict is Verdict.LIVELOCK
    assert "nothing was changed; they were:" in report.failure.detail
    assert "main: down_trylock never" in report.failure.detail


# -- kinds in files


def test_a_schedule_with_the_old_names_of_kinds_replays():
    schedule = Schedule.load(RECORDED)
    old = {decision.op for decision in schedule.decisions}
    assert old >= {"lock", "unlock", "trylock", "wait", "down", "spin_lock"}
    failure = replay(renamed, schedule)
    assert failure is not None
    assert failure.verdict.value == schedule.verdict
    now = failure.schedule.decisions
    assert [(decision.actor[:15], decision.obj) for decision in now] == [
        (was.actor, was.obj) for was in schedule.decisions
    ]
    assert {decision.op for decision in now} >= {"down", "up", "down_trylock", "wait_event", "spin_trylock"}


def test_another_kind_that_is_no_old_name_does_not_fit():
    schedule = Schedule.load(RECORDED)
    place = next(number for number, decision in enumerate(schedule.decisions) if decision.op == "wait")
    schedule.decisions[place] = schedule.decisions[place]._replace(op="join")
    failure = replay(renamed, schedule)
    assert failure is not None
    assert failure.verdict is Verdict.MISMATCH
    assert "wait_event" in failure.detail


def test_a_kind_that_does_not_exist_fails_the_test_that_announces_it():
    def test():
        current_kernel().sched.listener("lokc", object())

    report = explore(test, schedules=1)
    assert report.failure is not None
    assert "'lokc' was announced" in report.failure.error
