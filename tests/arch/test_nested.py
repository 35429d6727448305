"""Greenlets that a kernel thread makes for itself, and sleeps in."""

from __future__ import annotations

import contextlib
import functools
import gc
import os

import greenlet as greenlet_module
import pytest
from greenlet import getcurrent, greenlet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkl_green import KernelPanic, format_trace, lkl_start_kernel
from lkl_green.errors import ForeignGreenlet, HaltTimeout, SchedulingWhileAtomic, TaskKilled
from lkl_green.linux import (
    SCHED_FIFO,
    Completion,
    Mutex,
    SpinLock,
    cond_resched,
    current,
    current_kernel,
    do_exit,
    kthread_create,
    kthread_run,
    kthread_stop,
    msleep,
    sched_setscheduler,
    schedule,
    wake_up_process,
    yield_,
)
from lkl_green.testing import Outcome, Shared, explore, spawn
from tests.conftest import CONFIGURATIONS

FOREIGN = (ForeignGreenlet, greenlet_module.error)  # what greenlets say themselves where threads are OS threads


# -- a sleep suspends and resumes the greenlet that sleeps


def test_a_sleep_in_a_greenlet_of_ones_own_resumes_that_greenlet(run, log):
    def inner():
        log.append("inner")
        msleep(1)
        log.append("inner ends")
        return "result"

    def init():
        helper = greenlet(inner)
        log.append(helper.switch())
        log.append(helper.dead)

    run(init)
    assert log == ["inner", "inner ends", "result", True]


def test_a_yield_in_one_does_as_well(run, log):
    def inner():
        for turn in range(3):
            log.append(("inner", turn))
            schedule()
        return "result"

    def thread():
        log.append(greenlet(inner).switch())

    def neighbour():
        for turn in range(3):
            log.append(("other", turn))
            schedule()

    def init():
        tasks = [kthread_create(thread), kthread_create(neighbour)]
        for task in tasks:
            wake_up_process(task)
        msleep(1)

    run(init)
    assert log == [(name, turn) for turn in range(3) for name in ("inner", "other")] + ["result"]


def test_a_thread_may_sleep_in_any_of_its_greenlets_in_turn(run, log):
    """Deep and flat, in its base and in others, which are suspended meanwhile."""

    def deep(level):
        msleep(1)
        found = 1 + (greenlet(deep).switch(level - 1) if level else 0)
        yield_()
        return found

    def ticker():
        while True:
            msleep(1)
            getcurrent().parent.switch(current().comm)

    def thread():
        first, second = greenlet(ticker), greenlet(ticker)
        for _ in range(3):
            log.append((first.switch(), second.switch()))
            msleep(1)
        log.append(greenlet(deep).switch(5))

    def init():
        for name in "ab":
            kthread_run(thread, name=name)
        msleep(100)

    run(init)
    assert log == [("a", "a"), ("b", "b")] * 3 + [6, 6]


def test_the_trace_is_the_same_in_each_configuration(parity, log):
    def inner():
        for turn in range(3):
            log.append((current().comm, turn))
            msleep(1)
            yield_()

    def thread():
        greenlet(inner).switch()
        msleep(1)

    def init():
        for name in "ab":
            kthread_run(thread, name=name)
        msleep(20)

    parity(init)
    third = len(log) // 3
    assert log[:third] == log[third : 2 * third] == log[2 * third :]


def test_a_more_important_task_preempts_a_thread_in_its_inner_greenlet(run, log):
    def important():
        done.wait_for_completion()
        log.append("important")

    def inner():
        log.append("before")
        done.complete()
        log.append("after")
        return "result"

    def init():
        nonlocal done
        done = Completion()
        sched_setscheduler(kthread_run(important), SCHED_FIFO, 10)
        yield_()
        log.append(greenlet(inner).switch())

    done = None
    run(init)
    assert log == ["before", "important", "after", "result"]


def test_a_time_slice_ends_in_an_inner_greenlet(run, log):
    def inner():
        for _ in range(600):
            cond_resched()
        log.append("inner ends")
        return "result"

    def thread():
        log.append(greenlet(inner).switch())

    def init():
        for task in (kthread_create(thread), kthread_create(log.append, "other")):
            wake_up_process(task)
        msleep(1)

    run(init)
    assert log == ["other", "inner ends", "result"]


def test_locks_are_held_across_inner_sleeps(run, log):
    def inner(lock):
        with lock:
            log.append((current().comm, "in"))
            msleep(1)
            log.append((current().comm, "out"))

    def init():
        lock = Mutex()
        for name in "ab":
            kthread_run(lambda: greenlet(inner).switch(lock), name=name)
        msleep(10)

    run(init)
    assert log == [("a", "in"), ("a", "out"), ("b", "in"), ("b", "out")]


def test_a_system_call_in_an_inner_greenlet_is_the_threads_own(run):
    def inner():
        return current_kernel().sys.getpid(), current().pid

    def init():
        pid, own = greenlet(inner).switch()
        return pid == own

    assert run(init)


def test_the_stack_of_a_thread_that_sleeps_in_an_inner_greenlet_ends_there(run):
    def innermost():
        msleep(5)

    def init():
        task = kthread_run(lambda: greenlet(innermost).switch(), name="sleeper")
        msleep(1)
        stacks = current_kernel().dump_stacks()
        kthread_stop(task)
        return stacks.partition("task sleeper")[2].partition("\ntask ")[0]

    assert "innermost" in run(init)


# -- what libraries do


def greenlet_spawn(function, *args):
    """What SQLAlchemy's function of that name does: run `function`, which awaits by switching to its parent."""

    async def spawn():
        helper = greenlet(function)
        result = helper.switch(*args)
        while not helper.dead:
            try:
                value = await result
            except BaseException as error:
                result = helper.throw(error)
            else:
                result = helper.switch(value)
        return result

    try:
        spawn().send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("what is awaited here sleeps in the kernel")


def await_only(awaitable):
    return getcurrent().parent.switch(awaitable)


async def row(ms):
    msleep(ms)
    if ms > 2:
        raise LookupError("no row")
    return f"row {ms}"


def test_code_under_greenlet_spawn_sleeps_and_awaits(parity, log):
    def query(lock, number):
        with lock:
            msleep(1)
            log.append((number, await_only(row(number))))
        yield_()
        return "done"

    def thread(lock, number):
        try:
            log.append((number, greenlet_spawn(query, lock, number)))
        except LookupError as error:
            log.append((number, str(error)))

    def init():
        lock = Mutex()
        for number in (1, 2, 3):
            kthread_run(thread, lock, number)
        msleep(50)

    parity(init)
    assert log == [(1, "row 1"), (1, "done"), (2, "row 2"), (2, "done"), (3, "no row")] * 3


def test_schedules_of_threads_with_inner_greenlets_are_explored():
    """Each switch of the exploration may be in an inner greenlet, and a race between two of them is found."""

    def test(locked):
        counter, lock = Shared(0, "counter"), Mutex()

        def inner():
            with lock if locked else contextlib.nullcontext():
                counter.value += 1
            return getcurrent().parent

        def thread():
            here = getcurrent()
            assert greenlet(inner).switch() is here
            assert getcurrent() is here

        for task in [spawn(thread), spawn(thread)]:
            task.join()
        assert counter.value == 2, "lost"

    assert explore(functools.partial(test, True), schedules=200).outcome is Outcome.PASSED
    failure = explore(functools.partial(test, False), schedules=200).failure
    assert failure is not None
    assert "lost" in str(failure.error)


# -- ends


def test_an_exception_of_an_inner_greenlet_comes_to_the_code_that_switched_to_it(run, log):
    def inner():
        msleep(1)
        raise ValueError("inner")

    def init():
        with pytest.raises(ValueError, match="inner"):
            greenlet(inner).switch()
        msleep(1)
        return "fine"

    assert run(init) == "fine"


def test_an_oops_in_an_inner_greenlet_is_an_oops_of_the_thread(boot):
    def inner():
        msleep(1)
        raise ValueError("inner")

    kernel = boot(lambda: (kthread_run(lambda: greenlet(inner).switch(), name="bad"), msleep(5)))
    with pytest.raises(KernelPanic, match="ValueError in bad"):
        kernel.run()


def test_do_exit_in_an_inner_greenlet_ends_the_thread(run, log):
    def inner():
        msleep(1)
        do_exit(7)

    def thread():
        try:
            greenlet(inner).switch()
        finally:
            log.append("unwound")

    def init():
        task = kthread_run(thread)
        msleep(5)
        return kthread_stop(task)

    assert run(init) == 7
    assert log == ["unwound"]


def test_halting_unwinds_a_thread_from_its_inner_greenlet_on(boot, log):
    def inner():
        try:
            msleep(1000)
        except TaskKilled:
            log.append("inner is killed")
            raise
        finally:
            log.append("inner unwound")

    def thread():
        try:
            greenlet(inner).switch()
        finally:
            log.append("thread unwound")

    kernel = boot(lambda: (kthread_run(thread), msleep(5)))
    kernel.run()
    assert log == ["inner is killed", "inner unwound", "thread unwound"]


def test_the_thread_that_unwinds_an_inner_greenlet_of_another_one_stays_the_current_task():
    """Only with `switch="direct"`: elsewhere the greenlet, or its OS thread, is not the killer's to unwind."""
    helpers = []

    def sleeper():
        helpers.append(greenlet(functools.partial(msleep, 5)))
        helpers[0].switch()

    def killer():
        me = current()
        helpers[0].parent = getcurrent()
        helpers[0].throw()
        assert current() is me
        msleep(1)
        return "done"

    def init():
        kthread_run(sleeper)
        schedule()
        task = kthread_run(killer)
        schedule()
        return kthread_stop(task)

    kernel = lkl_start_kernel(init, clock="virtual", loglevel=0, switch="direct", on_oops="kill")
    assert kernel.run() == "done"


def test_a_thread_that_swallows_its_end_in_an_inner_greenlet_is_given_up(configuration):
    def inner():
        while True:
            with contextlib.suppress(BaseException):  # the mistake
                msleep(1000)

    kernel = lkl_start_kernel(
        lambda: (kthread_run(lambda: greenlet(inner).switch(), name="stuck"), msleep(5)),
        **{"clock": "virtual", "loglevel": 0, **configuration},
    )
    with pytest.raises(HaltTimeout, match="stuck"):
        kernel.run()
    assert kernel.halted


def test_an_inner_greenlet_that_is_left_behind_harms_no_later_thread(run, log):
    """It is suspended, but not in the kernel; what its `finally` does comes when it is collected."""

    def inner():
        try:
            getcurrent().parent.switch("early")
        finally:
            log.append("collected")

    def thread():
        log.append(greenlet(inner).switch())

    def init():
        for _ in range(3):
            kthread_run(thread)
            msleep(1)
        gc.collect()
        msleep(1)
        return "fine"

    assert run(init) == "fine"
    assert log.count("early") == 3
    assert log.count("collected") == 3


# -- what is an error


def test_a_sleep_in_a_greenlet_of_another_thread_is_refused(run, log):
    def inner():
        while True:
            getcurrent().parent.switch("ready")
            msleep(1)

    def maker():
        shared.append(greenlet(inner))
        shared[0].switch()
        msleep(100)
        log.append("maker slept its time")

    def user():
        with pytest.raises(FOREIGN):
            shared[0].switch()
        msleep(1)
        log.append("user goes on")

    def init():
        kthread_run(maker, name="maker")
        msleep(1)
        kthread_run(user, name="user")
        msleep(200)

    shared = []
    run(init)
    assert log == ["user goes on", "maker slept its time"]


@pytest.mark.parametrize("how", ["switch", "value", "throw"])
def test_no_thread_resumes_another_that_sleeps_in_an_inner_greenlet(run, log, how):
    def inner():
        try:
            msleep(100)
        except ZeroDivisionError:
            log.append("thrown")
        log.append(("slept", current().comm))

    def sleeper():
        shared.append(greenlet(inner))
        shared[0].switch()
        log.append("sleeper ends")

    def user():
        with pytest.raises(FOREIGN):
            {
                "switch": shared[0].switch,
                "value": lambda: shared[0].switch("value"),
                "throw": lambda: shared[0].throw(ZeroDivisionError),
            }[how]()
        log.append(("user", current().comm))
        msleep(1)
        log.append("user goes on")

    def init():
        kthread_run(sleeper, name="sleeper")
        msleep(1)
        kthread_run(user, name="user")
        msleep(200)

    shared = []
    run(init)
    assert log == [("user", "user"), "user goes on", ("slept", "sleeper"), "sleeper ends"]


@pytest.mark.parametrize("outcome", ["result", ValueError("inner"), KeyboardInterrupt()])
def test_a_greenlet_of_a_sleeping_thread_that_another_one_ends_is_refused(run, log, outcome):
    def inner():
        getcurrent().parent.switch("ready")
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def maker():
        shared.append(greenlet(inner))
        shared[0].switch()
        msleep(100)
        log.append("maker slept its time")

    def user():
        with pytest.raises(FOREIGN):
            shared[0].switch()
        msleep(1)
        log.append("user goes on")

    def init():
        kthread_run(maker, name="maker")
        msleep(1)
        kthread_run(user, name="user")
        msleep(200)

    shared = []
    run(init)
    assert log == ["user goes on", "maker slept its time"]


@pytest.mark.parametrize("outcome", ["result", ValueError("inner"), KeyboardInterrupt()])
def test_a_greenlet_that_outlives_its_thread_harms_no_other(run, log, outcome):
    """Its parent is a carrier that waits for the next thread, or runs it already."""

    def inner():
        getcurrent().parent.switch("ready")
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def maker():
        shared.append(greenlet(inner))
        shared[-1].switch()

    def user():
        for _ in range(2):
            msleep(5)
            with pytest.raises(FOREIGN):
                shared.pop().switch()
            log.append("user goes on")

    def init():
        kthread_run(user)
        kthread_run(maker)
        msleep(1)
        kthread_run(msleep, 7)  # on the carrier of the maker, if that is used again
        msleep(7)
        kthread_run(maker)
        msleep(10)
        return "fine"

    shared = []
    assert run(init) == "fine"
    assert log == ["user goes on"] * 2


@pytest.mark.parametrize("outcome", ["result", ValueError("inner"), KeyboardInterrupt()])
def test_the_application_is_refused_as_well(boot, log, outcome):
    def left_over():
        getcurrent().parent.switch("ready")
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def sleeping():
        msleep(10)
        log.append("slept")

    def maker():
        shared.append(greenlet(left_over))
        shared[0].switch()
        msleep(10)
        log.append("maker slept")

    def sleeper():
        shared.append(greenlet(sleeping))
        shared[1].switch()

    def init():
        kthread_run(maker)
        kthread_run(sleeper)
        msleep(20)
        return "fine"

    shared = []
    kernel = boot(init)
    kernel.lkl_run()
    for helper in shared:
        with pytest.raises(FOREIGN):
            helper.switch()
    assert kernel.run() == "fine"
    assert log == ["maker slept", "slept"]


def test_a_greenlet_of_the_application_does_not_sleep_in_the_kernel(run, log):
    def of_application():
        getcurrent().parent.switch("ready")
        msleep(1)

    def user():
        with pytest.raises(FOREIGN):
            helper.switch()
        log.append("user goes on")

    def init():
        kthread_run(user)
        msleep(5)
        return "fine"

    helper = greenlet(of_application)
    helper.switch()
    assert run(init) == "fine"
    assert log == ["user goes on"]


def test_being_preempted_in_a_foreign_greenlet_is_an_error_at_that_point(run, log):
    """The more important task runs all the same, and the one that was to be preempted is runnable once."""

    def important():
        done.wait_for_completion()
        log.append("important")

    def inner():
        getcurrent().parent.switch("ready")
        done.complete()

    def maker():
        shared.append(greenlet(inner))
        shared[0].switch()
        msleep(100)

    def user():
        with pytest.raises(FOREIGN):
            shared[0].switch()
        log.append("user goes on")
        yield_()
        log.append("user ends")

    def init():
        nonlocal done
        done = Completion()
        sched_setscheduler(kthread_run(important), SCHED_FIFO, 10)
        kthread_run(maker)
        msleep(1)
        kthread_run(user)
        msleep(200)

    done, shared = None, []
    run(init)
    assert [entry for entry in log if entry != "important"] == ["user goes on", "user ends"]


def test_a_function_that_ends_while_its_thread_sleeps_in_an_inner_greenlet_waits_for_it(run, log):
    """Another thread makes it end: it resumes the base, which waits for the inner greenlet and not in the kernel."""

    def inner():
        msleep(10)
        log.append("inner slept")

    def sleeper():
        shared.append(getcurrent())
        greenlet(inner).switch()

    def user():
        with pytest.raises(FOREIGN):
            shared[0].switch()
        log.append("user goes on")

    def init():
        task = kthread_run(sleeper)
        msleep(1)
        kthread_run(user)
        msleep(5)
        log.append(current_kernel().pids.tasks.get(task.pid) is task)
        msleep(20)
        return "fine"

    shared = []
    assert run(init) == "fine"
    assert log == ["user goes on", True, "inner slept"]


def test_a_function_that_the_application_makes_fail_is_an_oops_once_its_thread_goes_on(boot, log, configuration):
    if configuration["host"] == "thread":
        pytest.skip("greenlets refuse to be switched to from another OS thread")

    def inner():
        msleep(10)
        log.append("inner slept")

    def sleeper():
        shared.append(getcurrent())
        greenlet(inner).switch()

    shared = []
    kernel = boot(lambda: (kthread_run(sleeper, name="sleeper"), msleep(20)))
    kernel.lkl_run()
    with pytest.raises(ForeignGreenlet):
        shared[0].throw(ValueError("by the application"))
    with pytest.raises(KernelPanic, match=r"ValueError in sleeper.*by the application"):
        kernel.run()


def test_atomic_is_atomic_in_an_inner_greenlet(run):
    def inner(lock):
        with lock, pytest.raises(SchedulingWhileAtomic):
            msleep(1)
        return "fine"

    assert run(lambda: greenlet(inner).switch(SpinLock())) == "fine"


# -- trees of greenlets, at random


EXAMPLES = int(os.environ.get("LKL_GREEN_EXAMPLES", "60"))
OPERATIONS = ("sleep", "yield", "child", "parent", "resched", "lock")


@st.composite
def trees(draw, depth=0):
    """A program: what a greenlet does in order; "child" runs another program in a greenlet of its own."""
    steps = []
    for operation in draw(st.lists(st.sampled_from(OPERATIONS), max_size=6)):
        if operation == "child":
            if depth < 3:
                steps.append((operation, draw(trees(depth + 1))))
        elif operation == "sleep":
            steps.append((operation, draw(st.integers(0, 3))))
        else:
            steps.append((operation, None))
    return steps


class Tree:
    """One kernel thread that runs a tree, and what it has seen."""

    def __init__(self, number, program, lock, log):
        self.number = number
        self.program = program
        self.lock = lock
        self.log = log
        self.suspended = []

    def run(self):
        self.follow(self.program, ())
        while self.suspended:
            self.resume()
        return self.number

    def resume(self):
        helper = self.suspended.pop(0)
        self.say("back", helper.switch("again"))
        if not helper.dead:
            self.suspended.append(helper)

    def say(self, *words):
        self.log.append((self.number, current().comm, *words))

    def follow(self, program, path):
        """Do the steps of one greenlet; after each, it has to be in the greenlet in which it began."""
        here = getcurrent()
        for number, (operation, argument) in enumerate(program):
            self.step(operation, argument, (*path, number))
            assert getcurrent() is here
            self.say((*path, number), operation)
        return path

    def step(self, operation, argument, path):
        if operation == "sleep":
            msleep(argument)
        elif operation == "yield":
            yield_()
        elif operation == "resched":
            cond_resched()
        elif operation == "lock":
            with self.lock:
                msleep(1)
        elif operation == "child":
            helper = greenlet(self.follow)
            self.say("child", helper.switch(argument, path))
            if not helper.dead:
                self.suspended.append(helper)
        elif len(path) > 1:
            self.say("told", getcurrent().parent.switch("parent"))
        elif self.suspended:
            self.resume()


def forest(programs, log):
    lock = Mutex()
    tasks = [
        kthread_create(Tree(number, program, lock, log).run, name=f"tree/{number}")
        for number, program in enumerate(programs)
    ]
    for task in tasks:
        wake_up_process(task)
    msleep(1000)


@settings(
    max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.lists(trees(), min_size=1, max_size=4))
def test_trees_of_greenlets_do_the_same_in_each_configuration(programs):
    seen = {}
    for name, configuration in CONFIGURATIONS.items():
        log = []
        arguments = {"clock": "virtual", "loglevel": 0, "trace": True, **configuration}
        with lkl_start_kernel(forest, programs, log, **arguments) as kernel:
            kernel.run()
        seen[name] = log, format_trace(kernel.sched.trace.records)
    assert seen["direct"] == seen["hosted"] == seen["pthreads"]
