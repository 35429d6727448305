"""Tasks that are blocked for too long, or for good, and the report of every task's state."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from lkl_green import Kernel, RunReason
from lkl_green.compare.parity import parity as compare
from lkl_green.errors import Deadlock
from lkl_green.linux import (
    TASK_INTERRUPTIBLE,
    Completion,
    Mutex,
    WaitQueueHead,
    current_kernel,
    kernel_power_off,
    kernel_thread,
    kthread_create,
    kthread_run,
    kthread_stop,
    msleep,
    request_irq,
    schedule,
    set_current_state,
    ssleep,
    wait_event_interruptible,
    yield_,
)

WATCHED = {"hung_task_timeout_s": 120}


def hung(kernel: Kernel) -> list[str]:
    return [record.text for record in kernel.printk.records if record.text.startswith("INFO: task")]


def ticks() -> None:
    while True:
        msleep(500)


def waits(done: Completion) -> None:
    done.wait_for_completion()


def ends_after(seconds: int) -> None:
    ssleep(seconds)
    kernel_power_off()


def with_ticks(what, seconds: int = 250):
    """An init that starts `what`, while another thread sleeps and wakes, until the power is switched off."""

    def init():
        kthread_run(ticks, name="ticks")
        kthread_run(ends_after, seconds, name="off")
        what()

    return init


# -- who is hung


def test_a_task_that_waits_for_ever_is_told_with_its_stack_and_who_holds_what(boot):
    def init():
        lock, never = Mutex(name="lock"), Completion(name="never")

        def holder():
            with lock:
                waits(never)

        kthread_run(holder, name="holder")
        yield_()
        with lock:
            pass

    kernel = boot(with_ticks(init), **WATCHED)
    kernel.run()
    assert hung(kernel) == [f"INFO: task {who} blocked for more than 120 seconds." for who in ("init:1", "holder:6")]
    text = kernel.printk.text()
    assert "waiting for <Mutex lock held by holder-6 waiters: init-1>, which holder-6 holds" in text
    assert "in waits\n" in text
    first = next(record for record in kernel.printk.records if "INFO: task init:1" in record.text)
    assert 120 <= first.time_ns / 1e9 <= 136


def test_kthread_stop_of_a_thread_that_does_not_look_is_told(boot):
    def init():
        thread = kthread_run(ticks)
        yield_()
        kthread_stop(thread)

    kernel = boot(with_ticks(init), **WATCHED)
    kernel.run()
    assert hung(kernel) == ["INFO: task init:1 blocked for more than 120 seconds."]


def test_without_a_time_out_nobody_looks(boot):
    kernel = boot(with_ticks(lambda: waits(Completion())))
    kernel.run()
    assert hung(kernel) == []


def test_sleepers_with_a_time_out_interruptible_and_killable_ones_and_newborns_are_not_hung(boot):
    def interruptible():
        set_current_state(TASK_INTERRUPTIBLE)
        schedule()

    def init():
        queue, done = WaitQueueHead(), Completion()
        kthread_run(ssleep, 10_000)
        kthread_run(done.wait_for_completion_timeout, 10**13)
        kthread_run(wait_event_interruptible, queue, lambda: False)
        kthread_run(queue.wait_event_killable, lambda: False)
        kthread_run(interruptible)
        kthread_create(ticks)
        ssleep(10_000)

    kernel = boot(with_ticks(init, 1_000), **WATCHED)
    kernel.run()
    assert hung(kernel) == []


def test_a_task_that_blocks_again_and_again_is_not_hung(boot):
    def init():
        for _ in range(30):
            done = Completion()
            kthread_run(lambda done=done: (ssleep(10), done.complete()))
            waits(done)

    kernel = boot(with_ticks(init, 1_000), **WATCHED)
    kernel.run()
    assert hung(kernel) == []


def test_one_jump_of_the_clock_is_long_enough(boot):
    """Idle jumps over an hour at once: who slept meanwhile has been blocked for that long."""

    def init():
        done = Completion()
        kthread_run(lambda: (ssleep(3600), done.complete()))
        waits(done)

    kernel = boot(init, **WATCHED)
    kernel.run()
    assert hung(kernel) == ["INFO: task init:1 blocked for more than 120 seconds."]


def test_ten_reports_are_enough(boot):
    def init():
        for _ in range(12):
            kthread_run(waits, Completion())
        ssleep(10_000)

    kernel = boot(with_ticks(init, 300), **WATCHED)
    kernel.run()
    assert len(hung(kernel)) == 10
    assert kernel.printk.text().count("Future hung task reports are suppressed") == 1


def test_a_busy_kernel_is_looked_at_too(boot):
    """Time that passes by reading the clock, without idle."""

    def init():
        kthread_run(waits, Completion(), name="waits")
        clock = current_kernel().clock
        yield_()
        for _ in range(1_000):
            clock.advance_to(clock.peek_ns() + 10**9)
            yield_()

    kernel = boot(init, **WATCHED)
    kernel.run()
    assert hung(kernel) == ["INFO: task waits:4 blocked for more than 120 seconds."]


def test_real_time_is_looked_at_after_the_host_has_slept(boot):
    """Nothing is armed and an interrupt may come: pause() wakes up by itself to look."""

    def init():
        kernel = current_kernel()
        request_irq(kernel.lkl_get_free_irq("device"), lambda irq: None, "device")
        waits(Completion())

    kernel = boot(init, clock="monotonic", hung_task_timeout_s=0.02)
    while not hung(kernel):
        kernel.pause(kernel.lkl_run())
    assert hung(kernel) == ["INFO: task init:1 blocked for more than 0.02 seconds."]


def test_a_deadlock_stays_a_deadlock_and_traces_stay_what_they_are(boot):
    kernel = boot(lambda: waits(Completion()), **WATCHED)
    with pytest.raises(Deadlock):
        kernel.run()
    assert kernel.clock.peek_ns() < 10_000
    init = with_ticks(lambda: waits(Completion()))
    watched, unwatched = (compare(init, loglevel=0, **options) for options in (WATCHED, {}))
    assert watched.equal
    assert watched.runs[0].trace == unwatched.runs[0].trace


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_time_out_must_be_above_0(boot, seconds):
    with pytest.raises(ValueError, match="hung_task_timeout_s"):
        boot(ticks, hung_task_timeout_s=seconds)


# -- what is left at halt


def test_rule_46_halting_warns_of_processes_and_of_threads_that_run(boot):
    def init():
        current_kernel().register_program("/bin/p", lambda sys, argv, envp: sys.nanosleep(10**12))
        kernel_thread(lambda arg: current_kernel().exec.kernel_execve("/bin/p"))
        kthread_run(lambda: [schedule() for _ in range(1_000)], name="busy")
        kthread_run(ssleep, 1_000, name="sleeps")
        for _ in range(20):
            schedule()

    kernel = boot(init)
    kernel.run()
    warnings = [record for record in kernel.printk.records if record.text.startswith("WARNING")]
    assert [record.text for record in warnings] == [
        "WARNING: non kernel thread task p",
        "WARNING: thread busy still running while halting",
    ]
    assert {record.level for record in warnings} == {4}


def test_whoever_switches_the_power_off_runs_of_course(boot):
    def init():
        kthread_run(kernel_power_off)
        ssleep(1)

    kernel = boot(init)
    kernel.run()
    assert kernel.printk.text() == ""


def abba():
    one, two = Mutex(name="one"), Mutex(name="two")

    def takes(first, second):
        with first:
            msleep(1)
            with second:
                pass

    kthread_run(takes, one, two, name="ab")
    kthread_run(takes, two, one, name="ba")
    ssleep(1)


def test_threads_in_a_cycle_are_left_blocked_when_init_ends(boot):
    kernel = boot(abba)
    kernel.run()
    lines = kernel.left_blocked.splitlines()
    assert lines[0] == "init has ended, and ab-4, ba-5 are blocked for good (state D)"
    assert lines[1] == "a cycle: ab-4 -> ba-5 -> ab-4, each waits for the next"
    assert "task ab-4: UNINTERRUPTIBLE for at least 0.999 s, waiting for <Mutex two held by ba-5" in lines[2]
    assert "  in takes" not in lines[3]
    assert "in takes" in lines[3]


def test_a_thread_that_waits_for_one_in_a_cycle_is_blocked_too_and_one_that_waits_for_a_sleeper_is_not(boot):
    def init():
        lock = Mutex(name="slow")

        def sleeps():
            with lock:
                ssleep(1_000)

        def queues():
            with lock:
                pass

        kthread_run(sleeps)
        yield_()
        kthread_run(queues, name="queues")
        abba()

    kernel = boot(init)
    kernel.run()
    assert "and ab-6, ba-7 are blocked for good" in kernel.left_blocked


def test_a_waiter_that_somebody_may_still_wake_is_not_blocked_for_good(boot):
    def init(helper):
        done = Completion(name="done")
        kthread_run(waits, done, name="waits")
        if helper:
            kthread_run(lambda: (ssleep(10), done.complete()))
        msleep(1)

    with_helper, alone = boot(init, True), boot(init, False)
    with_helper.run()
    assert with_helper.left_blocked == ""
    alone.run()
    assert "and waits-4 is blocked for good" in alone.left_blocked


def test_service_threads_and_interruptible_sleepers_may_be_left(boot):
    def init():
        kthread_run(wait_event_interruptible, WaitQueueHead(), lambda: False)
        kthread_run(ticks)
        msleep(1)

    kernel = boot(init)
    kernel.run()
    assert kernel.left_blocked == ""
    assert kernel.printk.text() == ""


# -- the report


def test_the_report_tells_state_since_when_what_for_who_holds_it_and_where(boot, log):
    def init():
        kthread_run(ticks, name="ticks")
        kthread_create(ticks, name="newborn")
        abba()
        log.append(current_kernel().report())

    boot(init).run()
    blocks = {block.split(":")[0]: block for block in log[0].split("task ")[1:]}
    assert log[0].startswith("kernel lkl0 at 1.00")
    assert "a cycle: ab-6 -> ba-7 -> ab-6, each waits for the next\n" in log[0]
    assert blocks["init-1"].startswith("init-1: RUNNING\n")
    assert "current_kernel().report()" in blocks["init-1"]
    held = "for at least 0.999 s, waiting for <Mutex two held by ba-7 waiters: ab-6>, which ba-7 holds\n"
    assert held in blocks["ab-6"]
    assert "with a time-out at 1.5" in blocks["ticks-4"]
    assert "(has not run)" in blocks["newborn-5"]
    assert blocks["kthreadd-2"].count("\n") == 1, "a service thread's stack says nothing"
    assert "lkl_green/" not in log[0].replace(__file__, "")


def test_the_report_is_the_same_in_all_configurations():
    reports = set()

    def init():
        abba()
        reports.add(current_kernel().report())

    assert compare(init, loglevel=0).equal
    assert len(reports) == 1


def test_a_joined_thread_is_told_as_what_has_to_end(boot, log):
    def init():
        target = kthread_run(ticks, name="target")
        kthread_run(kthread_stop, target, name="stops")
        msleep(1)
        log.append(current_kernel().report())

    boot(init).run()
    assert "task stops-5" in log[0]


def test_a_signal_handler_and_the_application_can_ask(boot, log):
    """In the middle of whatever runs, and while the kernel is idle. Python runs the handler in the main thread."""

    def init():
        def spins():
            signal.raise_signal(signal.SIGUSR1)

        kthread_run(spins, name="spins")
        waits(Completion(name="godot"))

    previous: Any = signal.signal(signal.SIGUSR1, lambda number, frame: log.append(kernel.report()))
    try:
        kernel = boot(init)
        status = kernel.lkl_run()
        while not log:
            status = kernel.lkl_run()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert "task init-1: UNINTERRUPTIBLE" in log[0]
    assert status.reason is RunReason.DEADLOCK
    assert "waiting for <Completion godot" in kernel.report()
