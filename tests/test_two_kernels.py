"""Two kernels in one process do not notice each other, side by side or one inside the other."""

from __future__ import annotations

import itertools
import threading

import pytest
from arch.foreign import PATIENCE_S

from lkl_green import KernelPanic, RunReason, RunUntil, format_trace, lkl_start_kernel
from lkl_green.errors import NoCurrentKernel, SchedulingWhileAtomic, WrongThread
from lkl_green.host.ops import LiveObjects
from lkl_green.kernel.unistd import NR_getpid, NR_gettid
from lkl_green.linux import (
    Completion,
    Mutex,
    current,
    current_kernel,
    do_exit,
    kernel_thread,
    kthread_run,
    kthread_stop,
    msleep,
    request_irq,
    wake_up_process,
    yield_,
)
from tests.conftest import CONFIGURATIONS

PAIRS = list(itertools.product(CONFIGURATIONS, repeat=2))


@pytest.fixture
def start():
    """start(configuration, init, *args): a traced kernel under virtual time, halted and checked after the test."""
    kernels = []

    def start(name, init=None, *args, **options):
        arguments = {"clock": "virtual", "loglevel": 0, "trace": True, "name": name, **CONFIGURATIONS[name], **options}
        kernel = lkl_start_kernel(init, *args, **arguments)
        kernels.append(kernel)
        return kernel

    yield start
    for kernel in kernels:
        kernel.lkl_sys_halt()
        assert kernel.host.live() == LiveObjects()


def text(kernel):
    return format_trace(kernel.sched.trace.records)


def program(log):
    """Threads, sleeps, locks and an interrupt; each thread asks where it is."""
    mutex, done = Mutex(name="mutex"), Completion(name="done")
    kernel = current_kernel()

    def worker(number):
        for _ in range(3):
            with mutex:
                log.append((current_kernel() is kernel, current().comm, number))
                msleep(number)
        kernel.lkl_trigger_irq(irq)

    irq = kernel.lkl_get_free_irq("done")
    request_irq(irq, lambda irq: done.complete(), "done")
    for number in (1, 2, 3):
        kthread_run(worker, number, name="worker/%d")
    done.wait_for_completion()
    msleep(20)
    return irq, kernel.lkl_syscall(NR_getpid)


def solo(start, name):
    log = []
    kernel = start(name, program, log)
    result = kernel.run()
    return result, log, text(kernel)


# -- side by side


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_stepped_in_turn_in_one_thread_each_runs_as_it_does_alone(start, one, two):
    alone = {name: solo(start, name) for name in {one, two}}
    logs = [[], []]
    kernels = [start(one, program, logs[0]), start(two, program, logs[1])]
    while not all(kernel.halted for kernel in kernels):
        for kernel in kernels:
            kernel.pause(kernel.lkl_run())
            with pytest.raises(NoCurrentKernel):
                current_kernel()
    for kernel, name, log in zip(kernels, (one, two), logs, strict=True):
        assert (kernel.init_result, log, text(kernel)) == alone[name]


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_stepped_switch_by_switch_they_do_not_mix(start, one, two):
    logs = [[], []]
    kernels = [start(one, program, logs[0]), start(two, program, logs[1])]
    while not all(kernel.halted for kernel in kernels):
        for kernel in kernels:
            kernel.pause(kernel.lkl_run(RunUntil.SWITCH))
    assert logs[0] == logs[1]
    assert [same for same, _, _ in logs[0]] == [True] * 9
    assert kernels[0].init_result == kernels[1].init_result
    assert text(kernels[0]) == text(kernels[1])


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_in_two_os_threads_each_runs_as_it_does_alone(start, one, two):
    alone = {name: solo(start, name) for name in {one, two}}
    together = threading.Barrier(2)
    outcomes = {}

    def drive(place, name):
        log = []
        arguments = {"clock": "virtual", "loglevel": 0, "trace": True, **CONFIGURATIONS[name]}
        with lkl_start_kernel(program, log, **arguments) as kernel:
            together.wait(PATIENCE_S)
            while not kernel.halted:
                kernel.pause(kernel.lkl_run(max_switches=2))
                place_of_run[place] = threading.get_ident()
        # A budget adds switches to the idle task, so that only the story is compared, not the trace.
        outcomes[place] = (kernel.init_result, log, kernel.host.live())

    place_of_run = {}
    os_threads = [
        threading.Thread(target=drive, args=(place, name), daemon=True) for place, name in enumerate((one, two))
    ]
    for os_thread in os_threads:
        os_thread.start()
    for os_thread in os_threads:
        os_thread.join(PATIENCE_S)
        assert not os_thread.is_alive()
    assert outcomes == {place: (alone[name][0], alone[name][1], LiveObjects()) for place, name in enumerate((one, two))}
    assert place_of_run[0] != place_of_run[1]


def test_pids_irqs_and_host_tasks_are_counted_by_each(configuration, start):
    name = next(key for key, value in CONFIGURATIONS.items() if value == configuration)
    kernels = [start(name), start(name)]
    for kernel in kernels:
        assert kernel.lkl_get_free_irq("test") == 2, "the timer has 1"
        assert kernel.lkl_syscall(NR_gettid) == 4
        assert kernel.lkl_syscall(NR_getpid) == 1
        assert [task.pid for task in kernel.pids] == [1, 2, 3, 4]


def test_an_interrupt_of_one_is_none_of_the_other(configuration, start):
    name = next(key for key, value in CONFIGURATIONS.items() if value == configuration)
    log = []
    kernels = [start(name), start(name)]
    for number, kernel in enumerate(kernels):
        irq = kernel.lkl_get_free_irq("test")
        kernel.irq.request_irq(irq, lambda irq, number=number: log.append((number, irq)), "test")
        kernel.lkl_run()
    kernels[1].lkl_trigger_irq(2)
    for kernel in kernels:
        kernel.lkl_run()
    assert log == [(1, 2)]


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_halting_or_panicking_one_leaves_the_other_alone(start, one, two):
    def raises():
        msleep(1)
        raise ValueError("in one kernel")

    log = []
    panics, goes_on = start(one, raises), start(two, program, log)
    with pytest.raises(KernelPanic, match="in one kernel"):
        while True:
            for kernel in (goes_on, panics):
                kernel.pause(kernel.lkl_run())
    goes_on.pause(goes_on.lkl_run())
    assert panics.lkl_sys_halt() == 0
    assert goes_on.run() == (2, 1)
    assert len(log) == 9


def test_two_kernels_that_talk_through_the_application(start):
    """What one hands out, the application takes to the other: nothing else connects them."""

    def producer(box):
        for number in range(3):
            msleep(1)
            box.append(number)

    def consumer(seen):
        for _ in range(3):
            gate.wait_for_completion()
            seen.append(box.pop(0))
        do_exit(0)

    box, seen = [], []
    one = start("direct", producer, box)
    two = start("pthreads")
    gate = Completion(two)
    two.fork.kernel_thread(consumer, seen, name="consumer")
    while not one.halted:
        one.pause(one.lkl_run())
        while box and len(seen) + gate.done < 3:
            gate.complete()
            two.lkl_run()
    assert seen == [0, 1, 2]


# -- one inside the other


@pytest.mark.parametrize(("outer", "inner"), [pair for pair in PAIRS if pair[0] != "pthreads"])
def test_a_kernel_thread_may_drive_another_kernel_of_the_same_os_thread(start, outer, inner):
    alone = solo(start, inner)
    log = []

    def drive():
        me = current_kernel()
        while not driven.halted:
            driven.pause(driven.lkl_run())
            log.append(current_kernel() is me)
            yield_()
        return driven.init_result

    def other():
        for turn in range(3):
            log.append(("other", turn))
            yield_()

    def init():
        kthread_run(other)
        task = kthread_run(drive, name="driver")
        msleep(100)
        return kthread_stop(task)

    inner_log = []
    driven = start(inner, program, inner_log)
    driver = start(outer, init)
    result = driver.run()
    assert (result, inner_log, text(driven)) == alone
    assert False not in log
    assert [entry for entry in log if entry is not True] == [("other", turn) for turn in range(3)]


@pytest.mark.parametrize("inner", CONFIGURATIONS)
def test_a_kernel_thread_that_is_another_os_thread_cannot_drive_it_and_is_told_so(start, inner):
    def init():
        errors = []
        for call in (driven.lkl_run, driven.pause, driven.run, lambda: driven.lkl_syscall(NR_getpid)):
            try:
                call()
            except WrongThread as error:
                errors.append(str(error))
        return errors

    driven = start(inner)
    errors = start("pthreads", init).run()
    assert len(errors) == 4
    assert "it belongs to the thread that called lkl_start_kernel()" in errors[0]
    assert "one OS thread runs both" in errors[3]
    assert driven.lkl_is_running()
    assert driven.lkl_syscall(NR_getpid) == 1


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_a_kernel_booted_inside_a_kernel_thread_belongs_to_that_thread(start, outer, inner):
    alone = solo(start, inner)

    def nested():
        log = []
        arguments = {"clock": "virtual", "loglevel": 0, "trace": True, **CONFIGURATIONS[inner]}
        with lkl_start_kernel(program, log, **arguments) as kernel:
            result = kernel.run()
        assert kernel.host.live() == LiveObjects()
        return result, log, text(kernel)

    def init():
        task = kthread_run(nested)
        for _ in range(5):
            yield_()
        return kthread_stop(task)

    assert start(outer, init).run() == alone


@pytest.mark.parametrize("depth", [5])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_kernels_inside_kernels(name, depth):
    def init(level):
        here = current_kernel().name
        if level == 0:
            return [here]
        arguments = {"clock": "virtual", "loglevel": 0, "name": f"lkl{level - 1}", **CONFIGURATIONS[name]}
        with lkl_start_kernel(init, level - 1, **arguments) as kernel:
            below = kernel.run()
        assert current_kernel().name == here
        return [here, *below]

    arguments = {"clock": "virtual", "loglevel": 0, "name": f"lkl{depth}", **CONFIGURATIONS[name]}
    with lkl_start_kernel(init, depth, **arguments) as kernel:
        assert kernel.run() == [f"lkl{level}" for level in range(depth, -1, -1)]


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_an_inner_kernel_that_panics_is_an_exception_of_the_thread_that_runs_it(start, outer, inner):
    def explode():
        raise ValueError("inner")

    def init():
        with (
            pytest.raises(KernelPanic, match="inner"),
            lkl_start_kernel(explode, clock="virtual", loglevel=0, **CONFIGURATIONS[inner]) as kernel,
        ):
            kernel.run()
        msleep(1)
        return kernel.halted

    assert start(outer, init).run() is True


@pytest.mark.parametrize("outer", ["direct", "hosted"])
def test_a_kernel_thread_may_make_a_system_call_of_another_kernel(start, outer):
    def init():
        return other.lkl_syscall(NR_gettid), current_kernel().lkl_syscall(NR_gettid), other.lkl_syscall(NR_gettid)

    other = start("direct")
    assert start(outer, init).run() == (4, 1, 4)


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_a_kernel_thread_may_call_a_kernel_that_another_os_thread_runs(start, outer, inner):
    """It waits, and its own kernel with it; it comes back into its own kernel."""

    def serve():
        with lkl_start_kernel(None, loglevel=0, name="served", **CONFIGURATIONS[inner]) as kernel:
            box.append(kernel)
            ready.set()
            while not enough.wait(0.001):
                kernel.lkl_run()

    def init():
        here = current_kernel()
        served = box[0]
        tids = [served.lkl_syscall(NR_gettid), here.lkl_syscall(NR_gettid), served.lkl_syscall(NR_gettid)]
        msleep(1)
        return tids, current_kernel() is here

    box, ready, enough = [], threading.Event(), threading.Event()
    os_thread = threading.Thread(target=serve, daemon=True)
    os_thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        assert start(outer, init).run() == ([4, 1, 4], True)
    finally:
        enough.set()
        os_thread.join(PATIENCE_S)
    assert not os_thread.is_alive()


@pytest.mark.parametrize("outer", ["direct", "hosted"])
def test_halting_another_kernel_from_a_kernel_thread(start, outer):
    def init():
        assert other.lkl_sys_halt() == 0
        msleep(1)
        return other.halted, current_kernel().halted

    other = start("direct")
    other.lkl_run()
    assert start(outer, init).run() == (True, False)


def test_an_interrupt_raised_in_one_kernel_for_another(start):
    log = []

    def init():
        other.lkl_trigger_irq(irq)
        msleep(1)

    other = start("direct")
    irq = other.lkl_get_free_irq("test")
    other.irq.request_irq(irq, lambda irq: log.append(current_kernel() is other), "test")
    start("pthreads", init).run()
    assert log == []
    other.lkl_run()
    assert log == [True]


# -- things of one kernel in the hands of another


def test_sleeping_on_something_of_a_kernel_that_does_not_run(start):
    """A kernel thread of one kernel is the application to the other."""

    def init():
        with pytest.raises(SchedulingWhileAtomic):
            foreign.wait_for_completion()
        with pytest.raises(SchedulingWhileAtomic):
            mutex.lock()
        foreign.complete()  # waking is no sleeping
        return "alive"

    other = start("direct")
    foreign, mutex = Completion(other), Mutex(other)
    assert start("direct", init).run() == "alive"
    assert foreign.done == 1


def test_waking_a_task_of_another_kernel_by_its_own_scheduler(start):
    log = []

    def sleeper():
        Completion(name="never").wait_for_completion_timeout(10**9)
        log.append("woken")

    def other_init():
        kthread_run(sleeper, name="sleeper")
        msleep(10)
        log.append("other is done")

    def init():
        victim = next(task for task in other.pids if task.comm == "sleeper")
        log.append(other.sched.wake_up_process(victim))  # spurious: it goes on sleeping
        return wake_up_process(current())

    other = start("direct", other_init)
    other.lkl_run()
    assert start("hosted", init).run() is False
    while not other.halted:
        other.pause(other.lkl_run())
    assert log == [True, "other is done"]


def test_a_kernel_dropped_while_another_runs_does_not_disturb_it(start):
    import gc

    def init():
        for _ in range(3):
            kernel = lkl_start_kernel(lambda: msleep(1), clock="virtual", loglevel=0)
            kernel.lkl_run()
            del kernel
            gc.collect()
            msleep(1)
        return "alive"

    assert start("direct", init).run() == "alive"


def test_a_fork_in_each_gives_the_same_pids(start):
    def init():
        return [kernel_thread(lambda arg: Completion().wait_for_completion()) for _ in range(3)]

    one, two = start("direct", init), start("pthreads", init)
    statuses = {one: None, two: None}
    while not all(kernel.halted for kernel in statuses):
        for kernel in statuses:
            statuses[kernel] = kernel.lkl_run(RunUntil.SWITCH).reason
    assert statuses == {one: RunReason.HALTED, two: RunReason.HALTED}
    assert one.init_result == two.init_result == [2 + 2, 5, 6]
