"""Halting, in whatever situation the kernel and the application are."""

from __future__ import annotations

import errno
import gc
import threading
import time

import pytest
from arch.foreign import ForeignThread, run_until
from greenlet import getcurrent, greenlet
from host.stories import in_os_thread

from lkl_green import Deadlock, HaltTimeout, KernelPanic, RunReason, RunUntil, format_trace, lkl_start_kernel
from lkl_green.errors import TaskKilled
from lkl_green.host import threads
from lkl_green.host.ops import LiveObjects
from lkl_green.kernel.unistd import NR_getpid, NR_nanosleep
from lkl_green.linux import (
    TASK_INTERRUPTIBLE,
    TASK_UNINTERRUPTIBLE,
    Completion,
    Mutex,
    Semaphore,
    SpinLock,
    Timer,
    WaitQueueHead,
    call_usermodehelper,
    cond_resched,
    current_kernel,
    kernel_power_off,
    kernel_thread,
    kernel_wait4,
    kthread_create,
    kthread_park,
    kthread_parkme,
    kthread_run,
    kthread_should_stop,
    kthread_stop,
    msleep,
    msleep_interruptible,
    ndelay,
    schedule,
    schedule_timeout_interruptible,
    set_current_state,
    wake_up_process,
    yield_,
)

FOREVER_NS = 10**15


def live_contexts():
    """Greenlets and OS threads that exist."""
    getcurrent()  # makes the greenlet of this OS thread, if no test has asked for it before
    gc.collect()
    return sum(isinstance(thing, greenlet) for thing in gc.get_objects()), threading.active_count()


def no_more_than(before):
    return all(now <= then for now, then in zip(live_contexts(), before, strict=True))


# -- threads that sleep, in each primitive


def raw_schedule():
    set_current_state(TASK_UNINTERRUPTIBLE)
    schedule()


def raw_interruptible():
    set_current_state(TASK_INTERRUPTIBLE)
    schedule()


def on_a_mutex():
    mutex = Mutex()
    kthread_run(hold, mutex)
    msleep(1)
    mutex.lock()


def hold(mutex):
    with mutex:
        Completion().wait_for_completion()


def ask_for_the_impossible():
    Completion().wait_for_completion()


def in_wait4():
    kernel_thread(lambda arg: Completion().wait_for_completion(), flags=17)
    kernel_wait4()


def in_kthread_stop():
    task = kthread_run(ask_for_the_impossible)
    msleep(1)
    kthread_stop(task)


def parked():
    kthread_park(current_kernel().sched.current)
    kthread_parkme()


def waiting_for_a_program():
    current_kernel().register_program("/bin/sleep", lambda sys, argv, envp: sys.nanosleep(FOREVER_NS))
    call_usermodehelper("/bin/sleep", wait=2)


def waiting_for_its_turn():
    while True:
        ndelay(100_000)
        yield_()


def computing_politely():
    while True:
        ndelay(100_000)
        cond_resched()


SLEEPS = {
    "schedule": raw_schedule,
    "schedule interruptible": raw_interruptible,
    "msleep": lambda: msleep(10**9),
    "msleep_interruptible": lambda: msleep_interruptible(10**9),
    "schedule_timeout": lambda: schedule_timeout_interruptible(FOREVER_NS),
    "semaphore": lambda: Semaphore(0).down(),
    "semaphore interruptible": lambda: Semaphore(0).down_interruptible(),
    "semaphore killable": lambda: Semaphore(0).down_killable(),
    "semaphore timeout": lambda: Semaphore(0).down_timeout(FOREVER_NS),
    "completion": ask_for_the_impossible,
    "completion timeout": lambda: Completion().wait_for_completion_timeout(FOREVER_NS),
    "mutex": on_a_mutex,
    "wait queue": lambda: WaitQueueHead().wait_event(lambda: False),
    "wait queue exclusive": lambda: WaitQueueHead().wait_event(lambda: False, exclusive=True),
    "wait queue interruptible": lambda: WaitQueueHead().wait_event_interruptible(lambda: False),
    "wait queue timeout": lambda: WaitQueueHead().wait_event_timeout(lambda: False, FOREVER_NS),
    "wait4": in_wait4,
    "kthread_stop": in_kthread_stop,
    "parked": parked,
    "a user program": waiting_for_a_program,
    "runnable": waiting_for_its_turn,
    "cond_resched": computing_politely,
}


@pytest.mark.parametrize("sleep", SLEEPS.values(), ids=SLEEPS)
def test_a_sleeping_thread_is_unwound_in_every_configuration_with_the_same_trace(parity, sleep):
    def sleeper(name):
        try:
            sleep()
        except TaskKilled:
            log.append((name, "killed"))
            raise
        finally:
            log.append((name, "finally"))

    def init():
        for name in "ab":
            kthread_run(sleeper, name, name="sleeper/%s")
        msleep(5)

    log = []
    trace = parity(init)
    assert log[:4] == log[4:8] == log[8:]
    assert sorted(log[:4]) == [("a", "finally"), ("a", "killed"), ("b", "finally"), ("b", "killed")]
    assert "sleeper/a" in trace


def test_nothing_is_left_of_them(configuration, eventually):
    def init(sleep):
        kthread_run(sleep, name="sleeper")
        msleep(5)

    def halt_each():
        for sleep in SLEEPS.values():
            kernel = lkl_start_kernel(init, sleep, clock="virtual", loglevel=0, **configuration)
            kernel.run()
            assert len(kernel.pids) == 0
            assert kernel.host.live() == LiveObjects()
            assert kernel.sched.policy.nr_running == 0

    halt_each()
    before = live_contexts()
    halt_each()
    assert eventually(lambda: no_more_than(before))


def test_threads_are_unwound_in_the_order_of_their_pids(boot, log):
    def sleeper(name):
        try:
            msleep(100 - ord(name[0]))
        finally:
            log.append(name)

    def init():
        for name in "edcba":
            kthread_run(sleeper, name)
        yield_()

    boot(init).run()
    assert log == ["e", "d", "c", "b", "a"]


def test_finally_blocks_may_use_the_kernel_as_long_as_they_do_not_sleep(boot, log):
    def worker(mutex, done):
        with mutex:
            try:
                msleep(10**6)
            finally:
                done.complete()
                Timer(log.append).mod_timer_in(10**9)
                log.append("cleaned up")

    def init():
        kthread_run(worker, mutex, done)
        msleep(1)

    kernel = boot(init)
    mutex, done = Mutex(kernel), Completion(kernel)
    kernel.run()
    assert log == ["cleaned up"]
    assert (mutex.is_locked(), done.done) == (False, 1)


def test_a_finally_block_that_sleeps_is_killed_again_and_the_rest_of_it_still_runs(boot, log):
    def worker():
        try:
            msleep(10**6)
        finally:
            try:
                log.append("sleeps again")
                msleep(1)
                log.append("never")
            finally:
                log.append("ended")

    def init():
        kthread_run(worker)
        msleep(1)

    boot(init).run()
    assert log == ["sleeps again", "ended"]


def test_a_finally_block_that_stops_another_thread_does_not_wait_for_it(boot, log):
    def child():
        while not kthread_should_stop():
            msleep(1000)
        log.append("never")

    def parent(children):
        try:
            msleep(10**6)
        finally:
            for task in children:
                try:
                    log.append(kthread_stop(task))
                except TaskKilled:
                    log.append("the kernel halts")

    def init():
        running = kthread_run(child, name="child")
        created = kthread_create(child, name="created")
        kthread_run(parent, [running, created], name="parent")
        msleep(1)

    kernel = boot(init)
    kernel.run()
    assert log[1:] == [-errno.EINTR]
    assert log[0] in (9, "the kernel halts")


def test_waking_a_thread_that_was_dropped_does_not_run_it(boot, log):
    def parent(child):
        try:
            msleep(10**6)
        finally:
            log.append((kthread_stop(child), wake_up_process(child)))

    def init():
        child = kthread_create(log.append, "the child ran", name="child")
        kthread_run(parent, child, name="parent")
        msleep(1)

    boot(init).run()
    assert log == [(-errno.EINTR, False)]


def test_threads_that_never_ran_are_dropped_without_running(boot, log):
    def init():
        for number in range(5):
            kthread_create(log.append, number)
        for number in range(5):
            kernel_thread(log.append, number)
        kernel_power_off()

    kernel = boot(init)
    kernel.run()
    assert log == []
    assert len(kernel.pids) == 0


def test_a_kernel_that_never_ran(boot, log):
    kernel = boot(log.append, "init ran")
    assert kernel.lkl_sys_halt() == 0
    assert log == []
    assert kernel.lkl_run().reason is RunReason.HALTED


def test_threads_that_want_new_threads_while_the_kernel_halts(boot, log):
    def worker():
        try:
            msleep(10**6)
        finally:
            for fork in (kthread_run, kernel_thread):
                try:
                    fork(log.append, "never")
                except (OSError, TaskKilled) as error:
                    log.append(getattr(error, "errno", "killed"))

    def init():
        kthread_run(worker)
        msleep(1)

    boot(init).run()
    assert log[1] == errno.ESHUTDOWN
    assert log[0] in (errno.ESHUTDOWN, "killed")


def test_a_thread_that_holds_a_spinlock_when_it_is_killed(boot):
    """It cannot be: it does not sleep. It ends with the lock held, and the kernel says so."""

    def init():
        lock = SpinLock()
        lock.lock()
        kernel_power_off()
        return "done"

    kernel = boot(init)
    assert kernel.run() == "done"
    assert "exits with preemption" in kernel.printk.text()


# -- threads that do not want to end


def swallow(log):
    while True:
        try:
            msleep(1)
        except BaseException as error:
            log.append(type(error))


def take_turns():
    ndelay(100_000)
    yield_()


def doze():
    msleep(1)


@pytest.mark.parametrize("how", [doze, take_turns, ask_for_the_impossible])
def test_a_thread_that_swallows_its_end_is_given_up_and_named(configuration, log, monkeypatch, how):
    """What is left of it is a context that is never resumed; on OS threads, an OS thread that sleeps for good."""
    monkeypatch.setattr(threads, "UNWIND_TIMEOUT_S", 0.05)

    def stubborn():
        while True:
            try:
                how()
            except BaseException as error:
                log.append(type(error))

    def polite():
        try:
            msleep(10**6)
        finally:
            log.append("polite")

    def init():
        kthread_run(stubborn, name="stubborn")
        kthread_run(polite, name="polite")
        msleep(2)
        kernel_power_off()
        msleep(1)

    kernel = lkl_start_kernel(init, clock="virtual", loglevel=0, **configuration)
    with pytest.raises(HaltTimeout, match="stubborn-4") as caught:
        kernel.run()
    assert len(caught.value.tasks) == 1
    assert "stubborn-4" in caught.value.tasks[0]
    assert "TaskKilled" in str(caught.value)
    assert kernel.halted
    assert set(log) == {TaskKilled, "polite"}
    seen = len(log)
    assert 5 < seen < 40
    assert kernel.lkl_run().reason is RunReason.HALTED
    assert kernel.lkl_sys_halt() == 0
    del kernel, caught
    gc.collect()
    time.sleep(0.01)
    assert len(log) == seen, "it never ran again"


def test_two_of_them_do_not_keep_each_other_or_the_rest_alive(configuration, log, monkeypatch):
    monkeypatch.setattr(threads, "UNWIND_TIMEOUT_S", 0.05)

    def init():
        for number in range(2):
            kthread_run(swallow, [], name=f"stubborn/{number}")
        msleep(2)

    kernel = lkl_start_kernel(init, clock="virtual", loglevel=0, **configuration)
    with pytest.raises(HaltTimeout, match=r"2 of its tasks.*stubborn/0-4.*stubborn/1-5"):
        kernel.run()
    assert kernel.halted
    assert "stubborn/0-4" in kernel.printk.text()


def test_an_error_on_the_way_out_matters_more_than_a_thread_that_does_not_end(configuration, monkeypatch):
    monkeypatch.setattr(threads, "UNWIND_TIMEOUT_S", 0.05)

    def init():
        kthread_run(swallow, [], name="stubborn")
        msleep(2)
        raise ValueError("what went wrong")

    kernel = lkl_start_kernel(init, clock="virtual", loglevel=0, **configuration)
    with pytest.raises(KernelPanic, match="what went wrong"):
        kernel.run()
    assert kernel.halted
    assert "did not end" in kernel.printk.text()


def test_a_thread_that_ends_in_spite_of_it_is_no_error(boot, log):
    def slow():
        for _ in range(10):
            try:
                msleep(10**6)
            except TaskKilled:
                log.append("once more")

    def init():
        kthread_run(slow)
        msleep(1)

    boot(init).run()
    assert log == ["once more"] * 10


def test_a_thread_that_raises_something_else_while_it_is_killed(boot):
    def clumsy():
        try:
            msleep(10**6)
        finally:
            raise RuntimeError("in the clean-up")

    def init():
        kthread_run(clumsy, name="clumsy")
        msleep(1)
        return "done"

    kernel = boot(init)
    assert kernel.run() == "done"
    assert "clumsy-4: RuntimeError: in the clean-up" in kernel.printk.text()
    assert kernel.halted


def test_a_keyboard_interrupt_while_the_kernel_halts_is_not_lost(boot, log):
    def clumsy():
        try:
            msleep(10**6)
        finally:
            raise KeyboardInterrupt

    def polite():
        try:
            msleep(10**6)
        finally:
            log.append("polite")

    def init():
        kthread_run(clumsy)
        kthread_run(polite)
        msleep(1)

    kernel = boot(init)
    with pytest.raises(KeyboardInterrupt):
        kernel.run()
    assert kernel.halted
    assert log == ["polite"]


@pytest.mark.parametrize("timeout", [0, 1e-9])
def test_however_short_the_timeout_every_thread_gets_the_chance_to_end(boot, log, timeout):
    def sleeper(name):
        try:
            msleep(10**6)
        finally:
            log.append(name)

    def init():
        for name in "abc":
            kthread_run(sleeper, name)
        msleep(10**6)

    kernel = boot(init)
    kernel.lkl_run()
    assert kernel.lkl_sys_halt(timeout=timeout) == 0
    assert log == ["a", "b", "c"]


# -- who halts, and when


def test_a_thread_in_a_system_call_of_the_application(boot):
    kernel = boot(clock="monotonic")
    foreign = ForeignThread(kernel)
    foreign.start(kernel.lkl_syscall, NR_nanosleep, FOREVER_NS)
    run_until(kernel, lambda: len(kernel.pids) == 4)
    kernel.lkl_run()
    assert kernel.lkl_sys_halt() == 0
    assert foreign.result() == -errno.ESHUTDOWN
    foreign.end()


def test_the_owner_in_a_system_call(boot):
    kernel = boot(clock="monotonic")
    timer = threading.Timer(0.01, kernel.lkl_sys_halt)
    timer.start()
    assert kernel.lkl_syscall(NR_nanosleep, FOREVER_NS) == -errno.ESHUTDOWN
    timer.join()
    assert kernel.halted


def test_from_a_foreign_os_thread(boot, log):
    def sleeper():
        try:
            Completion().wait_for_completion()
        finally:
            log.append("unwound")

    kernel = boot(clock="monotonic")
    kernel.lkl_run()
    kernel.host_tasks.take_posts()
    foreign = ForeignThread(kernel)
    foreign.start(lambda: log.append(kernel.lkl_sys_halt()))
    assert kernel.run() is None
    foreign.result()
    foreign.end()
    assert kernel.halted
    assert log == [0]


def test_from_a_foreign_os_thread_while_nobody_runs_the_kernel(boot):
    kernel = boot()
    with pytest.raises(HaltTimeout, match="its owner's thread has not run it"):
        in_os_thread(lambda: kernel.lkl_sys_halt(timeout=0.01))
    assert not kernel.halted
    assert kernel.lkl_run().reason is RunReason.HALTED, "it was asked to, and does so as soon as it is run"


def test_from_a_kernel_thread(boot, log):
    def init():
        log.append(kernel.lkl_sys_halt())
        log.append("still here until it sleeps")
        try:
            msleep(1)
        finally:
            log.append("unwound")

    kernel = boot(init)
    kernel.run()
    assert log == [0, "still here until it sleeps", "unwound"]
    assert kernel.halted


@pytest.mark.parametrize("where", ["in a task", "in idle"])
def test_from_an_interrupt_handler(boot, log, where):
    def init():
        try:
            if where == "in a task":
                kernel.lkl_trigger_irq(irq)
                cond_resched()
            msleep(5)
        finally:
            log.append("unwound")

    kernel = boot(init)
    irq = kernel.lkl_get_free_irq("test")
    kernel.irq.request_irq(irq, lambda irq: log.append(kernel.lkl_sys_halt()), "test")
    if where == "in idle":
        kernel.lkl_run()
        kernel.lkl_trigger_irq(irq)
    assert kernel.lkl_run().reason is RunReason.HALTED
    assert log == [0, "unwound"]


def test_twice(boot):
    kernel = boot()
    kernel.lkl_run()
    assert [kernel.lkl_sys_halt() for _ in range(3)] == [0, 0, 0]


def test_in_the_middle_of_stepping(boot, log):
    def worker(name):
        try:
            waiting_for_its_turn()
        finally:
            log.append(name)

    def init():
        for name in "ab":
            kthread_run(worker, name)
        msleep(10)

    kernel = boot(init)
    for _ in range(12):
        kernel.lkl_run(RunUntil.SWITCH)
    assert kernel.lkl_sys_halt() == 0
    assert sorted(log) == ["a", "b"]


def test_at_every_step_of_a_program(configuration):
    """Wherever the kernel is stopped, it halts, and nothing is left."""

    def child(arg):
        msleep(1)

    def worker(mutex, gate):
        with mutex:
            msleep(1)
        kernel_thread(child)
        gate.complete()

    def init():
        mutex, gate = Mutex(), Completion()
        for _ in range(2):
            kthread_run(worker, mutex, gate)
        kthread_create(worker, mutex, gate)
        gate.wait_for_completion()
        gate.wait_for_completion()
        Timer(lambda timer: None).mod_timer_in(1000)
        msleep(2)

    steps = 0
    while True:
        kernel = lkl_start_kernel(init, clock="virtual", loglevel=0, on_oops="kill", **configuration)
        for _ in range(steps):
            kernel.pause(kernel.lkl_run(RunUntil.SWITCH))
        if kernel.halted:
            break
        assert kernel.lkl_sys_halt() == 0
        assert (len(kernel.pids), kernel.host.live()) == (0, LiveObjects()), steps
        steps += 1
    assert steps > 20


def test_after_a_panic(boot):
    def init():
        kthread_run(msleep, 1000)
        msleep(1)
        raise ValueError

    kernel = boot(init)
    with pytest.raises(KernelPanic):
        while True:
            kernel.pause(kernel.lkl_run())
    assert not kernel.halted
    assert kernel.lkl_sys_halt() == 0
    assert kernel.halted
    assert len(kernel.pids) == 0


def test_after_a_deadlock(boot, log):
    def init():
        try:
            Mutex(name="never").lock()
            Completion(name="never").wait_for_completion()
        finally:
            log.append("unwound")

    kernel = boot(init)
    status = kernel.lkl_run()
    assert status.reason is RunReason.DEADLOCK
    with pytest.raises(Deadlock, match="never"):
        kernel.pause(status)
    assert kernel.lkl_sys_halt() == 0
    assert log == ["unwound"]


def test_run_halts_a_deadlocked_kernel_on_its_way_out(boot, log):
    def init():
        try:
            Completion(name="never").wait_for_completion()
        finally:
            log.append("unwound")

    kernel = boot(init)
    with pytest.raises(Deadlock, match="init-1"):
        kernel.run()
    assert kernel.halted
    assert log == ["unwound"]


def test_with_halts_at_its_end(configuration):
    with lkl_start_kernel(None, loglevel=0, **configuration) as kernel:
        assert kernel.lkl_syscall(NR_getpid) == 1
    assert kernel.halted
    assert kernel.host.live() == LiveObjects()


def test_with_halts_when_its_body_raises_and_the_bodys_error_leaves(configuration, monkeypatch):
    monkeypatch.setattr(threads, "UNWIND_TIMEOUT_S", 0.05)

    def init():
        kthread_run(swallow, [], name="stubborn")
        msleep(10**6)

    with pytest.raises(KeyError), lkl_start_kernel(init, clock="virtual", loglevel=0, **configuration) as kernel:
        for _ in range(3):
            kernel.pause(kernel.lkl_run())
        raise KeyError("in the body")
    assert kernel.halted


def test_with_a_halt_in_its_body(configuration):
    with lkl_start_kernel(lambda: "done", loglevel=0, **configuration) as kernel:
        assert kernel.run() == "done"
    assert kernel.halted


# -- again


def test_boot_after_halt_ten_times_in_one_process_gives_the_same_trace_each_time(configuration, eventually):
    def worker(number):
        msleep(number)

    def init():
        for number in range(3):
            kthread_run(worker, number, name="worker/%d")
        msleep(2)
        return "done"

    traces = set()
    before = live_contexts()
    for _ in range(10):
        kernel = lkl_start_kernel(init, clock="virtual", loglevel=0, trace=True, **configuration)
        assert kernel.run() == "done"
        assert kernel.host.live() == LiveObjects()
        traces.add(format_trace(kernel.sched.trace.records))
        del kernel
        assert eventually(lambda: no_more_than(before))
    assert len(traces) == 1


def test_the_result_of_run_is_inits_and_none_if_the_kernel_was_halted_before(boot):
    assert boot(lambda: 7).run() == 7
    assert boot(lambda: None).run() is None
    halted = boot(lambda: msleep(1000) or 7)
    halted.lkl_run()
    halted.power_off()
    assert halted.run() is None
