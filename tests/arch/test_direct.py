"""The model without semaphores: greenlets, a root that enters them, and a pool of carriers."""

from __future__ import annotations

import gc
import os
import weakref

import pytest
from greenlet import getcurrent, greenlet

from lkl_green import RunReason, RunUntil, lkl_start_kernel
from lkl_green.arch import direct
from lkl_green.host.ops import LiveObjects
from lkl_green.linux import (
    Completion,
    current,
    do_exit,
    kernel_thread,
    kthread_create,
    kthread_run,
    msleep,
    wake_up_process,
    yield_,
)

# More in a soak test.
GENERATIONS = int(os.environ.get("LKL_GREEN_GENERATIONS", "5000"))


@pytest.fixture
def boot():
    kernels = []

    def boot(init=None, *args, **options):
        kernel = lkl_start_kernel(init, *args, **{"clock": "virtual", "loglevel": 0, **options})
        kernels.append(kernel)
        return kernel

    yield boot
    for kernel in kernels:
        kernel.lkl_sys_halt()
        assert kernel.host.live() == LiveObjects()


def depth_of_c_stacks():
    """How many greenlets are nested above the caller by who entered whom: its parents."""
    depth, context = 0, getcurrent()
    while context.parent is not None:
        depth, context = depth + 1, context.parent
    return depth


def live_greenlets():
    gc.collect()
    return sum(isinstance(thing, greenlet) for thing in gc.get_objects())


# -- creation


def test_a_chain_of_thousands_of_generations_neither_fails_nor_grows(boot, log):
    generations = GENERATIONS
    refs = []

    def generation(number):
        if number % 1000 == 0:
            log.append((number, depth_of_c_stacks(), len(kernel.arch._pool)))
        if number % 500 == 0:
            refs.append(weakref.ref(current()))
        if number < generations:
            kernel_thread(generation, number + 1)
        do_exit(0)

    def init():
        kernel_thread(generation, 0)
        msleep(1)
        gc.collect()
        return sum(ref() is not None for ref in refs), len(refs), len(kernel.pids)

    kernel = boot(init)
    alive, born, tasks = kernel.run()
    assert log == [(number, 1, 0) for number in range(0, generations + 1, 1000)]
    assert (alive <= 1, born, tasks) == (True, generations // 500 + 1, 3)


def test_a_chain_in_which_every_generation_stays_alive_grows_in_breadth_only(boot, log):
    """Each thread is started inside the stack of its parent, and none of them may be entered from there."""
    generations = 1500

    def generation(number):
        log.append(depth_of_c_stacks())
        if number < generations:
            kernel_thread(generation, number + 1)
        done.wait_for_completion()
        do_exit(0)

    def init():
        kernel_thread(generation, 1)
        msleep(1)
        done.complete_all()
        msleep(1)

    kernel = boot(init)
    done = Completion(kernel)
    kernel.run()
    assert log == [1] * generations


def test_a_task_is_entered_for_the_first_time_from_the_root(boot, log):
    root = getcurrent()

    def thread():
        log.append(getcurrent().parent is root)

    def init():
        log.append(getcurrent().parent is root)
        for _ in range(3):
            kthread_run(thread)
        msleep(1)

    boot(init).run()
    assert log == [True] * 4


def test_a_task_that_never_runs_has_no_greenlet(boot):
    def init():
        gc.collect()
        before = live_greenlets()
        for _ in range(100):
            kernel_thread(do_exit, 0)
        return live_greenlets() - before

    assert boot(init).run() == 0


# -- the pool of carriers


def test_one_worker_runs_one_short_task_after_another(boot, log):
    def thread():
        log.append(id(getcurrent()))

    def init():
        for _ in range(50):
            kthread_run(thread)
            yield_()
        msleep(1)

    boot(init).run()
    assert len(log) == 50
    assert len(set(log)) <= 2


def test_the_pool_is_bounded(boot, log, monkeypatch):
    monkeypatch.setattr(direct, "POOL_LIMIT", 4)

    def thread(gate):
        gate.wait_for_completion()

    def init():
        gate = Completion()
        yield_()  # the service threads have theirs
        before = live_greenlets()
        for _ in range(30):
            kthread_run(thread, gate)
        msleep(1)
        log.append(live_greenlets() - before)
        gate.complete_all()
        msleep(1)
        log.append(len(kernel.arch._pool))
        log.append(live_greenlets() - before)
        for _ in range(30):  # and it still works
            kthread_run(log.append, "again")
        msleep(1)

    kernel = boot(init)
    kernel.run()
    assert log[0] >= 30
    assert log[1] == 4
    assert log[2] <= 5
    assert log[3:] == ["again"] * 30


def test_halting_ends_the_parked_workers(boot):
    before = live_greenlets()

    def init():
        gate = Completion()
        for _ in range(20):
            kthread_run(gate.wait_for_completion)
        msleep(1)
        gate.complete_all()
        msleep(1)
        return len(kernel.arch._pool)

    kernel = boot(init)
    assert kernel.run() >= 15
    assert len(kernel.arch._pool) == 0
    assert live_greenlets() == before


def test_a_parked_worker_keeps_nothing_of_its_last_task_alive(boot, log):
    class Thing:
        pass

    def thread(thing):
        refs.append(weakref.ref(thing))
        refs.append(weakref.ref(current()))

    def init():
        for _ in range(5):
            kthread_run(thread, Thing())
        msleep(1)
        log.append(len(kernel.arch._pool) > 0)
        gc.collect()
        return sum(ref() is not None for ref in refs), len(refs)

    refs = []
    kernel = boot(init)
    assert kernel.run() == (0, 10)
    assert log == [True]


# -- the switch


def test_switch_to_returns_the_task_that_ran_before_with_three_tasks(boot, log):
    """Rule 29, 30 and 41 in this model: who ran before is kept by the scheduler, one variable per kernel."""

    def thread():
        log.append((current().comm, kernel.sched.last.comm))
        yield_()
        log.append((current().comm, kernel.sched.last.comm))

    def init():
        for task in [kthread_create(thread, name=name) for name in "abc"]:
            wake_up_process(task)
        yield_()
        log.append((current().comm, kernel.sched.last.comm))
        msleep(1)

    kernel = boot(init)
    kernel.run()
    assert log == [
        ("a", "init"),
        ("b", "a"),
        ("c", "b"),
        ("init", "c"),
        ("a", "init"),
        ("b", "a"),
        ("c", "b"),
    ]


def test_a_switch_goes_straight_from_task_to_task(boot, log):
    """The root is not resumed in between: it would have to be entered, and its frame would move on."""

    def thread():
        for _ in range(5):
            log.append(getcurrent())
            yield_()

    def traced(event, args):
        if event == "switch" and tracing:
            switches.append(args)

    def init():
        for task in [kthread_create(thread) for _ in range(2)]:
            wake_up_process(task)
        yield_()
        tracing.append(True)
        for _ in range(3):
            yield_()
        tracing.clear()

    import greenlet as greenlet_module

    switches, tracing = [], []
    kernel = boot(init)
    root = getcurrent()
    greenlet_module.settrace(traced)
    try:
        kernel.run()
    finally:
        greenlet_module.settrace(None)
    assert len(switches) == 9
    assert not [pair for pair in switches if root in pair]


# -- the root


def test_lkl_run_may_be_called_from_another_greenlet_each_time(boot, log):
    def thread(name):
        for turn in range(4):
            log.append((name, turn))
            msleep(1)

    def init():
        for name in "ab":
            kthread_run(thread, name)
        msleep(10)
        return "done"

    def drive():
        kernel.pause(kernel.lkl_run())

    kernel = boot(init)
    drivers = 0
    while not kernel.halted:
        driver = greenlet(drive)
        driver.switch()
        assert driver.dead, "control came back to whoever called lkl_run()"
        drivers += 1
    assert kernel.init_result == "done"
    assert drivers >= 5
    assert log == [(name, turn) for turn in range(4) for name in "ab"]


def test_stepping_from_two_greenlets_in_turn_gives_the_same_run_as_from_one(log):
    def thread(name):
        for turn in range(3):
            log.append((name, turn))
            yield_()

    def init():
        for name in "abc":
            kthread_run(thread, name)
        msleep(1)

    def step_alone(kernel):
        while kernel.lkl_run(RunUntil.SWITCH).reason is not RunReason.HALTED:
            kernel.pause(kernel.lkl_run(RunUntil.SWITCH))

    def step_from_two_greenlets(kernel):
        def step():
            while not kernel.halted:
                kernel.pause(kernel.lkl_run(RunUntil.SWITCH))
                main.switch()

        main = getcurrent()
        steppers = [greenlet(step), greenlet(step)]
        while not kernel.halted:
            for stepper in steppers:
                stepper.switch()

    runs = []
    for drive in (step_alone, step_from_two_greenlets):
        log.clear()
        kernel = lkl_start_kernel(init, clock="virtual", loglevel=0)
        drive(kernel)
        runs.append(list(log))
    assert runs[0] == runs[1]
    assert len(runs[0]) == 9


def test_a_worker_that_the_pool_does_not_want_ends_in_the_root_of_that_moment(boot, log, monkeypatch):
    monkeypatch.setattr(direct, "POOL_LIMIT", 0)

    def thread(number):
        msleep(number)
        log.append(number)

    def init():
        for number in (1, 2, 3):
            kthread_run(thread, number)
        msleep(10)

    kernel = boot(init)
    while not kernel.halted:
        greenlet(lambda: kernel.pause(kernel.lkl_run())).switch()
    assert log == [1, 2, 3]


def test_a_kernel_that_is_dropped_without_halting_harms_nobody(log):
    """Nobody unwinds its threads, but nothing of them may run at some later, unrelated moment either."""

    def thread():
        try:
            Completion().wait_for_completion()
        finally:
            log.append("unwound")

    def init():
        kthread_run(thread)
        Completion().wait_for_completion()

    kernel = lkl_start_kernel(init, clock="virtual", loglevel=0)
    assert kernel.lkl_run().reason is RunReason.DEADLOCK
    del kernel
    gc.collect()
    assert log == []
