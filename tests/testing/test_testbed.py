"""One kernel for many schedules, and a new one when something is left of the last."""

from __future__ import annotations

import gc
import weakref

import pytest
from greenlet import greenlet

from lkl_green.errors import KernelBug
from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.rewind import Rewind
from lkl_green.linux import Completion, Mutex, Semaphore, Timer, kthread_run, msleep, printk
from lkl_green.testing import Shared, Verdict, spawn
from lkl_green.testing.policies import FIFO, RandomWalk
from lkl_green.testing.settings import ScheduleSettings
from lkl_green.testing.testbed import Testbed


@pytest.fixture
def testbed():
    with Testbed(ScheduleSettings(max_steps=1000)) as testbed:
        yield testbed


def test_schedules_that_end_cleanly_share_one_kernel(testbed):
    def test():
        lock = Mutex()

        def task():
            with lock:
                msleep(3)

        for thread in [spawn(task), spawn(task)]:
            thread.join()
        printk("seen")

    for _ in range(20):
        assert testbed.run(test, FIFO()).passed
    assert testbed.boots == 1


def test_a_rewound_kernel_is_as_good_as_new(testbed):
    def test():
        kernel = current_kernel()
        seen.append((kernel.sched.current.pid, kernel.clock.peek_ns(), kernel.printk.text(), kernel.sched.points))
        spawn(lambda: None).join()
        msleep(7)
        printk("a message")

    seen = []
    testbed.run(test, FIFO())
    testbed.run(test, FIFO())
    with Testbed(ScheduleSettings()) as other:
        other.run(test, FIFO())
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize(
    ("leftover", "verdict"),
    [
        (lambda: Timer(lambda _timer: None).mod_timer(1 << 60), Verdict.PASSED),
        (lambda: current_kernel().lkl_get_free_irq("nobody"), Verdict.PASSED),
        (lambda: current_kernel().register_program("/bin/true", lambda *_: 0), Verdict.PASSED),
        (lambda: spawn(Semaphore(0).down), Verdict.LEAKED),
        (lambda: Completion().wait_for_completion(), Verdict.DEADLOCK),
    ],
    ids=["interrupt line", "irq number", "program", "leaked task", "deadlock"],
)
def test_what_is_left_over_costs_a_new_kernel(testbed, leftover, verdict):
    if verdict is Verdict.PASSED:
        testbed.run(lambda: None, FIFO())
    run = testbed.run(leftover, FIFO())
    assert run.verdict is verdict
    seen = []
    assert testbed.run(lambda: seen.append(current_kernel().sched.current.pid), FIFO()).passed
    assert seen == [4]


def test_a_failing_test_fails_with_its_own_exception(testbed):
    error = ValueError("mine")

    def test():
        raise error

    run = testbed.run(test, FIFO())
    assert run.verdict is Verdict.FAILED
    assert run.error is error


def test_a_failing_thread_fails_the_schedule_and_ends_it(testbed):
    ran_on = []

    def fails():
        raise ValueError("in a thread")

    def test():
        spawn(fails)
        msleep(1)
        ran_on.append(True)

    run = testbed.run(test, FIFO())
    assert run.verdict is Verdict.FAILED
    assert isinstance(run.error, ValueError)
    assert not ran_on


def test_a_schedule_that_never_ends_is_cut_off(testbed):
    def test():
        flag = Shared(False)
        while not flag.value:
            pass

    run = testbed.run(test, FIFO())
    assert run.verdict is Verdict.LIVELOCK
    assert "1000 steps" in run.detail
    assert testbed.run(lambda: None, FIFO()).passed


def test_finally_blocks_run_when_a_schedule_is_cut_off(testbed):
    unwound = []

    def test():
        flag = Shared(False)
        try:
            while not flag.value:
                pass
        finally:
            unwound.append("main")

    def sleeper():
        try:
            Semaphore(0).down()
        finally:
            unwound.append("sleeper")

    def both():
        spawn(sleeper)
        msleep(1)
        test()

    testbed.run(both, FIFO())
    assert sorted(unwound) == ["main", "sleeper"]


def test_deadlocks_and_failures_leave_no_greenlets_behind(testbed):
    def abba():
        a, b = Mutex(), Mutex()

        def task(first, second):
            with first, second:
                pass

        for thread in [spawn(task, a, b), spawn(task, b, a)]:
            thread.join()

    def greenlets():
        gc.collect()
        return sum(isinstance(each, greenlet) for each in gc.get_objects())

    policy = RandomWalk()
    verdicts = set()
    counts = []  # after schedules that passed, which leave a kernel; a deadlock leaves none
    for number in range(100):
        policy.begin(0, number)
        verdict = testbed.run(abba, policy).verdict
        verdicts.add(verdict)
        if verdict is Verdict.PASSED and number % 20 < 5:
            counts.append(greenlets())
    assert verdicts == {Verdict.PASSED, Verdict.DEADLOCK}
    assert counts[-1] <= counts[0] + 4


def test_what_a_schedule_made_is_freed_when_it_ends(testbed):
    class Big:
        pass

    def test():
        big = Big()
        seen.append(weakref.ref(big))
        thread = spawn(lambda: big)
        seen.append(weakref.ref(thread.task))
        assert thread.join() is big

    seen = []
    testbed.run(test, FIFO())  # first: a new kernel's objects are collected
    seen.clear()
    gc.disable()
    try:
        assert testbed.run(test, FIFO()).passed
        assert [ref() for ref in seen] == [None, None]
    finally:
        gc.enable()


def test_the_garbage_collector_rests_during_a_schedule(testbed):
    seen = []
    testbed.run(lambda: seen.append(gc.isenabled()), FIFO())
    assert seen == [False]
    testbed.close()
    assert gc.isenabled()


def test_garbage_is_collected_between_schedules(testbed):
    class Cycle:
        def __init__(self):
            self.me = self

    def test():
        alive.add(Cycle())

    alive = weakref.WeakSet()
    for _ in range(200):
        testbed.run(test, FIFO())
    assert len(alive) < 150


def test_a_kernel_with_real_time_cannot_be_rewound(boot):
    with pytest.raises(KernelBug, match="real time has passed"):
        Rewind(boot(None, clock="monotonic"))


def test_kthreads_are_reaped_before_the_next_schedule(testbed):
    def test():
        done = Completion()
        kthread_run(done.complete)
        done.wait_for_completion()

    for _ in range(5):
        assert testbed.run(test, FIFO()).passed
    assert testbed.boots == 1
