"""What cooperative systems have in common, rules 128 to 133, and how time comes in, rule 89; in every configuration."""

from __future__ import annotations

import gc
import weakref

import pytest

from lkl_green import format_trace
from lkl_green.errors import SchedulingWhileAtomic
from lkl_green.linux import (
    SIGCHLD,
    TASK_INTERRUPTIBLE,
    Completion,
    SpinLock,
    Timer,
    WaitQueueHead,
    current,
    current_kernel,
    do_exit,
    in_interrupt,
    kernel_thread,
    kernel_wait4,
    kthread_create,
    kthread_run,
    kthread_stop,
    msleep,
    request_irq,
    schedule_timeout,
    set_current_state,
    wake_up_process,
    yield_,
)


def test_rule_128_every_switch_is_announced_before_it_happens(boot):
    def worker(number):
        for _ in range(number):
            yield_()
            msleep(1)

    def init():
        for number in (1, 2, 3):
            kthread_run(worker, number, name="worker/%d")
        msleep(10)

    kernel = boot(init, trace=True)
    before = kernel.sched.nr_switches
    kernel.run()
    switches = [record for record in kernel.sched.trace.records if record.event == "sched_switch"]
    assert len(switches) == kernel.sched.nr_switches - before > 30
    for record in switches:
        assert (record.comm, record.pid) == record.fields[:2], "the one that leaves is still current"
    entered = [record.fields[4:6] for record in switches]
    left = [record.fields[:2] for record in switches]
    assert left[1:] == entered[:-1], "and each switch begins where the last one ended"


def test_rule_129_nobody_buries_himself(run, log):
    def mourn(pid):
        log.append((pid, current().pid))

    def thread():
        weakref.finalize(current(), mourn, current().pid)

    def init():
        for _ in range(5):
            kthread_run(thread)
        msleep(1)
        gc.collect()
        yield_()
        gc.collect()

    run(init)
    assert len(log) >= 4
    assert all(dead != alive for dead, alive in log)


def test_rule_130_waking_a_task_that_is_awake_changes_nothing(run, log):
    def other():
        log.append("other ran")

    def init():
        task = kthread_create(other)
        log.append([wake_up_process(task), wake_up_process(task), wake_up_process(current())])
        yield_()
        yield_()

    run(init)
    assert log == [[True, False, False], "other ran"]


def test_rule_130_a_sleep_that_is_cut_short_returns_what_is_left(run, log):
    def sleeper():
        set_current_state(TASK_INTERRUPTIBLE)
        left = schedule_timeout(10_000_000)
        log.append(0 < left < 10_000_000)
        set_current_state(TASK_INTERRUPTIBLE)
        log.append(schedule_timeout(1_000_000))

    def init():
        task = kthread_run(sleeper)
        msleep(3)
        wake_up_process(task)
        msleep(5)

    run(init)
    assert log == [True, 0]


def test_rule_130_a_wait_times_out_exactly_if_nobody_came(run, log):
    def waiter(timeout_ns):
        left = queue.wait_event_timeout(lambda: ready, timeout_ns)
        log.append((timeout_ns, left > 0, queue.waitqueue_active()))

    def init():
        nonlocal queue
        queue = WaitQueueHead()
        kthread_run(waiter, 1_000_000)
        msleep(3)
        kthread_run(waiter, 9_000_000)
        msleep(3)
        ready.append(True)
        queue.wake_up()
        msleep(10)

    queue, ready = None, []
    run(init)
    assert log == [(1_000_000, False, False), (9_000_000, True, False)]


def test_rule_131_who_holds_a_lock_that_others_spin_on_must_not_yield(run, log):
    def init():
        lock = SpinLock()
        with lock, pytest.raises(SchedulingWhileAtomic):
            yield_()
        log.append(lock.owner)
        yield_()

    run(init)
    assert log == [None]


def test_rule_132_a_thread_that_was_created_to_be_joined_can_be_joined_after_its_end(run):
    def init():
        task = kthread_run(lambda: "result")
        msleep(1)
        return kthread_stop(task), kthread_stop(task)

    assert run(init) == ("result", "result")


def test_rule_132_a_child_stays_until_it_is_waited_for_and_others_cannot_be(run, log):
    def init():
        child = kernel_thread(lambda arg: do_exit(5), flags=SIGCHLD)
        kernel_thread(lambda arg: do_exit(6))
        msleep(1)
        log.append([task.pid for task in current_kernel().pids if task.parent is current()])
        log.append(kernel_wait4(child))
        with pytest.raises(ChildProcessError):
            kernel_wait4()
        log.append([task.pid for task in current_kernel().pids if task.parent is current()])

    run(init)
    assert log == [[4], (4, 5), []]


def story(log):
    """Threads that interleave, sleep, wait and wake."""

    def worker(number):
        for turn in range(3):
            log.append((number, turn))
            msleep(number)
            yield_()
        done.complete()

    done = Completion()
    for number in (1, 2, 3):
        kthread_run(worker, number, name="worker/%d")
    for _ in range(3):
        done.wait_for_completion()


def test_rule_133_the_same_program_gives_the_same_trace(boot):
    runs = []
    for _ in range(3):
        log = []
        kernel = boot(story, log, trace=True)
        kernel.run()
        runs.append((log, format_trace(kernel.sched.trace.records)))
    assert runs[0] == runs[1] == runs[2]


def test_rule_133_in_whatever_configuration(parity):
    assert "worker/3" in parity(story, [])


def test_rule_133_but_another_program_gives_another_one(boot):
    traces = set()
    for number in (1, 2):
        kernel = boot(lambda number=number: kthread_run(msleep, number) and msleep(5), trace=True)
        kernel.run()
        traces.add(format_trace(kernel.sched.trace.records))
    assert len(traces) == 2


def test_rule_89_a_timer_comes_as_an_interrupt_like_any_other(run, log):
    """UML delivers its timer event through the same entry as a signal, and every other event inside irq_enter()."""

    def handler(irq):
        log.append(("irq", in_interrupt(), current().irqs_disabled))

    def callback(timer):
        log.append(("timer", in_interrupt(), current().irqs_disabled))

    def init():
        kernel = current_kernel()
        irq = kernel.lkl_get_free_irq("test")
        request_irq(irq, handler, "test")
        kernel.lkl_trigger_irq(irq)
        Timer(callback).mod_timer_in(1_000)
        count = kernel.irq.statistics()[kernel.timers.irq]
        msleep(1)
        log.append((in_interrupt(), count < kernel.irq.statistics()[kernel.timers.irq]))

    run(init)
    assert log == [("irq", True, True), ("timer", True, False), (False, True)]
