"""What a person asks a kernel: ps, stacks, deadlock reports, statistics, reprs."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from lkl_green import KernelPanic, RunReason, RunStatus, lkl_start_kernel
from lkl_green.compare.parity import CONFIGURATIONS
from lkl_green.errors import Deadlock
from lkl_green.linux import (
    SCHED_FIFO,
    SIGCHLD,
    TASK_IDLE,
    Completion,
    Mutex,
    Semaphore,
    SpinLock,
    WaitQueueHead,
    cpu_relax,
    current,
    current_kernel,
    do_exit,
    kernel_thread,
    kthread_create,
    kthread_park,
    kthread_parkme,
    kthread_run,
    kthread_should_stop,
    kthread_stop,
    msleep,
    request_irq,
    sched_setscheduler,
    schedule,
    set_current_state,
    wait_event,
    yield_,
)


def waits_for(what: Completion) -> None:
    what.wait_for_completion()


WAIT_LINE = (
    f'  File "{__file__}", line {waits_for.__code__.co_firstlineno + 1}, in waits_for\n    what.wait_for_completion()\n'
)


def park():
    while not kthread_should_stop():
        kthread_parkme()
        yield_()


# -- ps


def test_ps_is_a_table_of_tasks_in_the_order_of_their_pids(run, log):
    def init():
        never = Completion(name="godot")
        urgent = kthread_run(waits_for, never, name="urgent")
        sched_setscheduler(urgent, SCHED_FIFO, 99)
        kthread_create(waits_for, never, name="newborn")
        zombie = kernel_thread(do_exit, 0, SIGCHLD)
        kthread_park(kthread_run(park, name="parks"))
        msleep(1)
        assert zombie == 6
        log.extend(current_kernel().ps().splitlines())

    run(init)
    assert log == [
        "    PID    PPID S PRI COMM             WAITING FOR",
        "      1       0 R 120 init",
        "      2       0 I 120 kthreadd",
        "      3       2 I 120 ksoftirqd/0",
        "      4       2 D   0 urgent           <Completion godot done=0 waiters: urgent-4>",
        "      5       2 D 120 newborn          its first wake_up_process()",
        "      6       1 Z 120 init",
        "      7       2 P 120 parks            kthread_unpark()",
    ]


def test_a_task_that_runs_waits_for_nothing(run, log):
    """What it waited for last is not shown."""

    def init():
        queue = WaitQueueHead(name="queue")
        go: list[int] = []
        task = kthread_run(wait_event, queue, lambda: go, name="waiter")
        yield_()
        log.append(current_kernel().ps().splitlines()[-1])
        go.append(1)
        queue.wake_up()
        log.append(current_kernel().ps().splitlines()[-1])
        log.append(repr(task))

    run(init)
    assert log == [
        "      4       2 D 120 waiter           <WaitQueueHead queue waiters: waiter-4>",
        "      4       2 R 120 waiter",
        "<Task waiter-4 RUNNING>",
    ]


def test_a_halted_kernel_has_no_tasks(boot):
    kernel = boot(lambda: 7)
    kernel.run()
    assert kernel.ps().splitlines() == ["    PID    PPID S PRI COMM             WAITING FOR"]
    assert kernel.dump_stacks() == ""


# -- stacks


def test_stacks_show_where_each_task_sleeps(run, log):
    def init():
        never = Completion(name="godot")
        kthread_run(waits_for, never, name="waiter")
        kthread_create(waits_for, never, name="newborn")
        yield_()
        log.append(current_kernel().dump_stacks())

    run(init)
    parts = dict(part.split(": ", 1) for part in log[0].split("task ")[1:])
    assert parts["init-1"] == "RUNNING\n"
    assert parts["waiter-4"].startswith("UNINTERRUPTIBLE, waiting for <Completion godot done=0 waiters: waiter-4>\n")
    assert WAIT_LINE in parts["waiter-4"]
    assert parts["newborn-5"] == "UNINTERRUPTIBLE, waiting for its first wake_up_process()\n  (has not run)\n"
    assert parts["kthreadd-2"].startswith("IDLE\n")


def test_stacks_are_the_same_in_all_configurations():
    """They begin where the task does; how its host thread got there is not shown."""

    def init():
        kthread_run(waits_for, Completion(name="godot"), name="waiter")
        msleep(1)
        return current_kernel().dump_stacks(), current_kernel().ps()

    texts = set()
    for where in CONFIGURATIONS:
        kernel = lkl_start_kernel(init, clock="virtual", loglevel=0, host=where.host, switch=where.switch)
        texts.add(kernel.run())
    assert len(texts) == 1
    stacks, _ = texts.pop()
    assert "ret_from_fork" in stacks.split("task waiter-4")[1].splitlines()[1]


def test_the_application_can_look_between_two_runs_and_after_a_panic(boot):
    def init():
        kthread_run(waits_for, Completion(name="godot"), name="waiter")
        yield_()
        raise ValueError("init fails")

    kernel = boot(init)
    with pytest.raises(KernelPanic):
        kernel.lkl_run()
    assert WAIT_LINE in kernel.dump_stacks()
    assert "waiter           <Completion godot" in kernel.ps()
    assert "panicked" in repr(kernel)


def test_an_interrupt_handler_can_look(run, log):
    def init():
        kernel = current_kernel()
        irq = kernel.lkl_get_free_irq("sysrq")
        request_irq(irq, lambda irq: log.append(kernel.dump_stacks()), "sysrq")
        kthread_run(waits_for, Completion(), name="waiter")
        yield_()
        kernel.lkl_trigger_irq(irq)
        cpu_relax()

    run(init)
    assert "task init-1: RUNNING\n" in log[0]
    assert WAIT_LINE in log[0]


# -- deadlocks


def test_a_deadlock_names_who_waits_for_what_and_where(boot):
    def first(one, two):
        with one:
            msleep(1)
            with two:
                pass

    def init():
        one, two = Mutex(name="one"), Mutex(name="two")
        kthread_run(first, one, two, name="ab")
        kthread_run(first, two, one, name="ba")
        waits_for(Completion(name="both"))

    kernel = boot(init)
    with pytest.raises(Deadlock) as caught:
        kernel.run()
    text = str(caught.value)
    assert "while init-1, ab-4, ba-5 wait\n" in text
    assert "task ab-4: UNINTERRUPTIBLE, waiting for <Mutex two held by ba-5 waiters: ab-4>" in text
    assert "task ba-5: UNINTERRUPTIBLE, waiting for <Mutex one held by ab-4 waiters: ba-5>" in text
    assert f"line {first.__code__.co_firstlineno + 3}, in first\n    with two:" in text
    assert WAIT_LINE in text
    assert "kthreadd" not in text
    assert "lkl_green/" not in text.replace(__file__, ""), "how the kernel sleeps is no news to whoever reads it"
    assert kernel.halted


def test_one_task_that_waits_is_enough(boot):
    with pytest.raises(Deadlock, match="while init-1 waits\n"):
        boot(lambda: waits_for(Completion(name="godot"))).run()


def test_lkl_run_reports_a_deadlock_and_pause_raises_it(boot):
    kernel = boot(lambda: waits_for(Completion(name="godot")))
    status = kernel.lkl_run()
    assert status.reason is RunReason.DEADLOCK
    assert "godot" in status.report
    with pytest.raises(Deadlock, match="godot"):
        kernel.pause(status)
    assert kernel.lkl_run().reason is RunReason.DEADLOCK


@pytest.mark.parametrize(
    "reason", ["a timer", "an interrupt source", "the application may call in", "a runnable task that comes later"]
)
def test_no_deadlock_while_something_can_still_come(boot, reason, log):
    def init():
        done = Completion(name="godot")
        kernel = current_kernel()
        if reason == "a timer":
            kthread_run(lambda: (msleep(5), done.complete()))
        elif reason == "an interrupt source":
            request_irq(kernel.lkl_get_free_irq("device"), lambda irq: done.complete(), "device")
        elif reason == "a runnable task that comes later":
            kthread_run(done.complete)
        waits_for(done)
        log.append("done")

    kernel = boot(init, open_ended=reason == "the application may call in" or None)
    status = kernel.lkl_run()
    assert status.reason is not RunReason.DEADLOCK
    assert (status.next_event_ns is not None) == (reason == "a timer")


def test_sleepers_in_task_idle_are_service_threads_but_init_is_not(boot):
    def init():
        def service():
            set_current_state(TASK_IDLE)
            schedule()

        kthread_run(service, name="service")
        yield_()
        set_current_state(TASK_IDLE)
        schedule()

    status = boot(init).lkl_run()
    assert status.reason is RunReason.DEADLOCK
    assert "while init-1 waits\n" in status.report


def test_a_parked_thread_is_stuck_like_any_other(boot):
    def init():
        kthread_park(kthread_run(park, name="parks"))
        waits_for(Completion())

    assert "while init-1, parks-4 wait\n" in boot(init).lkl_run().report


def test_a_system_call_that_never_returns_is_reported_to_its_caller(boot, log):
    kernel = boot(open_ended=False)
    never = Completion(kernel, "godot")
    kernel.syscalls.install(1000, "wait", never.wait_for_completion)
    with pytest.raises(Deadlock, match="system call 1000 of the application never returns") as caught:
        kernel.lkl_syscall(1000)
    assert "host0" in str(caught.value)


# -- statistics


def test_statistics_count_since_boot(run, log):
    def init():
        kernel = current_kernel()
        before = kernel.statistics()
        for _ in range(3):
            msleep(1)
        kthread_stop(kthread_run(lambda: None))
        after = kernel.statistics()
        log.append(after.irqs - before.irqs)
        log.append(after.softirqs["TIMER"] - before.softirqs.get("TIMER", 0))
        log.append(after.switches - before.switches)
        log.append((after.time_ns - before.time_ns) // 1_000_000)
        log.append((after.tasks, after.timers_pending, after.tainted))

    run(init)
    irqs, softirqs, switches, ms, rest = log
    assert (irqs, softirqs, ms) == (3, 3, 3)
    assert switches >= 10
    assert rest == (3, 0, 0)


def test_statistics_are_the_same_in_all_configurations():
    def init():
        for task in [kthread_run(msleep, ms) for ms in (3, 1, 2)]:
            task.kthread.exited.wait_for_completion()
        return current_kernel().statistics()

    kernels = [
        lkl_start_kernel(init, clock="virtual", loglevel=0, host=where.host, switch=where.switch)
        for where in CONFIGURATIONS
    ]
    results = [kernel.run() for kernel in kernels]
    assert results[0] == results[1] == results[2]


def test_statistics_do_not_change(kernel):
    statistics = kernel.statistics()
    with pytest.raises(AttributeError):
        statistics.switches = 1
    assert "switches=" in repr(statistics)


# -- reprs


def test_reprs_tell_states_and_waiters(run):
    def init():
        things: dict[str, Any] = {
            "mutex": Mutex(name="m"),
            "semaphore": Semaphore(0, name="s"),
            "completion": Completion(name="c"),
            "queue": WaitQueueHead(name="q"),
            "spin": SpinLock(name="l"),
        }
        assert [repr(thing) for thing in things.values()] == [
            "<Mutex m free waiters: nobody>",
            "<Semaphore s count=0 waiters: nobody>",
            "<Completion c done=0 waiters: nobody>",
            "<WaitQueueHead q waiters: nobody>",
            "<SpinLock l free>",
        ]
        things["mutex"].lock()
        for wait in (things["mutex"].lock, things["semaphore"].down, things["completion"].wait_for_completion):
            kthread_run(wait, name="a")
            kthread_run(wait, name="b")
        kthread_run(things["queue"].wait_event, lambda: False, name="a")
        kthread_run(lambda: things["queue"].wait_event(lambda: False, exclusive=True), name="b")
        msleep(1)
        with things["spin"]:
            assert [repr(thing) for thing in things.values()] == [
                "<Mutex m held by init-1 waiters: a-4, b-5>",
                "<Semaphore s count=0 waiters: a-6, b-7>",
                "<Completion c done=0 waiters: a-8, b-9>",
                "<WaitQueueHead q waiters: a-10, b-11>",
                "<SpinLock l held by init-1>",
            ]
        things["completion"].complete_all()
        assert repr(things["completion"]) == "<Completion c done=all waiters: nobody>"
        assert repr(current()) == "<Task init-1 RUNNING>"
        assert repr(current_kernel().pids.tasks[4]).startswith("<Task a-4 UNINTERRUPTIBLE waiting for <Mutex m held by")

    run(init)


def test_a_name_is_not_needed_for_a_repr(kernel):
    for make in (Mutex, Semaphore, Completion, WaitQueueHead, SpinLock):
        assert repr(make(kernel=kernel)).startswith(f"<{make.__name__} 0x")


def test_a_kernel_tells_its_state(boot):
    kernel = boot(lambda: 7, name="test")
    assert repr(kernel) == f"<Kernel test running arch={kernel.arch.name} tasks=3>"
    kernel.run()
    assert repr(kernel) == f"<Kernel test halted arch={kernel.arch.name} tasks=0>"


def test_a_status_tells_its_reason():
    assert repr(RunStatus(RunReason.IDLE, 5)) == "<RunStatus IDLE next_event_ns=5>"


def test_reports_may_be_made_by_a_foreign_thread_while_the_kernel_is_idle(boot):
    kernel = boot()
    kernel.kthreads.kthread_run_nowait(waits_for, Completion(kernel, "godot"), name="waiter", failed=str)
    kernel.lkl_run()
    texts: list[str] = []
    thread = threading.Thread(target=lambda: texts.extend((kernel.ps(), kernel.dump_stacks())))
    thread.start()
    thread.join(5)
    assert "godot" in texts[0]
    assert WAIT_LINE in texts[1]
