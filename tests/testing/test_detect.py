"""What detectors say of a run: who waits for whom, what was missed, what spins, what was taken in which order."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from lkl_green.errors import Escape
from lkl_green.kernel.printk import Printk
from lkl_green.linux import (
    Completion,
    Mutex,
    Semaphore,
    SpinLock,
    WaitQueueHead,
    cond_resched,
    kthread_run,
)
from lkl_green.testing import Outcome, Shared, Verdict, explore, spawn


def run_all(*functions):
    for thread in [spawn(function) for function in functions]:
        thread.join()


def take(lock):
    (lock.lock if isinstance(lock, Mutex) else lock.acquire)()


def failure_of(test, **options):
    report = explore(test, schedules=2000, **options)
    assert report.failure is not None, report.text()
    return report.failure


# -- deadlock


def mutexes():
    return Mutex(name="a"), Mutex(name="b")


def locks():
    return threading.Lock(), threading.Lock()


@pytest.mark.parametrize(
    ("make", "threads", "names"), [(mutexes, False, ("Mutex a", "Mutex b")), (locks, True, ("Lock#1", "Lock#2"))]
)
def test_a_deadlock_names_the_cycle_and_where_each_lock_was_taken(make, threads, names):
    def test():
        a, b = make()

        def forwards():
            with a, b:  # forwards wants b
                pass

        def backwards():
            with b, a:  # backwards wants a
                pass

        run_all(forwards, backwards)

    failure = failure_of(test, threads=threads)
    assert failure.verdict is Verdict.DEADLOCK
    lines = failure.detail.splitlines()
    assert lines[0] in (
        "a cycle of 2: forwards -> backwards -> forwards, each waits for the next",
        "a cycle of 2: backwards -> forwards -> backwards, each waits for the next",
    )
    for waits, holds in (("forwards", "backwards"), ("backwards", "forwards")):
        (line,) = [line for line in lines if line.startswith(f"{waits} waits for ")]
        assert any(f"waits for {name}, which {holds} holds since test_detect.py:" in line for name in names)
        assert f"in test_a_deadlock_names_the_cycle_and_where_each_lock_was_taken.<locals>.test.<locals>.{waits}: " in (
            failure.detail
        )
    assert any(line.startswith("main waits for the end of ") for line in lines)
    assert "lkl_green" not in failure.detail, "frames of this package help nobody"


def test_a_lock_whose_holder_has_ended_is_told():
    def test():
        lock = Mutex(name="lock")
        spawn(take, lock, name="taker").join()
        lock.lock()

    failure = failure_of(test)
    assert failure.verdict is Verdict.DEADLOCK
    assert "main waits for Mutex lock, which taker holds since" in failure.detail
    assert "taker holds" in failure.detail
    assert "and has ended" in failure.detail


def test_waiting_for_what_nobody_holds_is_no_cycle():
    def test():
        Semaphore(0, name="empty").down()

    failure = failure_of(test)
    assert failure.detail.startswith("main waits for Semaphore empty\n")


def test_tasks_that_are_left_are_named():
    def test():
        never = Completion(name="never")
        spawn(never.wait_for_completion, name="waiter")

    failure = failure_of(test)
    assert failure.verdict is Verdict.LEAKED
    assert failure.detail.startswith("waiter waits for Completion never")


# -- lost wake-ups


def test_a_sleeper_whose_condition_is_true_missed_its_wake_up():
    def test():
        queue = WaitQueueHead(name="queue")
        ready = Shared(False, "ready")

        def is_ready():
            return ready.peek()

        def announce():
            queue.wake_up()  # too early
            ready.value = True

        run_all(lambda: queue.wait_event(is_ready), announce)

    failure = failure_of(test)
    assert failure.verdict is Verdict.DEADLOCK
    assert "lost wake-up? <lambda> sleeps in wait_event(), and its condition (test_detect.py:" in failure.detail
    assert "is true now: who made it true did not wake WaitQueueHead queue afterwards" in failure.detail


def test_a_condition_that_is_false_is_no_lost_wake_up():
    def test():
        WaitQueueHead(name="queue").wait_event(lambda: False)

    assert "lost wake-up" not in failure_of(test).detail


def test_a_condition_that_cannot_be_asked_gives_no_hint():
    def test():
        asked = []

        def condition():
            asked.append(1)
            if len(asked) > 2:
                raise RuntimeError("not now")

        WaitQueueHead(name="queue").wait_event(condition)

    assert "lost wake-up" not in failure_of(test).detail


def test_a_notification_before_the_wait_is_told():
    def test():
        condition = threading.Condition()

        def wait():
            with condition:
                condition.wait()

        def notify():
            with condition:
                condition.notify()

        run_all(wait, notify)

    failure = failure_of(test, threads=True)
    assert failure.verdict is Verdict.DEADLOCK
    assert "lost wake-up? notify did notify on Condition#1 at test_detect.py:" in failure.detail
    assert "before wait began to wait for it" in failure.detail


# -- livelock


def test_who_spins_on_what_is_told():
    def test():
        ready = Shared(False, "ready")

        def wait():
            while not ready.value:
                cond_resched()

        run_all(wait, wait)

    failure = failure_of(test, max_steps=1000)
    assert failure.verdict is Verdict.LIVELOCK
    assert "the schedule did not end within 1000 steps" in failure.detail
    assert "steps nothing was changed; they were:" in failure.detail
    assert "times wait: read ready at test_detect.py:" in failure.detail
    assert "every task that could go on had its turn" in failure.detail


def test_an_unfair_schedule_is_told_from_a_livelock():
    def test():
        ready = Shared(False, "ready")

        def wait():
            while not ready.value:
                pass

        def announce():
            ready.value = True

        run_all(wait, announce)

    failure = failure_of(test, policy="fifo", max_steps=1000)
    assert failure.verdict is Verdict.LIVELOCK
    assert "announce could have gone on and never did: this schedule is unfair" in failure.detail


def test_a_long_schedule_that_changes_things_is_no_spinning():
    def test():
        counter = Shared(0, "counter")
        while True:
            counter.value += 1

    failure = failure_of(test, max_steps=1000)
    assert "steps, in which things were changed:" in failure.detail
    assert "times main: write counter" in failure.detail


# -- lock order


def in_turn(*functions):
    """Threads that never run at the same time, so that what they do wrong is never met."""
    for function in functions:
        spawn(function).join()


def test_contradicting_lock_orders_are_warned_of_without_a_deadlock():
    def test():
        a, b = mutexes()

        def forwards():
            with a, b:
                pass

        def backwards():
            with b, a:
                pass

        in_turn(forwards, backwards)

    report = explore(test, schedules=10)
    assert report.passed
    (warning,) = report.warnings
    assert warning.startswith("lock order inversion of a, b: forwards takes a at test_detect.py:")
    assert "then b at test_detect.py:" in warning
    assert "; backwards takes b at test_detect.py:" in warning
    assert "warning: lock order inversion" in report.text()
    assert explore(test, schedules=10, lockdep=False).warnings == []


def test_a_circle_of_three_locks_is_found():
    def test():
        a, b, c = (Mutex(name=name) for name in "abc")

        def taking(first, then):
            def take():
                with first, then:
                    pass

            return take

        in_turn(taking(a, b), taking(b, c), taking(c, a))

    (warning,) = explore(test, schedules=1).warnings
    assert warning.startswith("lock order inversion of a, b, c: ")


def test_locks_of_threading_have_an_order_too_and_spin_locks_need_none():
    def spin():
        a, b = SpinLock(name="a"), SpinLock(name="b")
        in_turn(lambda: both(a, b), lambda: both(b, a))

    def thread():
        a, b = threading.Lock(), threading.RLock()
        in_turn(lambda: both(a, b), lambda: both(b, b), lambda: both(b, a))  # an RLock may be taken twice

    def both(first, then):
        with first, then:
            pass

    assert explore(spin, schedules=1).warnings == []
    assert len(explore(thread, schedules=1, threads=True).warnings) == 1


def orders_of(case):
    a, b, gate = (Mutex(name=name) for name in ("a", "b", "gate"))

    def take(*held):
        for lock in held:
            lock.lock()
        for lock in reversed(held):
            lock.unlock()

    def try_second():
        with b:
            assert a.trylock()
            a.unlock()

    if case == "guarded by a third":
        in_turn(lambda: take(gate, a, b), lambda: take(gate, b, a))
    elif case == "by one task":
        spawn(lambda: (take(a, b), take(b, a))).join()
    elif case == "the same way":
        in_turn(lambda: take(a, b), lambda: take(a, b))
    elif case == "released before":
        in_turn(lambda: take(a, b), lambda: (take(b), take(a)))
    elif case == "tried":
        in_turn(lambda: take(a, b), try_second)


@pytest.mark.parametrize("case", ["guarded by a third", "by one task", "the same way", "released before", "tried"])
def test_an_order_that_cannot_deadlock_is_not_warned_of(case):
    report = explore(lambda: orders_of(case), schedules=1)
    assert report.passed
    assert report.warnings == []


def test_a_function_may_have_the_name_of_the_one_in_which_tasks_begin():
    """Where a task's own stack ends is known by the code of `ret_from_fork()`, and not by its name."""

    def test():
        def ret_from_fork(first, second):
            with first, second:
                pass

        a, b = Mutex(name="a"), Mutex(name="b")
        for thread in [spawn(ret_from_fork, a, b), spawn(ret_from_fork, b, a)]:
            thread.join()

    detail = failure_of(test).detail
    assert "which ret_from_fork holds since test_detect.py:" in detail
    assert ".ret_from_fork: with first, second:" in detail


# -- locks that are held at the end


def test_a_mutex_that_is_never_released_fails_the_schedule():
    def test():
        lock = Mutex(name="lock")
        spawn(take, lock, name="taker").join()

    failure = failure_of(test)
    assert failure.verdict is Verdict.HELD
    assert failure.detail.startswith("Mutex lock is held at the end: taker took it at test_detect.py:")


def test_a_mutex_left_locked_fails_the_schedule_however_the_log_words_it(monkeypatch):
    monkeypatch.setattr(Printk, "warn", lambda self, text: None)
    assert failure_of(lambda: spawn(take, Mutex(), name="taker").join()).verdict is Verdict.HELD


def test_a_lock_of_threading_that_is_never_released_is_a_warning():
    def test():
        lock = threading.Lock()
        spawn(take, lock, name="taker").join()

    report = explore(test, schedules=1, threads=True)
    assert report.passed
    assert report.warnings[0].startswith("Lock#1 is held at the end: taker took it at test_detect.py:")


# -- what ends a schedule from outside


def wait_for_a_socket():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)


def wait_and_wrap():
    try:
        wait_for_a_socket()
    except Escape as error:
        raise ValueError("the server does not answer") from error


def wait_and_swallow():
    with suppress(Exception):
        wait_for_a_socket()


@pytest.mark.parametrize("body", [wait_for_a_socket, wait_and_wrap, wait_and_swallow])
@pytest.mark.parametrize("where", ["in the test", "in a thread"])
def test_waiting_for_the_outside_world_is_an_escape(body, where):
    def test():
        if where == "in the test":
            body()
        else:
            spawn(body).join()

    failure = failure_of(test, threads=True)
    assert failure.verdict is Verdict.ESCAPED
    assert "recv()" in failure.traceback


def test_a_task_that_never_comes_to_a_scheduling_point_is_ended_and_its_line_named():
    def test():
        def spin():
            while True:
                pass

        spawn(spin).join()

    failure = failure_of(test, watchdog_s=0.1)
    assert failure.verdict is Verdict.HUNG
    assert "spin-" in failure.headline()
    assert "test_detect.py:" in failure.error


def test_the_watchdog_lets_a_campaign_of_short_schedules_be():
    def test():
        spawn(lambda: None).join()

    assert explore(test, schedules=3000, watchdog_s=0.02).passed


# -- nondeterminism


def test_the_first_step_that_differs_is_named():
    runs = []

    def test():
        runs.append(1)
        x, y = Shared(0, "x"), Shared(0, "y")
        x.value = 1
        (x if len(runs) % 2 else y).value = 2
        assert len(runs) != 3

    failure = failure_of(test)
    assert failure.verdict is Verdict.NONDETERMINISTIC
    assert "the same schedule ended once with 'failed AssertionError" in failure.detail
    assert "the runs part at step 3: once main: write " in failure.detail
    assert "and again main: write " in failure.detail


def test_a_value_that_differs_between_steps_is_told():
    runs = []

    def test():
        runs.append(1)
        Shared(0, "x").value = 1
        assert len(runs) != 5

    failure = failure_of(test)
    assert failure.verdict is Verdict.NONDETERMINISTIC
    assert "no step differs" in failure.detail


def test_a_run_that_ends_early_is_told():
    runs = []

    def test():
        runs.append(1)
        x = Shared(0, "x")
        for _ in range(1 + len(runs) % 2):
            x.value = 1
        assert len(runs) != 3

    failure = failure_of(test)
    assert failure.verdict is Verdict.NONDETERMINISTIC
    assert "one run ends after 2 steps, the other goes on with main: write x at" in failure.detail


def test_kthreads_are_told_by_their_names():
    def test():
        queue = WaitQueueHead(name="queue")
        kthread_run(lambda: queue.wait_event(lambda: False), name="sleeper/7")

    report = explore(test, schedules=1)
    assert report.outcome is Outcome.FAILED
    assert report.failure is not None
    assert "sleeper/7 waits for WaitQueueHead queue" in report.failure.detail
