"""lkl_run(), pause() and run(): the application's loop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from greenlet import greenlet

from lkl_green import Deadlock, KernelHalted, KernelPanic, RunReason, RunUntil, lkl_start_kernel
from lkl_green.kernel.sched import POLL_POINTS
from lkl_green.linux import (
    SCHED_FIFO,
    SCHED_NORMAL,
    SCHED_RR,
    TASK_IDLE,
    TASK_INTERRUPTIBLE,
    Completion,
    Mutex,
    Semaphore,
    Timer,
    WaitQueueHead,
    cond_resched,
    current,
    current_kernel,
    do_exit,
    kernel_power_off,
    kernel_thread,
    kthread_create,
    kthread_run,
    ktime_get,
    msleep,
    preempt_disable,
    preempt_enable,
    sched_setscheduler,
    schedule,
    set_current_state,
    wait_event,
    wake_up_process,
    yield_,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green import Kernel

MS = 1_000_000


class HostTime:
    """A host clock that the test moves, or that moves by a step with each look at it."""

    def __init__(self, kernel: Kernel, step_ns: int = 0) -> None:
        self.now_ns = kernel.host.time()
        self.step_ns = step_ns
        kernel.host.time = self  # type: ignore[method-assign]

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns


def workers(log: list[Any], steps: int = 3) -> Callable[[], None]:
    """An init that starts three workers together; each gives up the CPU between its steps."""

    def init():
        def worker(name):
            for step in range(steps):
                log.append(f"{name}{step}")
                schedule()

        for task in [kthread_create(worker, name) for name in "abc"]:
            wake_up_process(task)
        msleep(1)

    return init


def run_in_steps(kernel: Kernel, **how: Any) -> int:
    """Run to power-off with the given limits; how many calls of `lkl_run()` that took."""
    calls = 0
    while not kernel.halted:
        kernel.pause(kernel.lkl_run(**how))
        calls += 1
        assert calls < 100_000
    return calls


# -- IDLE and next_event_ns


def test_nothing_runs_before_the_first_lkl_run(boot, log):
    kernel = boot(lambda: log.append("init"))
    assert log == []
    kernel.lkl_run()
    assert log == ["init"]


def test_idle_tells_when_the_next_timer_is_due(boot):
    def init():
        msleep(5)
        msleep(20)

    kernel = boot(init)
    first = kernel.lkl_run()
    assert first.reason is RunReason.IDLE
    assert 5 * MS <= first.next_event_ns < 6 * MS
    assert first.report == ""
    assert repr(first) == f"<RunStatus IDLE next_event_ns={first.next_event_ns}>"
    again = kernel.lkl_run()
    assert again.next_event_ns == first.next_event_ns
    kernel.pause(again)
    assert kernel.clock.peek_ns() == first.next_event_ns
    assert 25 * MS <= kernel.lkl_run().next_event_ns < 27 * MS


def test_the_next_event_is_the_first_of_all_timers_and_none_without_any(boot):
    kernel = boot()
    timers = [Timer(print, kernel) for _ in range(3)]
    for timer, when in zip(timers, (30, 10, 20), strict=True):
        timer.mod_timer(when * MS)
    expected = [10 * MS, 20 * MS, 30 * MS, None]
    for timer, due in zip([timers[1], timers[2], timers[0]], expected, strict=False):
        assert kernel.lkl_run().next_event_ns == due
        timer.del_timer()
    assert kernel.lkl_run().next_event_ns is None


# -- DEADLOCK


def waits_for_completion() -> None:
    Completion(name="never").wait_for_completion()


def waits_for_semaphore() -> None:
    Semaphore(0, name="empty").down()


def waits_for_mutex() -> None:
    mutex = Mutex(name="held")
    kthread_run(mutex.lock, name="holder")
    msleep(1)
    mutex.lock()


def waits_for_event() -> None:
    wait_event(WaitQueueHead(name="silent"), lambda: False)


def sleeps_for_good() -> None:
    set_current_state(TASK_INTERRUPTIBLE)
    schedule()


@pytest.mark.parametrize(
    ("init", "reason"),
    [
        (waits_for_completion, "Completion never"),
        (waits_for_semaphore, "Semaphore empty count=0"),
        (waits_for_mutex, "Mutex held held by holder-4"),
        (waits_for_event, "WaitQueueHead silent"),
        (sleeps_for_good, "INTERRUPTIBLE"),
    ],
)
def test_a_deadlock_names_task_reason_and_stack(boot, init, reason):
    kernel = boot(init)
    status = kernel.lkl_run()
    if status.reason is RunReason.IDLE:
        kernel.pause(status)
        status = kernel.lkl_run()
    assert status.reason is RunReason.DEADLOCK
    assert status.next_event_ns is None
    assert "while init-1 waits" in status.report
    assert reason in status.report
    assert f"in {init.__name__}" in status.report
    assert "kthreadd" not in status.report
    with pytest.raises(Deadlock, match="init-1 waits") as caught:
        kernel.pause(status)
    assert str(caught.value) == status.report


def test_a_deadlock_of_several_names_them_all_and_run_raises_it_after_halting(boot, log):
    def init():
        def locks(name, first, second):
            try:
                with first:
                    yield_()
                    second.lock()
            finally:
                log.append(name)

        mutexes = Mutex(name="left"), Mutex(name="right")
        tasks = [kthread_create(locks, "a", *mutexes, name="a"), kthread_create(locks, "b", *mutexes[::-1], name="b")]
        for task in tasks:
            wake_up_process(task)
        waits_for_completion()

    kernel = boot(init)
    with pytest.raises(Deadlock, match="while init-1, a-4, b-5 wait\n") as caught:
        kernel.run()
    assert "Mutex right held by b-5 waiters: a-4" in str(caught.value)
    assert "Mutex left held by a-4 waiters: b-5" in str(caught.value)
    assert kernel.halted
    assert sorted(log) == ["a", "b"]


def test_after_a_deadlock_the_application_may_still_help(boot, log):
    done: list[Completion] = []

    def init():
        done.append(Completion())
        done[0].wait_for_completion()
        log.append("helped")

    kernel = boot(init)
    assert kernel.lkl_run().reason is RunReason.DEADLOCK
    assert kernel.lkl_run().reason is RunReason.DEADLOCK
    done[0].complete()
    assert kernel.lkl_run().reason is RunReason.HALTED
    assert log == ["helped"]


def test_no_deadlock_while_a_timer_is_armed(boot):
    def init():
        Timer(lambda timer: None).mod_timer_in(5 * MS)
        waits_for_completion()

    kernel = boot(init)
    status = kernel.lkl_run()
    assert status.reason is RunReason.IDLE
    kernel.pause(status)
    assert kernel.lkl_run().reason is RunReason.DEADLOCK


def test_no_deadlock_while_an_interrupt_may_come(boot):
    kernel = boot(waits_for_completion)
    irq = kernel.lkl_get_free_irq("dev")
    kernel.irq.request_irq(irq, print, "dev")
    assert kernel.lkl_run().reason is RunReason.IDLE
    kernel.irq.free_irq(irq, "dev")
    assert kernel.lkl_run().reason is RunReason.DEADLOCK


@pytest.mark.parametrize(
    ("init", "open_ended", "reason"),
    [
        (waits_for_completion, None, RunReason.DEADLOCK),
        (waits_for_completion, False, RunReason.DEADLOCK),
        (waits_for_completion, True, RunReason.IDLE),
        (None, None, RunReason.IDLE),
        (None, True, RunReason.IDLE),
        (None, False, RunReason.IDLE),
    ],
)
def test_open_ended_says_whether_the_application_may_call_in(boot, init, open_ended, reason):
    assert boot(init, open_ended=open_ended).lkl_run().reason is reason


def test_service_threads_are_not_stuck_but_others_without_init_are(boot):
    def sleeps_idle():
        while True:
            set_current_state(TASK_IDLE)
            schedule()

    kernel = boot(open_ended=False)
    kernel.kthreads.kthread_run_nowait(sleeps_idle, name="service", failed=print)
    assert kernel.lkl_run().reason is RunReason.IDLE
    kernel.kthreads.kthread_run_nowait(waits_for_completion, name="stuck", failed=print)
    assert "while stuck-5 waits" in kernel.lkl_run().report


def test_an_init_that_sleeps_like_a_service_thread_is_a_deadlock_all_the_same(boot):
    """Or run() would hang: init is what the kernel runs for."""

    def init():
        set_current_state(TASK_IDLE)
        schedule()

    with pytest.raises(Deadlock, match="init-1 waits"):
        boot(init).run()


# -- HALTED


def test_halted_when_init_returns_and_ever_after(boot):
    kernel = boot(lambda: "result")
    assert kernel.lkl_run().reason is RunReason.HALTED
    assert kernel.init_result == "result"
    assert kernel.lkl_run().reason is RunReason.HALTED
    assert kernel.run() == "result"
    assert not kernel.lkl_is_running()
    kernel.pause(None)


def test_a_panic_stops_for_good(boot):
    def init():
        raise ZeroDivisionError("in init")

    kernel = boot(init)
    with pytest.raises(KernelPanic, match="ZeroDivisionError in init") as caught:
        kernel.lkl_run()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises((KernelPanic, KernelHalted)):
        kernel.lkl_run()
    kernel.lkl_sys_halt()
    assert kernel.halted
    with pytest.raises(KernelHalted, match="after a kernel panic"):
        kernel.lkl_run()


@pytest.mark.parametrize("result", [None, 0, "text", -5])
def test_run_returns_what_init_returned(run, result):
    assert run(lambda: result) == result


def test_run_returns_what_init_exited_with(run):
    assert run(lambda: do_exit(9)) == 9


def test_init_gets_its_arguments(run):
    assert run(lambda *args: args, 1, "two", None) == (1, "two", None)


def test_without_init_run_goes_on_until_somebody_powers_off(boot, log):
    kernel = boot()
    timer = Timer(lambda timer: (log.append("timer"), kernel_power_off()), kernel)
    timer.mod_timer(5 * MS)
    assert kernel.run() is None
    assert log == ["timer"]
    assert kernel.halted


def test_power_off_beats_a_budget_that_is_used_up_at_the_same_point(boot):
    def init():
        kernel_power_off()
        schedule()

    assert boot(init).lkl_run(max_switches=1).reason is RunReason.HALTED


def test_with_halts_at_the_end(configuration, log):
    def init():
        try:
            while True:
                msleep(1)
        finally:
            log.append("unwound")

    with lkl_start_kernel(init, clock="virtual", **configuration) as kernel:
        kernel.lkl_run()
        assert kernel.lkl_is_running()
    assert kernel.halted
    assert log == ["unwound"]


def test_with_halts_when_the_block_raises_and_the_error_stays(configuration):
    def fails() -> None:
        with lkl_start_kernel(waits_for_completion, clock="virtual", **configuration) as kernel:
            kernels.append(kernel)
            kernel.lkl_run()
            raise ZeroDivisionError

    kernels: list[Kernel] = []
    with pytest.raises(ZeroDivisionError):
        fails()
    assert kernels[0].halted


# -- RunUntil.SWITCH


def test_until_switch_returns_at_every_switch(boot, log):
    kernel = boot(workers(log))
    seen = []
    while not kernel.halted:
        before = len(log)
        status = kernel.lkl_run(RunUntil.SWITCH)
        assert len(log) - before <= 1
        if status.reason is RunReason.SWITCHED:
            seen.extend(log[before:])
        kernel.pause(status)
    assert seen == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


def test_between_two_switches_the_application_may_do_anything(boot, log):
    """Scheduling the kernel against the application is entirely up to the application."""
    kernel = boot(workers(log, steps=2))
    while not kernel.halted:
        status = kernel.lkl_run(RunUntil.SWITCH)
        if status.reason is RunReason.SWITCHED and log and log[-1] != "application":
            log.append("application")
        kernel.pause(status)
    steps = ["a0", "b0", "c0", "a1", "b1", "c1"]
    assert [entry for entry in log if entry != "application"] == steps
    assert log[1::2] == ["application"] * 6


def test_until_switch_waits_for_the_end_of_an_atomic_section(boot, log):
    def init():
        preempt_disable()
        log.append("atomic")
        cond_resched()
        log.append("still atomic")
        preempt_enable()
        log.append("not atomic")
        cond_resched()
        log.append("over")

    kernel = boot(init)
    kernel.lkl_run(RunUntil.SWITCH)
    assert log == ["atomic", "still atomic", "not atomic"]
    run_in_steps(kernel, until=RunUntil.SWITCH)
    assert log == ["atomic", "still atomic", "not atomic", "over"]


def test_a_task_that_is_left_between_state_and_sleep_keeps_its_wake_up(boot, log):
    """The application wakes it while it is preempted by the application itself."""
    tasks = []

    def init():
        tasks.append(current())
        set_current_state(TASK_INTERRUPTIBLE)
        cond_resched()
        log.append("resumed")
        schedule()
        log.append("did not sleep")

    kernel = boot(init)
    kernel.lkl_run(RunUntil.SWITCH)
    assert log == []
    assert kernel.sched.wake_up_process(tasks[0])
    assert run_in_steps(kernel, until=RunUntil.SWITCH) < 10
    assert log == ["resumed", "did not sleep"]


# -- max_switches


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
def test_max_switches_bounds_a_call_and_changes_nothing_else(boot, log, limit):
    whole: list[str] = []
    boot(workers(whole)).run()
    kernel = boot(workers(log))
    calls = 0
    while not kernel.halted:
        before = len(log)
        status = kernel.lkl_run(max_switches=limit)
        assert len(log) - before <= limit
        assert status.reason in (RunReason.BUDGET, RunReason.IDLE, RunReason.HALTED)
        kernel.pause(status)
        calls += 1
    assert log == whole
    assert calls >= 9 // limit


@pytest.mark.parametrize("how", [{"until": RunUntil.SWITCH}, {"max_switches": 1}, {"max_switches": 3}])
@pytest.mark.parametrize("point", [schedule, cond_resched])
@pytest.mark.parametrize("policy", [SCHED_NORMAL, SCHED_FIFO, SCHED_RR])
def test_how_the_application_cuts_its_calls_does_not_change_who_comes_next(boot, policy, point, how):
    """Being left is no yield and no preemption by another task, as long as the time slice lasts."""

    def init(log):
        def worker(name):
            for step in range(50):
                log.append(f"{name}{step}")
                point()

        tasks = [kthread_create(worker, name) for name in "ab"]
        sched_setscheduler(current(), SCHED_FIFO, 50)
        for task in tasks:
            sched_setscheduler(task, policy, 7 if policy else 0)
            wake_up_process(task)
        msleep(1)

    whole: list[str] = []
    boot(init, whole).run()
    stepped: list[str] = []
    run_in_steps(boot(init, stepped), **how)
    assert len(whole) == 100
    assert stepped == whole


def test_max_switches_0_does_nothing(boot, log):
    kernel = boot(workers(log))
    for _ in range(3):
        assert kernel.lkl_run(max_switches=0).reason is RunReason.BUDGET
    assert log == []


def test_a_budget_that_is_not_needed_is_not_noticed(boot):
    kernel = boot(lambda: msleep(1))
    assert kernel.lkl_run(max_switches=10**6, budget_ns=10**15).reason is RunReason.IDLE


def test_a_budget_s_status_tells_the_next_event_too(boot):
    def init():
        Timer(print).mod_timer_in(50 * MS)
        while True:
            schedule()

    kernel = boot(init)
    status = kernel.lkl_run(max_switches=20)
    assert status.reason is RunReason.BUDGET
    assert status.next_event_ns >= 50 * MS


# -- budget_ns


@pytest.mark.parametrize("point", [schedule, cond_resched])
def test_budget_ns_ends_at_a_scheduling_point_soon_after(boot, point):
    counts = [0]

    def init():
        while True:
            counts[0] += 1
            point()

    kernel = boot(init)
    HostTime(kernel, step_ns=10)
    for _ in range(3):
        before = counts[0]
        status = kernel.lkl_run(budget_ns=100)
        assert status.reason is RunReason.BUDGET
        assert POLL_POINTS < counts[0] - before < 30 * POLL_POINTS


def test_budget_ns_counts_from_the_call_and_only_while_it_lasts(boot, log):
    def init():
        while True:
            log.append(1)
            time.now_ns += 60
            for _ in range(POLL_POINTS):
                cond_resched()

    kernel = boot(init)
    time = HostTime(kernel)
    kernel.lkl_run(budget_ns=100)
    first = len(log)
    time.now_ns += 10**9
    kernel.lkl_run(budget_ns=100)
    assert 2 <= first <= 4
    assert 1 <= len(log) - first <= 4


def test_budget_ns_with_the_real_clock(boot):
    def init():
        while True:
            cond_resched()

    kernel = boot(init, clock="monotonic")
    assert kernel.lkl_run(budget_ns=MS).reason is RunReason.BUDGET
    assert kernel.lkl_run(budget_ns=1).reason is RunReason.BUDGET


def test_a_real_time_task_that_never_sleeps_is_bounded_too(boot):
    def init():
        sched_setscheduler(current(), SCHED_FIFO, 99)
        while True:
            cond_resched()

    kernel = boot(init)
    for _ in range(3):
        assert kernel.lkl_run(max_switches=1000).reason is RunReason.BUDGET


# -- pause()


@pytest.mark.parametrize("how", [{"until": RunUntil.SWITCH}, {"max_switches": 1}])
def test_pause_has_nothing_to_wait_for_unless_idle(boot, log, how):
    kernel = boot(workers(log))
    status = kernel.lkl_run(**how)
    before = kernel.clock.peek_ns()
    kernel.pause(status)
    assert kernel.clock.peek_ns() == before


def test_pause_does_not_sleep_while_a_task_is_runnable_or_an_interrupt_pending(boot, log):
    kernel = boot()
    irq = kernel.lkl_get_free_irq("dev")
    kernel.irq.request_irq(irq, log.append, "dev")
    kernel.pause()
    status = kernel.lkl_run()
    kernel.lkl_trigger_irq(irq)
    kernel.pause(status)
    assert log == []
    kernel.lkl_run()
    assert log == [irq]


def test_pause_in_virtual_time_jumps_to_the_next_timer_and_no_further(boot):
    kernel = boot()
    Timer(lambda timer: None, kernel).mod_timer(7 * MS)
    Timer(lambda timer: None, kernel).mod_timer(9 * MS)
    times = []
    for _ in range(2):
        kernel.pause(kernel.lkl_run())
        times.append(kernel.clock.peek_ns())
    assert times == [7 * MS, 9 * MS]


def test_pause_with_a_timer_that_is_overdue_returns_at_once(boot, log):
    kernel = boot()
    status = kernel.lkl_run()
    kernel.clock.advance_to(10 * MS)
    Timer(lambda timer: log.append("late"), kernel).mod_timer(5 * MS)
    before = kernel.clock.peek_ns()
    kernel.pause(status)
    assert kernel.clock.peek_ns() - before <= 1000
    kernel.lkl_run()
    assert log == ["late"]


def test_pause_on_the_real_clock_ends_with_the_timer(boot, log):
    def init():
        begin = ktime_get()
        msleep(3)
        log.append(ktime_get() - begin >= 3 * MS)

    boot(init, clock="monotonic").run()
    assert log == [True]


@pytest.mark.parametrize("clock", ["monotonic", "virtual"])
def test_pause_ends_with_an_interrupt_from_another_os_thread(boot, log, clock):
    """Raised before, during or after the kernel falls asleep: never missed."""
    kernel = boot(clock=clock)
    irq = kernel.lkl_get_free_irq("dev")
    kernel.irq.request_irq(irq, log.append, "dev")
    for step in range(20):
        status = kernel.lkl_run()
        thread = threading.Thread(target=kernel.lkl_trigger_irq, args=(irq,))
        thread.start()
        if step % 2:
            thread.join(10)
        kernel.pause(status)
        kernel.lkl_run()
        thread.join(10)
        kernel.lkl_run()
        assert len(log) == step + 1


# -- exceptions that are the application's


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_for_the_application_leaves_lkl_run_and_the_kernel_goes_on(boot, log, error):
    def init():
        def raises():
            raise error

        kthread_run(raises)
        for step in range(3):
            msleep(1)
            log.append(step)

    kernel = boot(init)
    with pytest.raises(error):
        run_in_steps(kernel)
    assert kernel.lkl_is_running()
    run_in_steps(kernel)
    assert log == [0, 1, 2]


def test_run_halts_the_kernel_before_such_an_exception_leaves(boot, log):
    def init():
        def raises():
            raise KeyboardInterrupt

        kthread_run(raises)
        try:
            msleep(1000)
        finally:
            log.append("unwound")

    kernel = boot(init)
    with pytest.raises(KeyboardInterrupt):
        kernel.run()
    assert kernel.halted
    assert log == ["unwound"]


# -- several kernels, several callers


def test_two_kernels_step_side_by_side_and_do_not_notice_each_other(boot):
    logs: list[list[Any]] = [[], []]
    kernels = [boot(workers(log, steps=5), name=f"k{n}") for n, log in enumerate(logs)]
    while not all(kernel.halted for kernel in kernels):
        for kernel in kernels:
            kernel.pause(kernel.lkl_run(RunUntil.SWITCH))
    assert logs[0] == logs[1]
    assert len(logs[0]) == 15


def test_a_kernel_inside_a_kernel_thread_of_another_one(boot, log):
    """lkl_run() of another kernel is just a computation for the kernel thread that makes it."""

    def inner():
        log.append(current_kernel().name)
        msleep(1)
        return "inner result"

    def outer():
        log.append(current_kernel().name)
        with lkl_start_kernel(inner, clock="virtual", loglevel=0, name="inner") as kernel:
            result = kernel.run()
        log.append(current_kernel().name)
        msleep(1)
        return result

    assert boot(outer, name="outer").run() == "inner result"
    assert log == ["outer", "inner", "outer"]


def test_kernels_in_several_os_threads_at_once(configuration):
    def one(number: int) -> None:
        log: list[Any] = []
        with lkl_start_kernel(workers(log, 20), clock="virtual", loglevel=0, **configuration) as kernel:
            kernel.run()
        results[number] = log

    results: dict[int, list[Any]] = {}
    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert len({str(log) for log in results.values()}) == 1
    assert len(results) == 4


def test_lkl_run_may_be_called_from_another_greenlet_each_time(log):
    kernel = lkl_start_kernel(workers(log), clock="virtual", loglevel=0)
    while not kernel.halted:
        status = greenlet(lambda: kernel.lkl_run(RunUntil.SWITCH)).switch()
        kernel.pause(status)
    assert log == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


# -- parity


@pytest.mark.parametrize("how", [{"until": RunUntil.SWITCH}, {"max_switches": 3}, {"max_switches": 10}])
def test_stepping_traces_the_same_in_all_configurations(how):
    from lkl_green.compare.parity import CONFIGURATIONS

    def init():
        def worker(name):
            for _ in range(5):
                with mutex:
                    log.append(name)
                    cond_resched()
                schedule()
                msleep(1)

        mutex = Mutex()
        for name in "abc":
            task = kthread_create(worker, name, name=name)
            sched_setscheduler(task, SCHED_FIFO if name == "b" else 0, 5)
            wake_up_process(task)
        kernel_thread(lambda arg: (msleep(3), do_exit(0)))
        msleep(30)

    outcomes = []
    for where in CONFIGURATIONS:
        log: list[str] = []
        options = {"host": where.host, "switch": where.switch, "clock": "virtual", "loglevel": 0, "trace": True}
        with lkl_start_kernel(init, **options) as kernel:
            calls = run_in_steps(kernel, **how)
            outcomes.append((calls, log, list(kernel.sched.trace.records)))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert len(outcomes[0][1]) == 15
