"""The scheduler: rules 112 to 117 and 127, order, priorities, and preemption wherever it may strike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lkl_green import KernelPanic
from lkl_green.errors import SchedulingWhileAtomic
from lkl_green.kernel.task import FORK_PREEMPT_COUNT, TASK_DEAD, TASK_NEW, TASK_PARKED
from lkl_green.linux import (
    SCHED_FIFO,
    SCHED_NORMAL,
    SCHED_RR,
    SIGKILL,
    TASK_IDLE,
    TASK_INTERRUPTIBLE,
    TASK_KILLABLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    Completion,
    Semaphore,
    SpinLock,
    Timer,
    allow_signal,
    cond_resched,
    current,
    current_kernel,
    do_exit,
    kernel_power_off,
    kernel_thread,
    kthread_create,
    kthread_park,
    kthread_parkme,
    kthread_run,
    kthread_should_park,
    kthread_should_stop,
    kthread_stop,
    kthread_unpark,
    ktime_get,
    local_bh_disable,
    local_bh_enable,
    msleep,
    need_resched,
    preempt_disable,
    preempt_enable,
    sched_setscheduler,
    schedule,
    schedule_timeout,
    send_sig,
    set_current_state,
    tasklet,
    wake_up_process,
    yield_,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.linux import Task


def start(fn: Callable[..., Any], *args: Any, policy: int = SCHED_NORMAL, prio: int = 0, name: str = "task") -> Task:
    """A kthread that is runnable, with a priority."""
    task = kthread_create(fn, *args, name=name)
    sched_setscheduler(task, policy, prio)
    wake_up_process(task)
    return task


def start_together(*makers: Callable[[], Task]) -> None:
    """Start several tasks so that none runs before all are runnable."""
    tasks = [make() for make in makers]
    for task in tasks:
        wake_up_process(task)


def asleep(fn: Callable[..., Any], *args: Any, policy: int = SCHED_NORMAL, prio: int = 0, name: str = "task") -> Task:
    """A kthread that waits for its first wake-up."""
    task = kthread_create(fn, *args, name=name)
    sched_setscheduler(task, policy, prio)
    return task


def until(condition: Callable[[], object]) -> None:
    while not condition():
        schedule()


# -- order of normal tasks


def test_normal_tasks_run_round_robin_in_the_order_in_which_they_became_runnable(run, log):
    def init():
        def worker(name):
            for step in range(3):
                log.append(f"{name}{step}")
                schedule()

        start_together(*(lambda name=name: asleep(worker, name) for name in "abc"))
        msleep(1)

    run(init)
    assert log == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


def test_who_wakes_joins_at_the_end_and_the_waker_goes_on(run, log):
    def init():
        def sleeper(name):
            set_current_state(TASK_UNINTERRUPTIBLE)
            schedule()
            log.append(name)

        first, second = kthread_run(sleeper, "first"), kthread_run(sleeper, "second")
        msleep(1)
        wake_up_process(second)
        wake_up_process(first)
        log.append("waker")
        schedule()

    run(init)
    assert log == ["waker", "second", "first"]


def test_schedule_with_nobody_else_returns_at_once_and_is_no_switch(run):
    def init():
        msleep(1)  # kthreadd and ksoftirqd have gone to sleep
        before = current_kernel().statistics().switches
        for _ in range(1000):
            schedule()
        return current_kernel().statistics().switches - before

    assert run(init) == 0


def test_three_tasks_find_out_who_really_ran_before_them(run, log):
    """Rule 29 as the scheduler shows it: after A, B, C, A the last one is C, not A's own idea of whom it left to."""

    def init():
        def worker():
            for _ in range(2):
                schedule()
                log.append((current().comm, current_kernel().sched.last.comm))

        start_together(*(lambda name=name: asleep(worker, name=name) for name in "abc"))
        msleep(1)

    run(init)
    assert log[:3] == [("a", "c"), ("b", "a"), ("c", "b")]


# -- rule 112: the newborn


def test_rule_112_a_newborn_starts_atomic_and_schedule_tail_ends_that(run, log):
    def init():
        task = kthread_create(lambda: log.append(("running", current().preempt_count)))
        log.append(("newborn", task.preempt_count))
        wake_up_process(task)
        msleep(1)

    run(init)
    assert log == [("newborn", FORK_PREEMPT_COUNT), ("running", 0)]


def test_rule_112_a_newborn_may_sleep_with_its_first_statement(run, log):
    def init():
        def newborn():
            msleep(1)
            log.append("slept")

        kthread_run(newborn)
        msleep(5)

    run(init)
    assert log == ["slept"]


# -- rule 113: the dead


def test_rule_113_the_successor_takes_the_dead_task_s_context_away(run):
    def init():
        kernel = current_kernel()
        msleep(1)
        before = kernel.host.live()
        for _ in range(20):
            kthread_run(lambda: None)
            msleep(1)
        return before, kernel.host.live()

    before, after = run(init)
    assert before == after


def test_rule_113_a_task_that_dies_last_is_cleaned_up_by_idle(boot):
    kernel = boot()
    kernel.lkl_run()
    before = kernel.host.live()
    irq = kernel.lkl_get_free_irq("x")
    victim = []

    def init_of_victim(irq):
        kernel.kthreads.kthread_run_nowait(lambda: victim.append(current()), name="victim", failed=print)

    kernel.irq.request_irq(irq, init_of_victim, "x")
    kernel.lkl_trigger_irq(irq)
    kernel.lkl_run()
    assert victim[0].state == TASK_DEAD
    assert victim[0].pid not in kernel.pids.tasks
    assert kernel.host.live() == before


# -- rule 114: wake_up_process()


@pytest.mark.parametrize(
    ("state", "woken"),
    [(TASK_INTERRUPTIBLE, True), (TASK_UNINTERRUPTIBLE, True), (TASK_KILLABLE, True), (TASK_IDLE, True)],
)
def test_rule_114_sleepers_are_woken_once(run, log, state, woken):
    def init():
        def sleeper():
            set_current_state(state)
            schedule()
            log.append(("awake", current().state))

        task = kthread_run(sleeper)
        msleep(1)
        assert task.state == state
        log.append(wake_up_process(task))
        assert task.state == TASK_RUNNING
        log.append(wake_up_process(task))
        msleep(1)

    run(init)
    assert log == [woken, False, ("awake", TASK_RUNNING)]


def test_rule_114_not_a_parked_a_new_a_dead_or_a_running_task(run):
    def init():
        def parkable():
            while not kthread_should_stop():
                if kthread_should_park():
                    kthread_parkme()
                schedule()

        parked = kthread_run(parkable)
        kthread_park(parked)
        dead = kthread_run(lambda: None)
        runnable = kthread_run(lambda: None)
        result = [parked.state == TASK_PARKED, wake_up_process(parked), wake_up_process(runnable)]
        msleep(1)
        result += [dead.state == TASK_DEAD, wake_up_process(dead), wake_up_process(current())]
        idle = current_kernel().fork.fork_idle()
        result += [idle.state == TASK_NEW, wake_up_process(idle)]
        kthread_unpark(parked)
        kthread_stop(parked)
        return result

    assert run(init) == [True, False, False, True, False, False, True, False]


def test_rule_114_waking_oneself_only_makes_one_running(run, log):
    def init():
        kthread_run(lambda: log.append("other"))
        set_current_state(TASK_UNINTERRUPTIBLE)
        assert wake_up_process(current())
        assert current().state == TASK_RUNNING
        assert not wake_up_process(current())
        log.append("not switched away")
        schedule()
        log.append("not queued twice")

    run(init)
    assert log == ["not switched away", "other", "not queued twice"]


# -- rule 115: what schedule() makes of the state


def test_rule_115_running_stays_queued_and_sleeping_does_not(run, log):
    def init():
        set_current_state(TASK_RUNNING)
        schedule()
        log.append("came back by itself")
        task = current()
        Timer(lambda timer: wake_up_process(task)).mod_timer_in(1000)
        set_current_state(TASK_UNINTERRUPTIBLE)
        before = ktime_get()
        schedule()
        log.append(ktime_get() - before >= 1000)

    run(init)
    assert log == ["came back by itself", True]


@pytest.mark.parametrize(
    ("state", "sig", "sleeps"),
    [
        (TASK_INTERRUPTIBLE, 10, False),
        (TASK_INTERRUPTIBLE, SIGKILL, False),
        (TASK_KILLABLE, 10, True),
        (TASK_KILLABLE, SIGKILL, False),
        (TASK_UNINTERRUPTIBLE, SIGKILL, True),
    ],
)
def test_rule_115_a_pending_signal_keeps_an_interruptible_task_from_sleeping(run, log, state, sig, sleeps):
    def init():
        def victim():
            allow_signal(sig)
            send_sig(sig, current())
            set_current_state(state)
            schedule()
            log.append(current().state)

        task = kthread_run(victim)
        msleep(1)
        asleep = task.state != TASK_DEAD
        wake_up_process(task)
        msleep(1)
        return asleep

    assert run(init) is sleeps
    assert log == [TASK_RUNNING]


# -- rule 116: the lost wake-up


def sleep_until(ready: list[int], state_first: bool, between: Callable[[], object]) -> None:
    if state_first:
        set_current_state(TASK_UNINTERRUPTIBLE)
    if not ready:
        between()
        if not state_first:
            set_current_state(TASK_UNINTERRUPTIBLE)
        schedule_timeout(1_000_000)


@pytest.mark.parametrize("state_first", [True, False])
def test_rule_116_the_state_comes_before_the_test_or_the_wake_up_is_lost(run, state_first):
    """The wrong order is shown to fail, so that the right one is shown to matter."""

    def init():
        def interrupt():
            ready.append(1)
            wake_up_process(task)

        task, ready = current(), []
        begin = ktime_get()
        sleep_until(ready, state_first, interrupt)
        return ktime_get() - begin >= 1_000_000

    assert run(init) is (not state_first)


def test_rule_116_a_wake_up_without_cause_is_legal(run, log):
    """Every primitive that sleeps does so in a loop."""

    def init():
        def waiter():
            done.wait_for_completion()
            log.append("done")

        def downer():
            semaphore.down()
            log.append("down")

        done, semaphore = Completion(), Semaphore(0)
        tasks = [kthread_run(waiter), kthread_run(downer)]
        msleep(1)
        for _ in range(3):
            for task in tasks:
                assert wake_up_process(task)
            msleep(1)
        log.append("spurious wake-ups are over")
        done.complete()
        semaphore.up()
        msleep(1)

    run(init)
    assert log == ["spurious wake-ups are over", "done", "down"]


# -- rule 117: scheduling while atomic


def in_softirq() -> None:
    tasklet(schedule).schedule()
    msleep(1)


def in_timer() -> None:
    Timer(lambda timer: schedule()).mod_timer_in(10)
    msleep(1)


def with_spinlock() -> None:
    with SpinLock(name="held"):
        schedule()


def with_preemption_disabled() -> None:
    preempt_disable()
    schedule()


def with_bottom_halves_disabled() -> None:
    local_bh_disable()
    schedule()


@pytest.mark.parametrize(
    ("where", "why"),
    [
        (in_softirq, "softirq, tasklet or timer callback must not sleep"),
        (in_timer, "softirq, tasklet or timer callback must not sleep"),
        (with_spinlock, "a SpinLock is held"),
        (with_preemption_disabled, "preemption is disabled 1 deep"),
        (with_bottom_halves_disabled, "softirq"),
    ],
)
def test_rule_117_scheduling_while_atomic_is_a_named_bug(boot, where, why):
    kernel = boot(where)
    with pytest.raises(KernelPanic, match=why) as caught:
        kernel.run()
    assert isinstance(caught.value.__cause__, SchedulingWhileAtomic)


def test_rule_117_sleeping_in_the_application_is_the_same_bug(kernel):
    done = Completion(kernel, name="mine")
    with pytest.raises(SchedulingWhileAtomic, match="this is the application"):
        done.wait_for_completion()
    assert "nobody" in repr(done)


@pytest.mark.parametrize("sleep", ["schedule", "msleep", "completion", "semaphore", "wait_event_timeout"])
def test_rule_117_whoever_catches_the_bug_is_in_a_clean_state(run, log, sleep):
    """Not on a queue, no timer armed, TASK_RUNNING: the next sleep works."""

    def init():
        from lkl_green.linux import WaitQueueHead

        done, semaphore, queue = Completion(), Semaphore(0), WaitQueueHead()
        sleeps = {
            "schedule": schedule,
            "msleep": lambda: msleep(5),
            "completion": done.wait_for_completion,
            "semaphore": semaphore.down,
            "wait_event_timeout": lambda: queue.wait_event_timeout(lambda: False, 1000),
        }
        set_current_state(TASK_UNINTERRUPTIBLE if sleep == "schedule" else TASK_RUNNING)
        preempt_disable()
        with pytest.raises(SchedulingWhileAtomic):
            sleeps[sleep]()
        preempt_enable()
        log.append((current().state, current().waiting_for, current_kernel().statistics().timers_pending))
        done.complete()
        semaphore.up()
        log.append((done.done, semaphore.count, queue.waitqueue_active()))
        msleep(1)

    run(init)
    assert log == [(TASK_RUNNING, None, 0), (1, 1, False)]


def test_rule_117_the_dead_do_not_come_back(run, log):
    """do_task_dead(): `schedule()` never returns; only `finally` blocks run, before."""

    def init():
        def victim():
            try:
                do_exit(3)
                log.append("after do_exit()")
            finally:
                log.append("finally")

        task = kthread_run(victim)
        msleep(1)
        for _ in range(3):
            wake_up_process(task)
            schedule()
        return kthread_stop(task)

    assert run(init) == 3
    assert log == ["finally"]


# -- rule 127: need_resched and cond_resched()


def test_rule_127_need_resched_belongs_to_the_task_and_cond_resched_honours_it(run, log):
    def init():
        urgent = asleep(lambda: log.append(("urgent", need_resched())), policy=SCHED_FIFO, prio=1)
        preempt_disable()
        wake_up_process(urgent)
        log.append(need_resched())
        log.append(cond_resched())
        preempt_enable()
        log.append(need_resched())
        log.append(cond_resched())

    run(init)
    assert log == [True, False, ("urgent", False), False, False]


def test_rule_127_cond_resched_goes_on_when_nobody_more_important_is_runnable(run, log):
    def init():
        kthread_run(lambda: log.append("other"))
        for _ in range(10):
            assert not cond_resched()
        log.append("init")

    run(init)
    assert log[0] == "init"


def test_cond_resched_lets_the_others_run_in_the_end(run, log):
    """Two tasks that never sleep share the CPU with a third that does."""

    def init():
        def hog(name):
            while "sleeper 3" not in log:
                shares[name] += 1
                cond_resched()

        def sleeper():
            for step in range(4):
                log.append(f"sleeper {step}")
                schedule()

        shares = {"a": 0, "b": 0}
        start_together(lambda: asleep(hog, "a"), lambda: asleep(hog, "b"), lambda: asleep(sleeper))
        until(lambda: "sleeper 3" in log)
        return shares

    shares = run(init)
    assert log == [f"sleeper {step}" for step in range(4)]
    assert min(shares.values()) > 100
    assert max(shares.values()) - min(shares.values()) < 600


def test_a_timer_gets_through_to_a_loop_that_only_says_cond_resched(run, log):
    def init():
        end = ktime_get() + 1_000_000
        Timer(lambda timer: log.append("timer")).add_timer(end)
        while not log:
            ktime_get()
            cond_resched()

    run(init)
    assert log == ["timer"]


# -- real-time priorities


def test_the_highest_priority_runs_first_whatever_the_order_of_waking(run, log):
    def init():
        sched_setscheduler(current(), SCHED_FIFO, 99)
        # kthreadd must be able to make them
        sched_setscheduler(current_kernel().kthreads.kthreadd, SCHED_FIFO, 98)
        tasks = [
            asleep(log.append, "normal"),
            asleep(log.append, "fifo 1", policy=SCHED_FIFO, prio=1),
            asleep(log.append, "rr 50", policy=SCHED_RR, prio=50),
            asleep(log.append, "fifo 97", policy=SCHED_FIFO, prio=97),
            asleep(log.append, "fifo 50", policy=SCHED_FIFO, prio=50),
        ]
        for task in tasks:
            wake_up_process(task)
        log.append("init")
        msleep(1)

    run(init)
    assert log == ["init", "fifo 97", "rr 50", "fifo 50", "fifo 1", "normal"]


def wake_with_wake_up_process(task: Task, done: Completion) -> None:
    wake_up_process(task)


def complete_it(task: Task, done: Completion) -> None:
    done.complete()


def complete_with_preemption_off(task: Task, done: Completion) -> None:
    preempt_disable()
    done.complete()
    preempt_enable()


def complete_under_spinlock(task: Task, done: Completion) -> None:
    with SpinLock():
        done.complete()


def complete_with_bottom_halves_off(task: Task, done: Completion) -> None:
    local_bh_disable()
    done.complete()
    local_bh_enable()


def complete_in_softirq(task: Task, done: Completion) -> None:
    local_bh_disable()
    tasklet(done.complete).schedule()
    local_bh_enable()


@pytest.mark.parametrize(
    "wake",
    [
        complete_it,
        complete_with_preemption_off,
        complete_under_spinlock,
        complete_with_bottom_halves_off,
        complete_in_softirq,
    ],
)
def test_a_more_important_task_preempts_as_soon_as_it_may(run, log, wake):
    def init():
        def urgent():
            done.wait_for_completion()
            log.append("urgent")

        done = Completion()
        task = start(urgent, policy=SCHED_FIFO, prio=10)
        wake(task, done)
        log.append("waker goes on")

    run(init)
    assert log == ["urgent", "waker goes on"]


def test_an_equally_important_task_does_not_preempt(run, log):
    def init():
        def equal():
            done.wait_for_completion()
            log.append("equal")

        done = Completion()
        start(equal, policy=SCHED_FIFO, prio=10)
        msleep(1)
        sched_setscheduler(current(), SCHED_FIFO, 10)
        done.complete()
        log.append("waker goes on")
        msleep(1)

    run(init)
    assert log == ["waker goes on", "equal"]


def test_fifo_runs_until_it_sleeps_and_rr_shares_among_equals(run, log):
    def init():
        def busy(name):
            for step in range(1000):
                if step % 500 == 0:
                    log.append(name)
                cond_resched()

        for policy in (SCHED_FIFO, SCHED_RR):
            tasks = [asleep(busy, f"{policy}{name}", policy=policy, prio=10) for name in "ab"]
            sched_setscheduler(current(), SCHED_FIFO, 20)
            for task in tasks:
                wake_up_process(task)
            msleep(1)
            sched_setscheduler(current(), SCHED_NORMAL)

    run(init)
    assert log[:4] == ["1a", "1a", "1b", "1b"]
    assert log[4:] == ["2a", "2b", "2a", "2b"]


@pytest.mark.parametrize("policy", [SCHED_FIFO, SCHED_RR, SCHED_NORMAL])
def test_a_preempted_task_keeps_its_place(run, log, policy):
    """Who is preempted by somebody more important goes on before its equals."""

    def init():
        def urgent():
            done.wait_for_completion()
            log.append("urgent")

        def first():
            log.append("first")
            done.complete()
            log.append("first again")

        done = Completion()
        start(urgent, policy=SCHED_FIFO, prio=50)
        tasks = [
            asleep(first, policy=policy, prio=10 if policy else 0),
            asleep(log.append, "second", policy=policy, prio=10 if policy else 0),
        ]
        sched_setscheduler(current(), SCHED_FIFO, 60)
        for task in tasks:
            wake_up_process(task)
        msleep(1)

    run(init)
    assert log == ["first", "urgent", "first again", "second"]


def test_yield_goes_behind_its_equals(run, log):
    def init():
        def worker(name):
            log.append(f"{name}0")
            yield_()
            log.append(f"{name}1")

        tasks = [asleep(worker, name, policy=SCHED_FIFO, prio=10) for name in "ab"]
        sched_setscheduler(current(), SCHED_FIFO, 60)
        for task in tasks:
            wake_up_process(task)
        msleep(1)

    run(init)
    assert log == ["a0", "b0", "a1", "b1"]


def test_a_real_time_task_that_never_sleeps_starves_the_rest_until_it_does(run, log):
    def init():
        def hog():
            for _ in range(2000):
                cond_resched()
                schedule()
            log.append("hog")

        start_together(lambda: asleep(log.append, "normal"), lambda: asleep(hog, policy=SCHED_FIFO, prio=1))
        msleep(1)

    run(init)
    assert log == ["hog", "normal"]


@pytest.mark.parametrize("policy", [SCHED_FIFO, SCHED_RR])
def test_a_real_time_task_that_yields_does_not_fall_back_among_the_normal_ones(run, log, policy):
    def init():
        def urgent():
            for _ in range(3):
                yield_()
                log.append("urgent")
            sched_setscheduler(current(), SCHED_NORMAL)
            yield_()
            log.append("normal by now")
            sched_setscheduler(current(), policy, 1)
            yield_()
            log.append("urgent again")

        start_together(
            lambda: asleep(lambda: [(log.append("normal"), yield_()) for _ in range(3)]),
            lambda: asleep(urgent, policy=policy, prio=1),
        )
        msleep(1)

    run(init)
    assert log[:4] == ["urgent", "urgent", "urgent", "normal"]
    assert log[log.index("normal by now") + 1] == "urgent again"


def test_lowering_oneself_lets_the_more_important_run_at_once(run, log):
    def init():
        sched_setscheduler(current(), SCHED_FIFO, 60)
        sched_setscheduler(current_kernel().kthreads.kthreadd, SCHED_FIFO, 60)
        start(log.append, "other", policy=SCHED_FIFO, prio=10)
        sched_setscheduler(current(), SCHED_NORMAL)
        log.append("init")

    run(init)
    assert log == ["other", "init"]


def test_lowering_oneself_where_preemption_is_disabled_waits_for_its_end(run, log):
    def init():
        sched_setscheduler(current(), SCHED_FIFO, 60)
        sched_setscheduler(current_kernel().kthreads.kthreadd, SCHED_FIFO, 60)
        start(log.append, "other", policy=SCHED_FIFO, prio=10)
        preempt_disable()
        sched_setscheduler(current(), SCHED_NORMAL)
        assert need_resched()
        log.append("init")
        preempt_enable()

    run(init)
    assert log == ["init", "other"]


def test_raising_a_queued_task_makes_it_preempt(run, log):
    def init():
        task = kthread_run(log.append, "raised")
        assert log == []
        sched_setscheduler(task, SCHED_FIFO, 1)
        log.append("init")

    run(init)
    assert log == ["raised", "init"]


def test_lowering_a_queued_task_puts_it_behind(run, log):
    def init():
        sched_setscheduler(current(), SCHED_FIFO, 60)
        sched_setscheduler(current_kernel().kthreads.kthreadd, SCHED_FIFO, 60)
        high = start(log.append, "was high", policy=SCHED_FIFO, prio=20)
        start(log.append, "middle", policy=SCHED_FIFO, prio=10)
        sched_setscheduler(high, SCHED_NORMAL)
        msleep(1)

    run(init)
    assert log == ["middle", "was high"]


@pytest.mark.parametrize(
    ("policy", "prio"),
    [
        (SCHED_FIFO, 0),
        (SCHED_FIFO, 100),
        (SCHED_RR, -1),
        (7, 1),
        (SCHED_FIFO, 2.5),
        (SCHED_RR, "5"),
        (SCHED_FIFO, None),
    ],
)
def test_wrong_priorities_are_refused(run, policy, prio):
    def init():
        with pytest.raises(ValueError, match="real-time priorities are 1 to 99"):
            sched_setscheduler(current(), policy, prio)
        return current().prio

    assert run(init) == 120


def test_children_inherit_the_priority(run, log):
    def init():
        sched_setscheduler(current(), SCHED_RR, 7)
        kernel_thread(lambda arg: (log.append((current().policy, current().prio)), do_exit(0)))
        msleep(1)

    run(init)
    assert log == [(SCHED_RR, 92)]


# -- preempted between set_current_state() and schedule()


def preempted_sleeper(state: int, meanwhile: Callable[[Task], object], log: list[Any]) -> Callable[[], Any]:
    """An init whose sleeper is preempted after it has set its state; `meanwhile(sleeper)` runs then."""

    def init():
        def urgent():
            kick.wait_for_completion()
            log.append(("state seen by others", sleeper.state))
            meanwhile(sleeper)

        def sleep():
            allow_signal(10)
            set_current_state(state)
            kick.complete()
            log.append(("state kept", current().state))
            left = schedule_timeout(1_000_000)
            log.append(("slept", left == 0, current().state))

        kick = Completion()
        start(urgent, policy=SCHED_FIFO, prio=10)
        sleeper = kthread_run(sleep)
        msleep(5)

    return init


@pytest.mark.parametrize("state", [TASK_INTERRUPTIBLE, TASK_UNINTERRUPTIBLE])
def test_a_wake_up_of_the_preempted_is_not_lost(run, log, state):
    run(preempted_sleeper(state, lambda task: log.append(wake_up_process(task)), log))
    assert log == [
        ("state seen by others", TASK_RUNNING),
        True,
        ("state kept", TASK_RUNNING),
        ("slept", False, TASK_RUNNING),
    ]


@pytest.mark.parametrize("state", [TASK_INTERRUPTIBLE, TASK_UNINTERRUPTIBLE])
def test_without_a_wake_up_the_preempted_sleeps_as_it_meant_to(run, log, state):
    run(preempted_sleeper(state, lambda task: None, log))
    assert log == [("state seen by others", TASK_RUNNING), ("state kept", state), ("slept", True, TASK_RUNNING)]


@pytest.mark.parametrize(("state", "wakes"), [(TASK_INTERRUPTIBLE, True), (TASK_UNINTERRUPTIBLE, False)])
def test_a_signal_for_the_preempted_ends_only_an_interruptible_sleep(run, log, state, wakes):
    run(preempted_sleeper(state, lambda task: send_sig(10, task), log))
    assert log[-1] == ("slept", not wakes, TASK_RUNNING)


def test_a_preempted_task_is_shown_as_preempted(parity, log):
    trace = parity(preempted_sleeper(TASK_INTERRUPTIBLE, lambda task: None, log))
    assert "prev_state=R+ ==> next_comm=task" in trace


def test_a_task_is_preempted_again_and_again_before_it_sleeps(run, log):
    def init():
        def urgent():
            for _ in range(3):
                kick.wait_for_completion()
                log.append("urgent")

        kick = Completion()
        start(urgent, policy=SCHED_FIFO, prio=10)
        set_current_state(TASK_UNINTERRUPTIBLE)
        for _ in range(3):
            kick.complete()
            assert current().state == TASK_UNINTERRUPTIBLE
        log.append(schedule_timeout(1_000_000))

    run(init)
    assert log == ["urgent", "urgent", "urgent", 0]


def test_a_task_that_is_killed_while_it_is_preempted_unwinds_runnable(run, log):
    def init():
        def urgent():
            kick.wait_for_completion()
            kernel_power_off()

        def victim():
            set_current_state(TASK_UNINTERRUPTIBLE)
            try:
                kick.complete()
            finally:
                log.append(("unwinds", current().state, current().saved_state))

        kick = Completion()
        start(urgent, policy=SCHED_FIFO, prio=10)
        kthread_run(victim)
        while True:
            msleep(1)

    run(init)
    assert log == [("unwinds", TASK_RUNNING, TASK_RUNNING)]


# -- a dying task and who waits for it


def test_a_real_time_stopper_that_powers_off_finds_the_dying_thread_out_of_the_way(run):
    """Nobody preempts an end that is under way: nothing could be raised in frames that are gone."""

    def init():
        def worker():
            while not kthread_should_stop():
                schedule_timeout(1_000_000)
            return 7

        task = kthread_run(worker)
        sched_setscheduler(current(), SCHED_FIFO, 5)
        msleep(3)
        return kthread_stop(task)

    assert run(init) == 7


# -- parity


def test_preemption_everywhere_traces_the_same(parity):
    def init():
        def urgent(period):
            while not kthread_should_stop():
                msleep(period)

        def worker(semaphore):
            for _ in range(10):
                with semaphore:
                    for _ in range(40):
                        cond_resched()
                        ktime_get()
                schedule()

        semaphore = Semaphore(1)
        rt = [start(urgent, n, policy=SCHED_RR if n % 2 else SCHED_FIFO, prio=10 * n, name="rt/%d") for n in (1, 2, 3)]
        for task in [kthread_run(worker, semaphore, name="worker") for _ in range(4)]:
            kthread_stop(task)
        for task in rt:
            kthread_stop(task)

    assert parity(init).count("sched_switch") > 100
