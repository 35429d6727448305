"""What a module under test makes when it is imported is, in each schedule, as the first one found it."""

from __future__ import annotations

import pytest

from lkl_green import lkl_start_kernel
from lkl_green.linux import (
    Completion,
    KFifo,
    Mutex,
    Semaphore,
    SpinLock,
    Timer,
    WaitQueueHead,
    Work,
    flush_work,
    msleep,
    schedule_work,
)
from lkl_green.testing import Outcome, Shared, Verdict, explore, replay, spawn
from lkl_green.testing.policies.fifo import FIFO
from lkl_green.testing.settings import ScheduleSettings
from lkl_green.testing.testbed import Testbed

MUTEX = Mutex(name="MUTEX")
OTHER = Mutex(name="OTHER")
SEMAPHORE = Semaphore(2, name="SEMAPHORE")
SPINLOCK = SpinLock(name="SPINLOCK")
DONE = Completion(name="DONE")
QUEUE = WaitQueueHead(name="QUEUE")
ELEMENTS: KFifo[int] = KFifo(2, name="ELEMENTS")
TIMER = Timer(lambda timer: DONE.complete(), name="TIMER")
WORK = Work(lambda work: DONE.complete(), name="WORK")


def waits_for_everything():
    """Leaves numbers, elements and a shut-down timer behind, and threads wait in most schedules."""
    total = Shared(0, "total")

    def worker(number):
        SEMAPHORE.down()
        with MUTEX:
            with SPINLOCK:
                total.value += number
            QUEUE.wake_up()
        ELEMENTS.put(number)

    tasks = [spawn(worker, number) for number in (1, 2)]
    QUEUE.wait_event(lambda: total.value == 3)
    assert {ELEMENTS.get(), ELEMENTS.get()} == {1, 2}
    for task in tasks:
        task.join()
    TIMER.mod_timer_in(10)
    DONE.wait_for_completion()
    assert not DONE.completion_done()
    assert not SEMAPHORE.down_trylock(), "two of two are taken"
    DONE.complete_all()
    ELEMENTS.put(5)
    TIMER.shutdown()


@pytest.mark.parametrize("options", [{}, {"explore_time": True}, {"policy": "random"}, {"policy": "pct"}], ids=str)
def test_schedules_do_not_depend_on_each_other(options):
    report = explore(waits_for_everything, schedules=200, **options)
    assert report.outcome is Outcome.PASSED, report
    assert report.schedules == 200


def takes_in_two_orders():
    """A deadlock in some schedules; the locks and the semaphore stay taken where a thread was taken down."""

    def forth():
        SEMAPHORE.down()
        MUTEX.lock()
        OTHER.lock()
        OTHER.unlock()
        MUTEX.unlock()

    def back():
        OTHER.lock()
        MUTEX.lock()
        MUTEX.unlock()
        OTHER.unlock()

    for task in [spawn(forth), spawn(back)]:
        task.join()


def test_a_deadlock_is_found_again_from_its_schedule():
    failure = explore(takes_in_two_orders, schedules=500).failure
    assert failure is not None
    assert failure.verdict is Verdict.DEADLOCK, "and not one that did not end the same way again"
    again = replay(takes_in_two_orders, failure.schedule)
    assert again is not None
    assert again.verdict is Verdict.DEADLOCK
    assert (MUTEX.is_locked(), OTHER.is_locked(), SEMAPHORE.count) == (False, False, 2)


def test_all_deadlocks_are_counted_where_the_campaign_goes_on():
    """After each of them another kernel is booted, for which the locks are free."""
    report = explore(takes_in_two_orders, schedules=200, stop_on_failure=False)
    assert report.schedules == 200
    assert {failure.verdict for failure in report.failures} == {Verdict.DEADLOCK}
    assert 1 < len(report.failures) < 200


def keeps_a_lock():
    MUTEX.lock()


def test_a_lock_that_a_schedule_leaves_held_is_free_in_the_next():
    failure = explore(keeps_a_lock, schedules=10).failure
    assert failure is not None
    assert failure.verdict is Verdict.HELD
    assert not MUTEX.is_locked()


def uses_a_work():
    assert schedule_work(WORK)
    flush_work(WORK)
    DONE.wait_for_completion()


def test_a_work_may_be_queued_in_the_kernel_that_is_booted_for_each_schedule():
    """A kworker that is left makes a kernel one that cannot be rewound."""
    assert explore(uses_a_work, schedules=20).outcome is not Outcome.FAILED


@pytest.mark.parametrize("configuration", ["direct", "hosted", "pthreads"])
def test_a_kernel_that_was_rewound_has_let_go(configuration):
    """The testbed's kernel lives on, and another kernel may use what it used."""
    with Testbed(ScheduleSettings(), configuration) as testbed:
        for _ in range(3):
            assert testbed.run(waits_for_everything, FIFO()).passed
            assert (DONE.done, SEMAPHORE.count, len(ELEMENTS), ELEMENTS.nr_in) == (0, 2, 0, 0)
            with lkl_start_kernel(locks_and_sleeps, clock="virtual", loglevel=0) as kernel:
                assert kernel.run() == "done"
        assert testbed.boots == 1


def locks_and_sleeps():
    with MUTEX:
        msleep(1)
    return "done"


def test_what_the_application_did_before_is_there_in_each_schedule():
    """A test module that completes something when it is imported."""
    ready, tickets = Completion(name="ready"), Semaphore(0, name="tickets")
    ready.complete()
    tickets.up()

    def test():
        ready.wait_for_completion()
        tickets.down()

    assert explore(test, schedules=50).outcome is not Outcome.FAILED
    assert (ready.done, tickets.count) == (1, 1)
