"""Where schedules are decided: points, sleeps, and everything else that could go either way."""

from __future__ import annotations

import errno

from lkl_green.errors import LockMisuse
from lkl_green.kernel.current import current_kernel
from lkl_green.linux import (
    Mutex,
    Semaphore,
    SpinLock,
    Timer,
    Work,
    cond_resched,
    flush_work,
    kthread_run,
    kthread_should_stop,
    kthread_stop,
    msleep,
    schedule,
    schedule_work,
)
from lkl_green.testing import Shared, explore, fault_point, random, spawn
from lkl_green.testing.policies import FIFO, RandomWalk
from lkl_green.testing.policies.base import Policy
from lkl_green.testing.settings import ScheduleSettings
from lkl_green.testing.testbed import Testbed


def all_results(test, schedules=300, **options):
    """What `test` returned in each of many schedules, as a set."""
    results = set()
    report = explore(lambda: results.add(test()), schedules=schedules, policy="random", **options)
    assert report.passed, report.text()
    return results


def test_two_steps_of_two_tasks_come_in_every_order():
    def orders():
        steps = []

        def task(name):
            shared = Shared(0)
            shared.value = 1
            steps.append(name)
            shared.value = 2
            steps.append(name)

        threads = [spawn(task, name) for name in "ab"]
        for thread in threads:
            thread.join()
        return "".join(steps)

    assert all_results(orders) == {"aabb", "abab", "abba", "baab", "baba", "bbaa"}


def test_fifo_preempts_nobody():
    steps = []

    def task(name):
        shared = Shared(0)
        for _ in range(3):
            shared.value += 1
            steps.append(name)

    def test():
        for thread in [spawn(task, name) for name in "ab"]:
            thread.join()

    with Testbed(ScheduleSettings()) as testbed:
        assert testbed.run(test, FIFO()).passed
    assert "".join(steps) == "aaabbb"


def test_a_point_stands_before_its_operation():
    pending = []

    class Watch(FIFO):
        def pick(self, enabled, running):
            pending.extend((actor.kind, actor.obj) for actor in enabled if actor is running and actor.kind == "write")
            return super().pick(enabled, running)

    shared = Shared("before", "x")
    seen = []

    def test():
        other = spawn(lambda: seen.append(shared.peek()))
        shared.value = "after"
        other.join()

    with Testbed(ScheduleSettings()) as testbed:
        testbed.run(test, Watch())
    assert pending == [("write", shared)]


def test_nothing_comes_between_where_preemption_is_disabled():
    def test():
        lock = SpinLock()
        shared = Shared(0)

        def task():
            with lock:
                shared.value += 1

        for thread in [spawn(task), spawn(task)]:
            thread.join()
        return shared.peek()

    assert all_results(test) == {2}


def test_yielding_lets_the_schedule_decide():
    def test():
        order = []

        def task(name):
            order.append(name)
            schedule()
            order.append(name.upper())

        for thread in [spawn(task, "a"), spawn(task, "b")]:
            thread.join()
        return "".join(order)

    assert {"aAbB", "abAB", "abBA", "baAB", "baBA", "bBaA"} == all_results(test)


def test_waiters_of_a_lock_are_served_in_the_order_the_schedule_makes():
    def test():
        lock, order = Mutex(), []

        def task(name):
            with lock:
                order.append(name)

        with lock:
            threads = [spawn(task, name) for name in "abc"]
            msleep(1)
        for thread in threads:
            thread.join()
        return "".join(order)

    assert len(all_results(test)) == 6


def test_kthreads_and_work_queues_are_explored_too():
    def test():
        done = []

        def worker():
            while not kthread_should_stop():
                msleep(1)
            return 5

        thread = kthread_run(worker)
        work = Work(lambda _work: done.append(1))
        schedule_work(work)
        flush_work(work)
        cond_resched()
        return kthread_stop(thread), len(done)

    # A kthread that is stopped before it has run never runs.
    assert all_results(test, schedules=60) == {(5, 1), (-errno.EINTR, 1)}


def test_a_spawned_thread_can_be_stopped_like_a_kthread():
    def test():
        return kthread_stop(spawn(lambda: 7).task)

    assert all_results(test, schedules=20) == {7}


# -- other choices


def test_random_numbers_are_the_schedules():
    def test():
        return random.randrange(3), round(random.random()) in (0, 1), len(str(random.getrandbits(80))) > 0

    assert all_results(test) == {(0, True, True), (1, True, True), (2, True, True)}
    assert 0 <= random.random() < 1  # outside an exploration it is an ordinary one


def test_a_fault_strikes_sometimes_and_never_outside():
    assert all_results(lambda: fault_point("disk")) == {False, True}
    assert not fault_point("disk")


def test_host_operations_fail_when_the_schedule_says_so():
    def test():
        try:
            spawn(lambda: None).join()
        except OSError as error:
            return error.strerror
        return "made"

    results = all_results(test, host_faults=True)
    assert "made" in results
    assert len(results) > 1


def test_an_interrupt_comes_at_any_point_after_its_trigger():
    def test():
        kernel = current_kernel()
        irq = kernel.lkl_get_free_irq("device")
        shared, seen = Shared(0), []
        kernel.irq.request_irq(irq, lambda _irq: seen.append(shared.peek()), "device")
        kernel.lkl_trigger_irq(irq)
        shared.value = 1
        shared.value = 2
        msleep(1)
        kernel.irq.free_irq(irq, "device")
        kernel.lkl_put_irq(irq, "device")
        return tuple(seen)

    assert all_results(test) == {(0,), (1,), (2,)}
    # Else it comes where the kernel looks for interrupts, which is in the sleep.
    assert all_results(test, schedules=5, explore_irqs=False) == {(2,)}


def test_a_time_out_expires_early_only_where_time_is_explored():
    def test():
        semaphore, outcome = Semaphore(0), []

        def waiter():
            try:
                semaphore.down_timeout(1_000_000)
            except TimeoutError:
                outcome.append("timeout")
            else:
                outcome.append("got it")

        for thread in [spawn(waiter), spawn(semaphore.up)]:
            thread.join()
        return outcome[0]

    assert all_results(test) == {"got it"}
    assert all_results(test, explore_time=True) == {"got it", "timeout"}


def test_timers_of_one_moment_expire_in_any_order():
    def test():
        order = []
        for name in "abc":
            Timer(lambda timer: order.append(timer.name), name=name).mod_timer(1_000_000)
        msleep(2)
        return "".join(order)

    assert all_results(test) == {"abc", "acb", "bac", "bca", "cab", "cba"}


# -- what policies are told


def test_a_policy_hears_of_every_operation_if_it_wants_to():
    heard = []

    class Counting(FIFO):
        def executes(self, actor):
            heard.append((actor.name, actor.kind))

    def test():
        lock = Mutex(name="lock")
        with lock:
            pass

    with Testbed(ScheduleSettings()) as testbed:
        testbed.run(test, Counting())
    assert heard == [("main", "start"), ("main", "lock"), ("main", "unlock")]


def test_names_number_the_second_bearer_of_a_name():
    names = set()

    class Naming(RandomWalk):
        def pick(self, enabled, running):
            names.update(actor.name for actor in enabled)
            return super().pick(enabled, running)

    def test():
        for thread in [spawn(lambda: None, name="twin"), spawn(lambda: None, name="twin")]:
            thread.join()

    with Testbed(ScheduleSettings()) as testbed:
        policy = Naming()
        for number in range(10):
            policy.begin(0, number)
            assert testbed.run(test, policy).passed
    assert names == {"main", "twin", "twin#2"}


def test_the_trail_is_the_schedule():
    """The same choices, the same run: step by step, not only in the end."""

    class Script(Policy):
        name = "script"

        def __init__(self, trail):
            super().__init__()
            self._trail = iter(trail)

        def pick(self, enabled, running):
            return next(self._trail)

        def choose(self, kind, count):
            return next(self._trail)

    log = []

    def test():
        lock, shared = Mutex(), Shared(0)

        def task(name):
            for _ in range(random.randrange(1, 4)):
                with lock:
                    shared.value += 1
                    log.append((name, shared.peek()))

        for thread in [spawn(task, name) for name in "abc"]:
            thread.join()

    with Testbed(ScheduleSettings()) as testbed:
        policy = RandomWalk()
        for number in range(50):
            policy.begin(1, number)
            log.clear()
            run = testbed.run(test, policy)
            first = log.copy()
            log.clear()
            again = testbed.run(test, Script(run.trail))
            assert (again.trail, again.steps, log) == (run.trail, run.steps, first)


def test_an_error_in_a_spawned_thread_fails_the_schedule():
    def test():
        lock = Mutex()
        spawn(lock.unlock).join()

    report = explore(test, schedules=1)
    assert not report.passed
    assert LockMisuse.__name__ in report.failure.error
