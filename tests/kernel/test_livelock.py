"""Livelock: tasks or interrupts that keep virtual time from passing are named with their lines; nothing else is."""

from __future__ import annotations

import re

import pytest

from lkl_green import Kernel, RunReason, RunUntil
from lkl_green.compare.parity import parity as compare
from lkl_green.errors import KernelPanic, Livelock
from lkl_green.kernel.softirq import Tasklet
from lkl_green.linux import (
    Completion,
    Semaphore,
    Timer,
    Work,
    cond_resched,
    current_kernel,
    kthread_run,
    kthread_should_stop,
    kthread_stop,
    ktime_get,
    mod_timer,
    msleep,
    preempt_disable,
    request_irq,
    schedule,
    schedule_work,
    usleep,
)

# Few enough for a fast test, and more than the window before the verdict.
FEW = {"livelock_points": 20_000}


def line_of(function, offset: int) -> str:
    return f"{__file__}:{function.__code__.co_firstlineno + offset}"


def poll():
    while not kthread_should_stop():
        cond_resched()


def polled():
    thread = kthread_run(poll, name="poller")
    msleep(1)
    return kthread_stop(thread)


def stepped(kernel: Kernel, **how):
    """run() by hand, with each of the ways to cut it."""
    while not kernel.halted:
        kernel.pause(kernel.lkl_run(**how))


# -- what is one


@pytest.mark.parametrize(
    "how", [None, {}, {"until": RunUntil.SWITCH}, {"max_switches": 7}, {"budget_ns": 1_000_000}], ids=str
)
def test_a_thread_that_polls_is_named_with_its_line_however_the_kernel_is_run(boot, how):
    kernel = boot(polled, **FEW)
    with pytest.raises(Livelock) as caught:
        kernel.run() if how is None else stepped(kernel, **how)
    text = str(caught.value)
    assert "the time-out of init-1 (0.001000 s) waits for it to pass" in text
    assert re.search(rf"  poller-4 at {re.escape(line_of(poll, 2))} in poll: cond_resched\(\), \d+ times", text)
    assert "sleep in the loop with msleep()" in text


def test_the_default_limit_is_reached_within_seconds(boot):
    with pytest.raises(Livelock, match="poller-4"):
        boot(polled).run()


def test_all_the_threads_that_go_round_are_named(boot):
    def yields():
        while True:
            schedule()

    def init():
        for name in "abc":
            kthread_run(yields, name=name)
        usleep(5)

    with pytest.raises(Livelock) as caught:
        boot(init, **FEW).run()
    for name in ("a-4", "b-5", "c-6"):
        assert f"{name} at {line_of(yields, 2)} in yields" in str(caught.value)


def test_an_interrupt_that_raises_itself_is_named_with_its_handler(boot):
    def init():
        kernel = current_kernel()
        irq = kernel.lkl_get_free_irq("storm")

        def handler(irq):
            kernel.lkl_trigger_irq(irq)

        request_irq(irq, handler, "storm")
        kernel.lkl_trigger_irq(irq)
        usleep(5)

    with pytest.raises(Livelock) as caught:
        boot(init, **FEW).run()
    assert "irq 2, handled by" in str(caught.value)
    assert f"handler at {__file__}:" in str(caught.value)


def test_an_interrupt_storm_under_a_thread_that_yields_is_one_too(boot):
    def init():
        kernel = current_kernel()
        irq = kernel.lkl_get_free_irq("storm")
        request_irq(irq, kernel.lkl_trigger_irq, "storm")
        kernel.lkl_trigger_irq(irq)
        kthread_run(poll, name="poller")
        usleep(5)

    with pytest.raises(Livelock, match=r"(?s)poller-4.*irq 2, handled by Kernel.lkl_trigger_irq"):
        boot(init, **FEW).run()


def test_a_tasklet_that_schedules_itself_is_named(boot):
    def init():
        def again():
            tasklet.schedule()

        tasklet = Tasklet(current_kernel().tasklets, again)
        tasklet.schedule()
        usleep(5)

    with pytest.raises(Livelock) as caught:
        boot(init, **FEW).run()
    assert f"softirq TASKLET, tasklet {init.__qualname__}.<locals>.again at {line_of(init, 1)}" in str(caught.value)


def test_a_work_that_queues_itself_is_named(boot):
    def init():
        def again(work):
            schedule_work(work)

        schedule_work(Work(again))
        usleep(5)

    with pytest.raises(Livelock) as caught:
        boot(init, **FEW).run()
    assert f"again at {line_of(init, 1)}" in str(caught.value)


def test_a_timer_that_arms_itself_for_now_is_named(boot):
    def init():
        def again(timer):
            mod_timer(timer, ktime_get())

        mod_timer(Timer(again), 1000)
        Completion().wait_for_completion()

    with pytest.raises(Livelock, match="the callback of <Timer again") as caught:
        boot(init, **FEW).run()
    assert f"again at {line_of(init, 1)}" in str(caught.value)
    assert "arm the timer for a later time" in str(caught.value)


def test_a_thread_that_must_not_be_switched_away_from_gets_it_itself(boot):
    def spins():
        preempt_disable()
        while True:
            cond_resched()

    def init():
        kthread_run(spins, name="spinner")
        usleep(5)

    with pytest.raises(KernelPanic, match="Livelock in spinner-4") as caught:
        boot(init, **FEW).run()
    assert isinstance(caught.value.__cause__, Livelock)


def test_run_halts_the_kernel_and_lkl_run_leaves_it_usable(boot):
    kernel = boot(polled, **FEW)
    for _ in range(2):
        with pytest.raises(Livelock):
            kernel.lkl_run()
    assert kernel.lkl_is_running()
    ran = boot(polled, **FEW)
    with pytest.raises(Livelock):
        ran.run()
    assert ran.halted


def test_it_comes_at_the_same_place_in_all_configurations():
    def init():
        kthread_run(poll)
        kthread_run(poll)
        usleep(5)

    outcome = compare(init, loglevel=0, **FEW)
    assert outcome.equal, str(outcome)
    assert {run.ending for run in outcome.runs} == {"Livelock"}


# -- what is none


def test_any_number_of_points_is_allowed_while_no_timer_waits(run):
    def init():
        for _ in range(50_000):
            cond_resched()
        return "done"

    assert run(init, **FEW) == "done"


def test_so_is_any_number_while_the_clock_is_read(run):
    def init():
        thread = kthread_run(lambda: msleep(60))
        end = ktime_get() + 50_000_000
        while ktime_get() < end:
            cond_resched()
        return kthread_stop(thread)

    assert run(init, **FEW) is None


def test_a_limit_can_be_raised_and_taken_away(run):
    def init():
        thread = kthread_run(lambda: usleep(5))
        usleep(1)
        for _ in range(40_000):
            cond_resched()
        return kthread_stop(thread)

    assert run(init, livelock_points=None) is None
    assert run(init, livelock_points=100_000) is None
    with pytest.raises(Livelock):
        run(init, **FEW)


def test_tasks_that_hand_over_to_each_other_may_do_ten_times_as_much(run):
    """A long pipeline beside a thread that sleeps: 5,000 items are 110,000 points, as switches count for ten."""

    def init():
        full, empty = Semaphore(0), Semaphore(1)

        def consumer():
            for _ in range(5_000):
                full.down()
                empty.up()

        kthread_run(lambda: msleep(1))
        usleep(1)
        thread = kthread_run(consumer)
        for _ in range(5_000):
            empty.down()
            full.up()
        return kthread_stop(thread)

    assert run(init, **FEW) is None
    with pytest.raises(Livelock):
        run(init, livelock_points=5_000)


def test_what_the_application_does_is_no_livelock(boot):
    kernel = boot(None, **FEW)
    irq = kernel.lkl_get_free_irq("device")
    kernel.irq.request_irq(irq, lambda irq: None, "device")
    mod_timer(Timer(lambda timer: None, kernel), 10**9)
    for _ in range(5_000):
        assert kernel.sys.getpid()
        kernel.lkl_trigger_irq(irq)
        assert kernel.lkl_run().reason is RunReason.IDLE


def test_real_time_passes_by_itself(run):
    def init():
        thread = kthread_run(poll)
        msleep(50)
        return kthread_stop(thread)

    assert run(init, clock="monotonic", livelock_points=1) is None


@pytest.mark.parametrize("number", [0, -1])
def test_a_limit_below_one_is_an_error(boot, number):
    with pytest.raises(ValueError, match="livelock_points"):
        boot(polled, livelock_points=number)
