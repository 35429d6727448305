"""Timers, sleeping, and virtual time: rules 118, 126, and 84 to 92.

Rules 84 to 94 are UML's time travel. Of its modes there are OFF (clock="monotonic") and INFCPU (clock="virtual"); BASIC
and EXTERNAL, and with them rules 87's restriction and 93, have no counterpart, nor has calibrate_delay() (rule 94).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkl_green import KernelPanic, VirtualClock, lkl_start_kernel
from lkl_green.errors import KernelBug
from lkl_green.kernel.timer import _STALE_LIMIT
from lkl_green.linux import (
    MAX_SCHEDULE_TIMEOUT,
    SCHED_FIFO,
    SIGKILL,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    Completion,
    SpinLock,
    Timer,
    allow_signal,
    cond_resched,
    cpu_relax,
    current,
    current_kernel,
    del_timer,
    del_timer_sync,
    in_interrupt,
    kthread_create,
    kthread_run,
    ktime_get,
    local_irq_disable,
    local_irq_enable,
    mod_timer,
    msleep,
    msleep_interruptible,
    ndelay,
    preempt_disable,
    preempt_enable,
    request_irq,
    sched_setscheduler,
    schedule,
    schedule_timeout,
    schedule_timeout_interruptible,
    schedule_timeout_uninterruptible,
    send_sig,
    set_current_state,
    signal_pending,
    ssleep,
    usleep,
    wake_up_process,
    yield_,
)

US = 1_000
MS = 1_000_000
S = 1_000_000_000


# -- rule 118: schedule_timeout()


def test_rule_118_a_timeout_that_passes_leaves_nothing(run, log):
    def init():
        start = ktime_get()
        log.append(schedule_timeout_uninterruptible(5 * MS))
        log.append(ktime_get() - start >= 5 * MS)

    run(init)
    assert log == [0, True]


def test_rule_118_a_wake_up_leaves_the_rest(run, log):
    def sleeper():
        left = schedule_timeout_interruptible(10 * MS)
        log.append(6 * MS < left <= 7 * MS)
        log.append(len(current_kernel().timers))

    def init():
        task = kthread_run(sleeper)
        msleep(3)
        wake_up_process(task)
        yield_()

    run(init)
    assert log == [True, 0]


def test_rule_118_the_maximum_sets_no_timer(boot, log):
    def sleeper():
        set_current_state(TASK_INTERRUPTIBLE)
        log.append(schedule_timeout(MAX_SCHEDULE_TIMEOUT) == MAX_SCHEDULE_TIMEOUT)

    def init():
        task = kthread_run(sleeper)
        yield_()
        log.append(len(current_kernel().timers))
        wake_up_process(task)
        yield_()

    boot(init).run()
    assert log == [0, True]


def test_rule_118_a_negative_timeout_is_logged_and_does_not_sleep(run, log):
    def init():
        set_current_state(TASK_UNINTERRUPTIBLE)
        log.append(schedule_timeout(-5))
        log.append(current().state == TASK_RUNNING)
        assert "wrong timeout value -5" in current_kernel().printk.text()

    run(init)
    assert log == [0, True]


def test_rule_118_a_timeout_of_0_lets_others_run(run, log):
    def init():
        kthread_run(log.append, "other")
        yield_()
        log.append(schedule_timeout_uninterruptible(0))

    run(init)
    assert log == ["other", 0]


def test_rule_118_a_task_that_is_running_only_yields(run, log):
    def init():
        left = schedule_timeout(10 * MS)
        log.append(left > 9 * MS)
        log.append(len(current_kernel().timers))

    run(init)
    assert log == [True, 0]


def test_sleeping_where_it_is_forbidden_leaves_no_timer(run, log):
    def init():
        preempt_disable()
        with pytest.raises(KernelBug, match="scheduling while atomic"):
            msleep(1)
        preempt_enable()
        log.append((len(current_kernel().timers), current().state))

    run(init)
    assert log == [(0, 0)]


# -- sleeping


@pytest.mark.parametrize(
    ("sleep", "ns"), [(lambda: msleep(3), 3 * MS), (lambda: usleep(7), 7 * US), (lambda: ssleep(2), 2 * S)]
)
def test_sleeps_are_never_short_and_hardly_longer(run, log, sleep, ns):
    def init():
        start = ktime_get()
        sleep()
        log.append(ktime_get() - start)

    run(init)
    assert ns <= log[0] < ns + 10 * US


def test_msleep_ignores_wake_ups(run, log):
    def sleeper():
        start = ktime_get()
        msleep(10)
        log.append(ktime_get() - start >= 10 * MS)

    def init():
        task = kthread_run(sleeper)
        for _ in range(5):
            msleep(1)
            wake_up_process(task)
        msleep(10)

    run(init)
    assert log == [True]


def test_msleep_interruptible_ends_with_a_signal(run, log):
    def sleeper():
        allow_signal(SIGKILL)
        log.append(6 < msleep_interruptible(10) <= 7)
        log.append(signal_pending())
        log.append(9 < msleep_interruptible(10) <= 10)

    def init():
        task = kthread_run(sleeper)
        msleep(3)
        send_sig(SIGKILL, task)
        msleep(1)

    run(init)
    assert log == [True, True, True]


def test_sleeping_for_no_time_or_less_does_not_sleep(run, log):
    def init():
        kthread_run(log.append, "other")
        for sleep in (msleep, usleep, ssleep):
            sleep(0)
        msleep(-1)
        log.append("init")
        yield_()

    run(init)
    assert log == ["init", "other"]


def test_sleepers_wake_in_the_order_of_their_times(run, log):
    def sleeper(ms):
        msleep(ms)
        log.append(ms)

    def init():
        for ms in (5, 1, 4, 2, 3):
            kthread_run(sleeper, ms)
        msleep(10)

    run(init)
    assert log == [1, 2, 3, 4, 5]


def test_a_real_clock_is_never_early_either(boot, log):
    def sleeper(ms):
        start = ktime_get()
        msleep(ms)
        log.append(ktime_get() - start >= ms * MS)

    def init():
        done = Completion()
        for ms in (2, 1, 3):
            kthread_run(lambda ms: (sleeper(ms), done.complete()), ms)
        for _ in range(3):
            done.wait_for_completion()
        log.append(current_kernel().clock.is_virtual)

    boot(init, clock="monotonic").run()
    assert log == [True, True, True, False]


# -- rule 126: timers


def test_rule_126_a_timer_is_never_early(run, log):
    def init():
        due = ktime_get() + 5 * MS
        mod_timer(Timer(lambda timer: log.append(ktime_get() >= due)), due)
        msleep(4)
        log.append("not yet")
        msleep(2)

    run(init)
    assert log == ["not yet", True]


def test_rule_126_callbacks_run_in_a_softirq_with_their_timer(run, log):
    def callback(timer):
        log.append((timer is mine, in_interrupt(), current().irqs_disabled, timer.pending))

    mine: Timer

    def init():
        nonlocal mine
        mine = Timer(callback)
        mod_timer(mine, ktime_get() + MS)
        msleep(2)

    run(init)
    assert log == [(True, True, False, False)]


def test_rule_126_mod_timer_tells_whether_it_was_armed(run, log):
    def init():
        timer = Timer(lambda timer: log.append(ktime_get() // MS))
        log.append(mod_timer(timer, ktime_get() + 2 * MS))
        log.append(mod_timer(timer, ktime_get() + 5 * MS))
        msleep(10)
        log.append(mod_timer(timer, ktime_get() + MS))
        msleep(2)

    run(init)
    assert log == [False, True, 5, False, 11]


def test_rule_126_a_timer_can_be_moved_to_an_earlier_time(run, log):
    def init():
        timer = Timer(lambda timer: log.append(ktime_get() // MS))
        mod_timer(timer, ktime_get() + 1000 * MS)
        mod_timer(timer, ktime_get() + 2 * MS)
        msleep(5)

    run(init)
    assert log == [2]


def test_rule_126_add_timer_on_a_pending_timer_is_a_bug(run, log):
    def init():
        timer = Timer(lambda timer: log.append("fires"))
        timer.add_timer(ktime_get() + MS)
        with pytest.raises(KernelBug, match="use mod_timer"):
            timer.add_timer(ktime_get() + 2 * MS)
        msleep(5)
        timer.add_timer(ktime_get() + MS)
        msleep(2)

    run(init)
    assert log == ["fires", "fires"]


def test_rule_126_del_timer_tells_whether_it_was_armed(run, log):
    def init():
        timer = Timer(lambda timer: log.append("never"))
        for delete in (del_timer, del_timer_sync):
            assert not delete(timer)
            mod_timer(timer, ktime_get() + MS)
            assert timer.pending
            assert delete(timer)
            assert not timer.pending
            assert not delete(timer)
        msleep(5)

    run(init)
    assert log == []


def test_rule_126_del_timer_sync_must_not_be_called_by_the_callback(boot, log):
    def callback(timer):
        for wait in (del_timer_sync, Timer.shutdown):
            with pytest.raises(KernelBug, match="wait for itself"):
                wait(timer)
        log.append(del_timer(timer))
        log.append(mod_timer(timer, ktime_get() + MS) if len(log) < 2 else None)

    def init():
        timer = Timer(callback)
        mod_timer(timer, ktime_get() + MS)
        msleep(5)
        log.append(del_timer_sync(timer))

    boot(init).run()
    assert log == [False, False, False, None, False]


def test_rule_126_shutdown_forbids_arming(run, log):
    def init():
        timer = Timer(lambda timer: log.append("never"))
        mod_timer(timer, ktime_get() + MS)
        assert timer.shutdown()
        assert not timer.shutdown()
        assert not mod_timer(timer, ktime_get() + MS)
        timer.add_timer(ktime_get() + MS)
        assert not timer.mod_timer_in(MS)
        assert not timer.pending
        msleep(5)

    run(init)
    assert log == []


def test_timers_of_one_moment_expire_in_the_order_of_arming(run, log):
    def init():
        due = ktime_get() + MS
        timers = [Timer(lambda timer, name=name: log.append(name)) for name in "abcde"]
        for timer in timers:
            mod_timer(timer, due)
        mod_timer(timers[1], due)  # moved: it is the last one now
        del_timer(timers[3])
        msleep(2)
        log.append(len(current_kernel().timers))

    run(init)
    assert log == ["a", "c", "e", "b", 0]


def test_a_callback_may_arm_its_timer_again(run, log):
    def tick(timer):
        log.append(timer.expires_ns)
        if len(log) < 5:
            mod_timer(timer, timer.expires_ns + MS)

    def init():
        mod_timer(Timer(tick), 10 * MS)
        msleep(20)

    run(init)
    assert log == [10 * MS, 11 * MS, 12 * MS, 13 * MS, 14 * MS]


def test_a_callback_may_arm_and_disarm_others(run, log):
    def init():
        due = ktime_get() + MS
        victim, heir = Timer(lambda timer: log.append("never")), Timer(lambda timer: log.append("heir"))

        def callback(timer):
            log.append(del_timer(victim))
            log.append(mod_timer(heir, ktime_get()))

        mod_timer(Timer(callback), due)
        mod_timer(victim, due)
        msleep(2)

    run(init)
    assert log == [True, False, "heir"]


def test_a_callback_that_disarms_very_many_does_not_upset_the_order(run, log):
    """The heap is rebuilt while it is being worked off."""

    def init():
        due = ktime_get() + MS
        many = [Timer(lambda timer: log.append("never")) for _ in range(4 * _STALE_LIMIT)]

        def callback(timer):
            for other in many:
                del_timer(other)

        mod_timer(Timer(callback), due)
        for timer in many:
            mod_timer(timer, due + MS)
        for name in "abc":
            mod_timer(Timer(lambda timer, name=name: log.append(name)), due)
        msleep(5)
        assert len(current_kernel().timers) == 0

    run(init)
    assert log == ["a", "b", "c"]


def test_idle_does_not_wait_for_a_timer_that_was_disarmed(kernel):
    first, second = (Timer(lambda timer: None, kernel=kernel) for _ in range(2))
    first.mod_timer(MS)
    second.mod_timer(2 * MS)
    first.del_timer()
    assert kernel.lkl_run().next_event_ns == 2 * MS
    second.del_timer()
    assert kernel.lkl_run().next_event_ns is None


def test_a_timer_in_the_past_fires_soon(run, log):
    def init():
        msleep(5)
        mod_timer(Timer(lambda timer: log.append("fires")), MS)
        assert log == []
        msleep(1)

    run(init)
    assert log == ["fires"]


@pytest.mark.parametrize("past_ns", [0, 1, 3 * MS])
def test_a_timer_that_arms_itself_in_the_past_keeps_no_other_from_expiring(run, log, past_ns):
    """Linux puts such a timer into the next jiffy, behind all that is due."""

    def again(timer):
        log.append("again")
        if len(log) < 10_000:
            timer.mod_timer(past_ns)

    def init():
        msleep(3)
        mod_timer(Timer(again), ktime_get())
        start = ktime_get()
        usleep(20)
        return ktime_get() - start

    assert run(init) < 30 * US
    assert 5 < len(log) < 1_000


def test_timers_that_callbacks_arm_in_the_past_expire_in_order_behind_those_that_are_due(run, log):
    def first(timer):
        log.append("first")
        for name, expires_ns in (("b", 2), ("a", 1), ("never", 0), ("c", 3)):
            late = Timer(lambda timer: log.append(timer.name), name=name)
            mod_timer(late, expires_ns)
            if name == "never":
                assert del_timer(late)

    def init():
        local_irq_disable()
        start = ktime_get()
        mod_timer(Timer(first), start + 1)
        for number in range(3):
            mod_timer(Timer(lambda timer, number=number: log.append(number)), start + 2 + number)
        ndelay(10 * US)
        local_irq_enable()
        msleep(1)

    run(init)
    assert log == ["first", 0, 1, 2, "a", "b", "c"]


def test_a_callback_may_disarm_many_timers_while_others_wait_behind(run, log):
    def first(timer):
        mod_timer(Timer(lambda timer: log.append("again")), 1)
        for other in others:
            del_timer(other)

    others: list[Timer] = []

    def init():
        others.extend(Timer(lambda timer: log.append("disarmed")) for _ in range(4 * _STALE_LIMIT))
        start = ktime_get()
        for other in others:
            mod_timer(other, start + MS)
        mod_timer(Timer(first), start)
        msleep(2)
        assert len(current_kernel().timers) == 0

    run(init)
    assert log == ["again"]


@pytest.mark.parametrize("wait", [msleep, lambda ms: ndelay(ms * MS)])
def test_a_timer_that_is_always_due_stops_nobody(run, log, wait):
    """Callbacks that poll: time passes between two of them, or everybody else would sleep for ever."""

    def poll(timer):
        if len(log) < 100_000:
            log.append("polls")
            mod_timer(timer, ktime_get())

    def init():
        mod_timer(Timer(poll), ktime_get())
        wait(1)
        return "done"

    assert run(init) == "done"
    assert 1 < len(log) < 10_000


def test_a_timer_interrupts_a_task_at_its_scheduling_points(run, log):
    def init():
        timer = Timer(lambda timer: log.append((current().comm, ktime_get() - timer.expires_ns <= 2 * US)))
        mod_timer(timer, ktime_get() + 100 * US)
        while not log:
            ktime_get()
            cond_resched()

    run(init)
    assert log == [("init", True)]


def test_rule_72_a_busy_wait_with_cpu_relax_sees_a_timer(run, log):
    def init():
        mod_timer(Timer(lambda timer: log.append("fires")), ktime_get() + 100 * US)
        for _ in range(10_000):
            if log:
                break
            cpu_relax()

    run(init)
    assert log == ["fires"]


def test_a_busy_wait_with_cpu_relax_sees_a_timer_of_a_real_clock(boot, log):
    def init():
        mod_timer(Timer(lambda timer: log.append("fires")), ktime_get() + 100 * US)
        end = ktime_get() + S
        while not log and ktime_get() < end:
            cpu_relax()

    boot(init, clock="monotonic").run()
    assert log == ["fires"]


def test_a_timer_waits_while_interrupts_are_disabled(run, log):
    def init():
        mod_timer(Timer(lambda timer: log.append("fires")), ktime_get() + MS)
        local_irq_disable()
        ndelay(5 * MS)
        cond_resched()
        log.append("enables")
        local_irq_enable()
        log.append("enabled")

    run(init)
    assert log == ["enables", "fires", "enabled"]


def test_disarmed_timers_do_not_pile_up(run):
    """Of a timer that is moved again and again, as a watchdog is, the heap keeps a bounded number of old entries."""

    def init():
        timers = current_kernel().timers
        keep = Timer(lambda timer: None)
        mod_timer(keep, S)
        timer = Timer(lambda timer: None)
        for n in range(10_000):
            mod_timer(timer, 2 * S + n)
        assert len(timers) == 2
        assert len(timers._heap) <= 4 * _STALE_LIMIT
        del_timer(timer)
        del_timer(keep)
        assert len(timers) == 0

    run(init)


# -- errors


def test_an_exception_in_a_callback_is_an_oops_without_a_victim(boot, log):
    def fails(timer):
        raise ZeroDivisionError("in a timer")

    def init():
        due = ktime_get() + MS
        bad = Timer(fails, name="bad")
        mod_timer(bad, due)
        mod_timer(Timer(lambda timer: log.append("the next timer")), due)
        msleep(2)
        log.append(del_timer_sync(bad))

    kernel = boot(init, on_oops="kill")
    kernel.run()
    assert log == ["the next timer", False]
    assert "Oops in callback of <Timer bad inactive>: ZeroDivisionError" in kernel.printk.text()


def test_an_exception_in_a_callback_panics_a_kernel_that_panics_on_oops(boot):
    def init():
        mod_timer(Timer(lambda timer: 1 // 0, name="bad"), ktime_get() + MS)
        msleep(1000)

    with pytest.raises(KernelPanic, match="ZeroDivisionError in callback of <Timer bad") as caught:
        boot(init).run()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_callback_that_sleeps_is_told_that_it_must_not(boot, log):
    def init():
        mod_timer(Timer(lambda timer: msleep(1)), ktime_get() + MS)
        msleep(5)
        log.append((current().preempt_count, len(current_kernel().timers)))

    kernel = boot(init, on_oops="kill")
    kernel.run()
    assert log == [(0, 0)]
    assert "a softirq, tasklet or timer callback must not sleep" in kernel.printk.text()


def test_a_callback_that_keeps_a_lock_is_named(boot, log):
    def init():
        lock = SpinLock()
        mod_timer(Timer(lambda timer: lock.lock(), name="leaky"), ktime_get() + MS)
        msleep(5)
        log.append("init sleeps as before")

    kernel = boot(init, on_oops="kill")
    kernel.run()
    assert log == ["init sleeps as before"]
    assert "huh, entered callback of <Timer leaky inactive> with preempt_count" in kernel.printk.text()


def test_halting_with_armed_timers_and_sleepers_leaves_nothing(boot, log):
    def sleeper():
        try:
            msleep(1000)
        finally:
            log.append(len(current_kernel().timers))

    kernel = boot()
    kernel.kthreads.kthread_run_nowait(sleeper, name="sleeper", failed=str)
    Timer(lambda timer: log.append("never"), kernel=kernel).mod_timer(S)
    kernel.lkl_run()
    kernel.lkl_sys_halt()
    assert log == [1]


def test_a_repr_tells_the_state(kernel):
    def blink(timer):
        pass

    timer = Timer(blink, kernel=kernel)
    assert repr(timer) == "<Timer blink inactive>"
    timer.mod_timer(5)
    assert repr(timer) == "<Timer blink expires=5>"
    assert repr(Timer(blink, kernel=kernel, name="led")) == "<Timer led inactive>"


# -- rules 84 to 92: virtual time


def test_rule_84_the_clock_is_chosen_by_name_and_any_other_is_an_error(boot, log):
    with pytest.raises(ValueError, match="clock='basic'"):
        lkl_start_kernel(clock="basic")
    kernel = boot(lambda: log.append(ktime_get()), clock=VirtualClock(start_ns=7 * S))
    kernel.run()
    assert log == [7 * S]


def test_rule_84_under_virtual_time_code_takes_no_time(run, log):
    def init():
        for _ in range(1000):
            schedule()
        log.append(ktime_get())

    run(init)
    assert log == [0]


def test_rule_84_an_hour_of_virtual_time_passes_at_once(run):
    def init():
        ssleep(3600)
        return ktime_get() // S

    assert run(init) == 3600


def test_rule_85_time_never_goes_backwards(kernel):
    kernel.clock.advance_to(10)
    with pytest.raises(KernelBug, match="time goes backwards 10 -> 9"):
        kernel.clock.advance_to(9)
    assert kernel.clock.peek_ns() == 10


def test_rule_86_events_of_one_time_are_first_in_first_out(run, log):
    def sleeper(name):
        schedule_until(5 * MS)
        log.append(name)

    def schedule_until(ns):
        done = Completion()
        mod_timer(Timer(lambda timer: done.complete()), ns)
        done.wait_for_completion()

    def init():
        for name in "abc":
            kthread_run(sleeper, name)
        msleep(10)

    run(init)
    assert log == ["a", "b", "c"]


def test_rule_88_idle_stops_at_each_event_on_the_way(boot, log):
    kernel = boot()
    for ms in (3, 1, 2):
        Timer(lambda timer: log.append(kernel.clock.peek_ns() // MS), kernel=kernel).mod_timer(ms * MS)
    times = []
    while (status := kernel.lkl_run()).next_event_ns is not None:
        times.append(status.next_event_ns // MS)
        kernel.pause(status)
    assert times == [1, 2, 3]
    assert log == [1, 2, 3]


def test_rule_88_a_delay_delivers_what_comes_on_the_way_at_its_time(run, log):
    def init():
        start = ktime_get()
        for ms in (3, 1, 2, 8):
            mod_timer(Timer(lambda timer: log.append((ktime_get() - start) // MS)), start + ms * MS)
        ndelay(5 * MS)
        log.append("delayed")
        msleep(5)

    run(init)
    assert log == [1, 2, 3, "delayed", 8]


def test_rule_88_an_event_that_makes_events_during_a_delay(run, log):
    def tick(timer):
        log.append(timer.expires_ns // MS)
        mod_timer(timer, timer.expires_ns + MS)

    def init():
        timer = Timer(tick)
        mod_timer(timer, MS)
        ndelay(4 * MS + 500 * US)
        del_timer(timer)

    run(init)
    assert log == [1, 2, 3, 4]


def test_rule_90_idle_jumps_to_the_next_event(boot):
    kernel = boot()
    Timer(lambda timer: None, kernel=kernel).mod_timer(3 * S)
    kernel.pause(kernel.lkl_run())
    assert kernel.clock.peek_ns() == 3 * S


def test_rule_90_a_runnable_task_keeps_time_from_jumping(boot, log):
    def busy():
        while not log:
            schedule()

    kernel = boot()
    kernel.kthreads.kthread_run_nowait(busy, name="busy", failed=str)
    Timer(lambda timer: log.append("fires"), kernel=kernel).mod_timer(3 * S)
    kernel.pause(kernel.lkl_run(max_switches=1000))
    assert log == []
    assert kernel.clock.peek_ns() == 0


def test_rule_91_reading_the_clock_takes_time_but_not_in_interrupts(run, log):
    def read():
        first = ktime_get()
        return ktime_get() - first

    def interrupted(timer):
        log.append(("softirq", read()))
        current_kernel().lkl_trigger_irq(irq)
        cpu_relax()
        log.append(("softirq", read()))

    irq = 0

    def init():
        nonlocal irq
        kernel = current_kernel()
        log.append(read())
        irq = kernel.lkl_get_free_irq("device")
        request_irq(irq, lambda irq: log.append(("irq", read())), "device")
        kernel.lkl_trigger_irq(irq)
        cpu_relax()
        mod_timer(Timer(interrupted), ktime_get() + MS)
        ndelay(2 * MS)
        log.append(read())

    run(init)
    assert log == [1000, ("irq", 0), ("softirq", 0), ("irq", 0), ("softirq", 0), 1000]


def test_rule_91_a_loop_that_waits_for_time_to_pass_ends(run):
    def init():
        while ktime_get() < MS:
            pass
        return True

    assert run(init)


def test_rule_91_looking_without_reading_takes_no_time(boot):
    kernel = boot(lambda: [current_kernel().clock.peek_ns() for _ in range(10)])
    assert kernel.run() == [0] * 10


def test_rule_92_a_delay_advances_virtual_time_instead_of_spinning(run, log):
    def init():
        start = ktime_get()
        kthread_run(log.append, "other")
        yield_()
        ndelay(S)
        log.append(S <= ktime_get() - start < S + MS)
        ndelay(0)

    run(init)
    assert log == ["other", True]


def test_rule_92_a_delay_of_a_real_clock_takes_its_time(boot, log):
    def init():
        start = ktime_get()
        ndelay(200 * US)
        log.append(ktime_get() - start >= 200 * US)

    boot(init, clock="monotonic").run()
    assert log == [True]


@pytest.mark.parametrize("clock", ["virtual", "monotonic"])
def test_a_real_time_thread_that_a_timer_wakes_during_a_delay_runs_at_once(boot, log, clock):
    def urgent():
        usleep(100)
        log.append("urgent")

    def init():
        task = kthread_create(urgent)
        sched_setscheduler(task, SCHED_FIFO, 5)
        wake_up_process(task)
        start = ktime_get()
        ndelay(5 * MS)
        log.append("delay is over")
        assert ktime_get() - start >= 5 * MS

    boot(init, clock=clock).run()
    assert log == ["urgent", "delay is over"]


def test_a_delay_in_an_atomic_section_lets_no_other_thread_run(run, log):
    def urgent():
        usleep(100)
        log.append("urgent")

    def init():
        task = kthread_create(urgent)
        sched_setscheduler(task, SCHED_FIFO, 5)
        wake_up_process(task)
        preempt_disable()
        ndelay(5 * MS)
        log.append("delay is over")
        preempt_enable()

    run(init)
    assert log == ["delay is over", "urgent"]


def test_a_delay_in_a_callback_or_with_interrupts_off_does_not_recurse(run, log):
    def callback(timer):
        ndelay(2 * MS)
        log.append("callback ends")

    def init():
        start = ktime_get()
        mod_timer(Timer(callback), start + MS)
        mod_timer(Timer(lambda timer: log.append("the next timer")), start + 2 * MS)
        msleep(5)
        mod_timer(Timer(lambda timer: log.append("late")), ktime_get() + MS)
        local_irq_disable()
        ndelay(5 * MS)
        log.append("still disabled")
        local_irq_enable()

    run(init)
    assert log == ["callback ends", "the next timer", "still disabled", "late"]


def test_tracing_does_not_change_the_time(configuration):
    def init():
        for ms in (1, 2):
            msleep(ms)
            mod_timer(Timer(lambda timer: None), ktime_get() + MS)
        msleep(3)
        return ktime_get()

    times = []
    for trace in (False, True):
        kernel = lkl_start_kernel(init, clock="virtual", loglevel=0, trace=trace, **configuration)
        times.append(kernel.run())
    assert times[0] == times[1]


def test_parity_of_timers(parity):
    def sleeper(ms):
        for _ in range(3):
            msleep(ms)
            ndelay(ms * 100 * US)

    def tick(timer):
        if ktime_get() < 20 * MS:
            mod_timer(timer, ktime_get() + 700 * US)

    def init():
        mod_timer(Timer(tick), 500 * US)
        for ms in (1, 2, 3, 1):
            kthread_run(sleeper, ms, name="sleeper/%d")
        for _ in range(100):
            ktime_get()
            cond_resched()
        msleep(30)

    assert "timer_expire_entry: timer=tick function=tick" in parity(init)


# -- against a model

TIMERS = st.integers(0, 4)
OPERATIONS = st.one_of(
    st.tuples(st.just("mod"), TIMERS, st.integers(-1, 6)),
    st.tuples(st.just("del"), TIMERS),
    st.tuples(st.just("shutdown"), st.just(4)),
    st.tuples(st.just("sleep"), st.integers(1, 4)),
)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(operations=st.lists(OPERATIONS, max_size=40), again=st.tuples(*[st.integers(0, 3)] * 5))
def test_timers_follow_a_sorted_list(configuration, operations, again):
    """Even timers expire on milliseconds and the driver sleeps in between, so that no reading of the clock matters."""
    log: list[Any] = []

    def init():
        kernel = current_kernel()
        kernel.clock.read_cost_ns = 1
        left = list(again)

        def fire(timer):
            number = int(timer.name)
            log.append((number, kernel.clock.peek_ns() // MS))
            if left[number]:
                left[number] -= 1
                mod_timer(timer, timer.expires_ns + MS)

        timers = [Timer(fire, name=str(number)) for number in range(5)]
        now = 0
        for name, *arguments in operations:
            if name == "sleep":
                now += arguments[0]
                sleep_until(now * MS + MS // 2)
                continue
            timer = timers[arguments[0]]
            if name == "mod":
                log.append(mod_timer(timer, (now + arguments[1]) * MS))
            else:
                log.append(del_timer(timer) if name == "del" else timer.shutdown())
        for timer in timers:
            del_timer(timer)

    def sleep_until(ns):
        done = Completion()
        mod_timer(Timer(lambda timer: done.complete()), ns)
        done.wait_for_completion()

    kernel = lkl_start_kernel(init, clock="virtual", loglevel=0, **configuration)
    kernel.run()
    assert kernel.printk.tainted == 0
    assert log == model_of(operations, again)


def model_of(operations: list[tuple[Any, ...]], again: tuple[int, ...]) -> list[Any]:
    log: list[Any] = []
    armed: dict[int, tuple[int, int]] = {}
    shut_down: set[int] = set()
    left = list(again)
    now = sequence = 0
    for name, *arguments in operations:
        if name == "sleep":
            end = now + arguments[0]
            while armed and min(armed.values())[0] <= end:
                number = min(armed, key=armed.__getitem__)
                expires, _ = armed.pop(number)
                now = max(now, expires)
                log.append((number, now))
                if left[number]:
                    left[number] -= 1
                    sequence += 1
                    armed[number] = (expires + 1, sequence)
            now = end
            continue
        number = arguments[0]
        log.append(armed.pop(number, None) is not None)
        if name == "mod" and number not in shut_down:
            sequence += 1
            armed[number] = (now + arguments[1], sequence)
        elif name == "shutdown":
            shut_down.add(number)
    return log
