"""Interrupts: rules 64 to 74, the named points, and storms."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green import KernelPanic, RunReason
from lkl_green.errors import SchedulingWhileAtomic
from lkl_green.kernel.irq import NR_IRQS
from lkl_green.kernel.syscall import NR_getpid
from lkl_green.linux import (
    IRQF_SHARED,
    SCHED_FIFO,
    TASK_INTERRUPTIBLE,
    Completion,
    SpinLock,
    Timer,
    cond_resched,
    cpu_relax,
    current,
    current_kernel,
    do_exit,
    free_irq,
    in_interrupt,
    irq_expect,
    kthread_create,
    kthread_run,
    kthread_should_stop,
    kthread_stop,
    local_bh_disable,
    local_bh_enable,
    local_irq_disable,
    local_irq_enable,
    local_irq_restore,
    local_irq_save,
    msleep,
    panic,
    preempt_disable,
    preempt_enable,
    request_irq,
    sched_setscheduler,
    schedule,
    schedule_timeout,
    set_current_state,
    tasklet,
    wake_up_process,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green import Kernel

S = 1_000_000_000


def line(kernel: Kernel, handler: Callable[[int], object], name: str = "dev") -> int:
    """A new interrupt line with a handler."""
    irq = kernel.lkl_get_free_irq(name)
    kernel.irq.request_irq(irq, handler, name)
    return irq


def my_line(handler: Callable[[int], object], name: str = "dev") -> int:
    """The same, for kernel code."""
    return line(current_kernel(), handler, name)


def trigger(irq: int) -> None:
    assert current_kernel().lkl_trigger_irq(irq) == 0


def on_os_thread(call: Callable[[], object]) -> None:
    """Run on an OS thread that the kernel knows nothing of, to its end."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


# -- rules 64 and 65: numbers


def test_rule_64_the_lowest_free_number_from_1_is_given(kernel):
    timer_irq = kernel.timers.irq
    first = kernel.lkl_get_free_irq("a")
    second = kernel.lkl_get_free_irq("b")
    assert (timer_irq, first, second) == (1, 2, 3)
    kernel.lkl_put_irq(first, "a")
    assert kernel.lkl_get_free_irq("c") == first


def test_rule_64_ebusy_when_all_are_taken(kernel):
    for irq in range(2, NR_IRQS - 1):
        kernel.irq.request_irq(irq, print, "greedy")
    assert kernel.lkl_get_free_irq("last") == NR_IRQS - 1
    with pytest.raises(OSError, match="numbers are taken") as caught:
        kernel.lkl_get_free_irq("late")
    assert caught.value.errno == errno.EBUSY


def test_rule_64_putting_with_the_wrong_user_warns_and_changes_nothing(kernel):
    irq = kernel.lkl_get_free_irq("owner")
    kernel.lkl_put_irq(irq, "stranger")
    assert kernel.printk.tainted == 1
    assert "belongs to owner, not to stranger" in kernel.printk.text()
    assert kernel.lkl_get_free_irq("next") == irq + 1


@pytest.mark.parametrize("irq", [0, -1, -NR_IRQS, NR_IRQS, NR_IRQS + 1])
def test_rule_65_einval_outside_the_range(kernel, irq):
    assert kernel.lkl_trigger_irq(irq) == -errno.EINVAL
    with pytest.raises(OSError) as caught:
        kernel.irq.request_irq(irq, print, "x")
    assert caught.value.errno == errno.EINVAL


def test_rule_65_the_highest_number_is_an_interrupt(kernel, log):
    kernel.irq.request_irq(NR_IRQS - 1, log.append, "last")
    assert kernel.lkl_trigger_irq(NR_IRQS - 1) == 0
    kernel.lkl_run()
    assert log == [NR_IRQS - 1]


def test_rule_65_callable_from_any_os_thread(kernel, log):
    irq = line(kernel, log.append)
    results: list[int] = []
    on_os_thread(lambda: results.append(kernel.lkl_trigger_irq(irq)))
    assert (results, log) == ([0], [])
    kernel.lkl_run()
    assert log == [irq]


def test_an_irq_without_a_handler_is_counted_and_harmless(kernel):
    irq = kernel.lkl_get_free_irq("silent")
    assert kernel.lkl_trigger_irq(irq) == 0
    assert kernel.lkl_trigger_irq(irq + 1) == 0
    kernel.lkl_run()
    assert kernel.irq.nr_lost == 2


def test_a_number_that_was_put_while_pending_does_not_reach_its_next_owner(kernel, log):
    irq = line(kernel, lambda irq: log.append("old"))
    kernel.lkl_trigger_irq(irq)
    kernel.lkl_put_irq(irq, "dev")
    assert line(kernel, lambda irq: log.append("new")) == irq
    kernel.lkl_run()
    assert log == []


# -- rule 66: who runs the handler, and when


def test_rule_66_idle_the_trigger_leaves_a_mark_and_the_next_lkl_run_delivers(kernel, log):
    """LKL runs the handler in the thread that raised it; here only `lkl_run()` runs kernel code."""
    irq = line(kernel, lambda irq: log.append((current().pid, in_interrupt())))
    kernel.lkl_run()
    assert kernel.lkl_trigger_irq(irq) == 0
    assert log == []
    kernel.lkl_run()
    assert log == [(0, True)]


def test_rule_66_busy_the_handler_runs_at_the_next_named_point(run, log):
    def init():
        irq = my_line(lambda irq: log.append("handler"))
        trigger(irq)
        log.append("triggered")
        schedule()
        log.append("after schedule()")

    run(init)
    assert log == ["triggered", "handler", "after schedule()"]


def test_rule_66_after_shutdown_it_is_refused(boot, log):
    kernel = boot()
    irq = line(kernel, log.append)
    kernel.lkl_sys_halt()
    assert kernel.lkl_trigger_irq(irq) == -errno.ESHUTDOWN
    assert log == []


# -- the named points


def by_sleeping() -> None:
    set_current_state(TASK_INTERRUPTIBLE)
    schedule_timeout(1000)


def by_enabling() -> None:
    local_irq_restore(local_irq_save())


NAMED_POINTS = {
    "schedule": schedule,
    "cond_resched": cond_resched,
    "irqs enabled": by_enabling,
    "spin_unlock_irqrestore": lambda: (lock := SpinLock()).unlock_irqrestore(lock.lock_irqsave()),
    "cpu_relax": cpu_relax,
    "idle": by_sleeping,
}


@pytest.mark.parametrize("point", NAMED_POINTS)
def test_interrupts_come_at_each_named_point(run, log, point):
    def init():
        irq = my_line(lambda irq: log.append("handler"))
        trigger(irq)
        log.append("before")
        NAMED_POINTS[point]()
        log.append("after")

    run(init)
    assert log == ["before", "handler", "after"]


def test_interrupts_come_nowhere_else(run, log):
    """Waking, locking without contention and unlocking are not named points."""

    def init():
        irq = my_line(lambda irq: log.append("handler"))
        done, lock = Completion(), SpinLock()
        trigger(irq)
        with lock:
            done.complete()
        preempt_disable()
        preempt_enable()
        done.wait_for_completion()
        assert log == []
        cond_resched()

    run(init)
    assert log == ["handler"]


# -- rules 67 to 69: disabling and enabling


def test_rule_67_disabled_means_pending_until_enabled(run, log):
    def init():
        irq = my_line(lambda irq: log.append("handler"))
        local_irq_disable()
        trigger(irq)
        cond_resched()
        log.append("still disabled")
        local_irq_enable()
        log.append("enabled")

    run(init)
    assert log == ["still disabled", "handler", "enabled"]


def test_rule_67_nested_saving_enables_only_at_the_outermost_restore(run, log):
    def init():
        irq = my_line(lambda irq: log.append("handler"))
        outer = local_irq_save()
        inner = local_irq_save()
        trigger(irq)
        local_irq_restore(inner)
        log.append(("inner restored", current().irqs_disabled))
        local_irq_restore(outer)
        log.append(("outer restored", current().irqs_disabled))

    run(init)
    assert log == [("inner restored", True), "handler", ("outer restored", False)]


def test_rule_68_handlers_run_with_irqs_disabled_and_softirqs_at_irq_exit(run, log):
    def init():
        def soft():
            log.append(("softirq", in_interrupt(), current().irqs_disabled))

        def handler(irq):
            log.append(("handler", in_interrupt(), current().irqs_disabled))
            bottom_half.schedule()
            local_irq_enable()  # a handler that enables gets no handlers inside itself

        bottom_half = tasklet(soft)
        irq = my_line(handler)
        trigger(irq)
        cond_resched()
        log.append(("task", in_interrupt(), current().irqs_disabled))

    run(init)
    assert log == [("handler", True, True), ("softirq", True, False), ("task", False, False)]


def test_rule_68_no_softirq_at_irq_exit_while_bottom_halves_are_disabled(run, log):
    def init():
        bottom_half = tasklet(lambda: log.append("softirq"))
        irq = my_line(lambda irq: bottom_half.schedule())
        local_bh_disable()
        trigger(irq)
        cond_resched()
        log.append("delivered")
        local_bh_enable()
        log.append("enabled")

    run(init)
    assert log == ["delivered", "softirq", "enabled"]


def test_rule_68_a_softirq_can_be_interrupted_but_runs_no_softirq_inside_itself(run, log):
    def init():
        inner = tasklet(lambda: log.append("inner softirq"))

        def soft():
            trigger(second)
            log.append("softirq begins")
            cpu_relax()
            log.append("softirq ends")

        def second_handler(irq):
            log.append("second handler")
            inner.schedule()

        outer = tasklet(soft)
        first = my_line(lambda irq: outer.schedule(), "first")
        second = my_line(second_handler, "second")
        trigger(first)
        cond_resched()

    run(init)
    assert log == ["softirq begins", "second handler", "softirq ends", "inner softirq"]


def test_rule_69_what_handlers_raise_waits_for_the_next_pass(run, log):
    """No recursion and no drain: the handler of a lower and of a higher number wait alike."""

    def init():
        def middle(irq):
            log.append("middle")
            if len(log) == 1:
                trigger(low)
                trigger(high)
                trigger(irq)

        low = my_line(lambda irq: log.append("low"), "low")
        mid = my_line(middle, "middle")
        high = my_line(lambda irq: log.append("high"), "high")
        flags = local_irq_save()
        trigger(mid)
        local_irq_restore(flags)
        log.append("next pass")
        cond_resched()

    run(init)
    assert log == ["middle", "next pass", "low", "middle", "high"]


def test_rule_69_restoring_to_enabled_inside_a_handler_does_not_recurse(run, log):
    def init():
        def first(irq):
            trigger(second)
            flags = local_irq_save()
            local_irq_restore(flags)
            local_irq_enable()
            log.append("first ends")

        one = my_line(first, "first")
        second = my_line(lambda irq: log.append("second"), "second")
        flags = local_irq_save()
        trigger(one)
        local_irq_restore(flags)
        log.append("between")
        cond_resched()

    run(init)
    assert log == ["first ends", "between", "second"]


def test_rule_70_triggers_before_delivery_are_one_interrupt(run, log):
    def init():
        irq = my_line(lambda irq: log.append("handler"))
        for _ in range(1000):
            trigger(irq)
        cond_resched()
        cond_resched()
        log.append(current_kernel().irq.statistics()[irq])

    run(init)
    assert log == ["handler", ("dev", 1)]


def test_rule_71_ascending_numbers_whatever_the_order_of_triggers(run, log):
    def init():
        irqs = [63, 64, 65, 2, 4095, 1000, 128]
        for irq in irqs:
            request_irq(irq, log.append, "dev")
        flags = local_irq_save()
        for irq in irqs:
            trigger(irq)
        local_irq_restore(flags)

    run(init)
    assert log == [2, 63, 64, 65, 128, 1000, 4095]


def test_rule_72_a_busy_wait_with_cpu_relax_sees_interrupts(run, log):
    def init():
        seen: list[int] = []
        irq = my_line(seen.append)
        trigger(irq)
        for _ in range(10_000):
            if seen:
                break  # pragma: no cover - a loop without cpu_relax() never sees it
        else:
            log.append("never without cpu_relax()")
        while not seen:
            cpu_relax()
        log.append("seen")

    run(init)
    assert log == ["never without cpu_relax()", "seen"]


def test_rule_73_disabling_belongs_to_the_task_not_to_whoever_runs_next(run, log):
    """A task that sleeps with interrupts disabled keeps nobody else from being interrupted."""

    def init():
        def other():
            log.append(("other", current().irqs_disabled))
            local_irq_restore(local_irq_save())
            log.append(("other", current().irqs_disabled))

        irq = my_line(lambda irq: log.append("handler"))
        task = kthread_create(other)
        local_irq_disable()
        wake_up_process(task)
        trigger(irq)
        schedule()
        log.append(("init", current().irqs_disabled))
        local_irq_enable()

    run(init)
    assert log == [("other", False), "handler", ("other", False), ("init", True)]


def test_rule_73_pending_interrupts_are_delivered_at_the_next_point_of_a_task_that_allows_them(run, log):
    """A refused delivery is not forgotten until the next checkpoint."""

    def init():
        def other():
            log.append("other begins")
            cond_resched()
            log.append("other ends")

        irq = my_line(lambda irq: log.append("handler"))
        task = kthread_create(other)
        local_irq_disable()
        wake_up_process(task)
        trigger(irq)
        while "other ends" not in log:
            schedule()
        local_irq_enable()

    run(init)
    assert log == ["other begins", "handler", "other ends"]


def test_rule_73_a_foreign_trigger_reaches_an_idle_kernel_whose_last_task_sleeps_with_irqs_disabled(boot, log):
    def init():
        local_irq_disable()
        done.append(Completion())
        done[0].wait_for_completion()
        log.append(("woken", current().irqs_disabled))
        local_irq_enable()

    done: list[Completion] = []
    kernel = boot(init)
    irq = line(kernel, lambda irq: done[0].complete())
    kernel.lkl_run()
    on_os_thread(lambda: kernel.lkl_trigger_irq(irq))
    kernel.lkl_run()
    assert log == [("woken", True)]


def test_rule_74_nothing_is_delivered_on_the_way_out_while_disabled(boot, log):
    """Leaving `lkl_run()` puts the LKL CPU; the interrupt waits for somebody who has interrupts enabled."""

    def init():
        local_irq_disable()
        trigger(irq)
        log.append("leaves")
        schedule()
        log.append("back")
        local_irq_enable()

    kernel = boot(init)
    irq = line(kernel, lambda irq: log.append("handler"))
    kernel.lkl_run(max_switches=1)
    assert log[:1] == ["leaves"]
    kernel.lkl_run()
    assert log == ["leaves", "handler", "back"]


# -- handlers


def test_a_shared_line_calls_all_its_handlers_in_order_of_request(run, log):
    def init():
        irq = current_kernel().lkl_get_free_irq("shared")
        request_irq(irq, lambda irq: log.append("a"), "a", IRQF_SHARED)
        request_irq(irq, lambda irq: log.append("b"), "b", IRQF_SHARED)
        trigger(irq)
        cond_resched()
        free_irq(irq, "a")
        trigger(irq)
        cond_resched()

    run(init)
    assert log == ["a", "b", "b"]


def test_the_same_name_twice_is_ebusy_and_freeing_twice_einval(run, log):
    def init():
        irq = my_line(log.append, "a")
        with pytest.raises(OSError) as busy:
            request_irq(irq, log.append, "a")
        free_irq(irq, "a")
        with pytest.raises(OSError) as gone:
            free_irq(irq, "a")
        return busy.value.errno, gone.value.errno

    assert run(init) == (errno.EBUSY, errno.EINVAL)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (IRQF_SHARED, 0), (0, IRQF_SHARED)])
def test_a_line_that_not_both_handlers_share_is_ebusy(run, log, first, second):
    def init():
        irq = current_kernel().lkl_get_free_irq("taken")
        request_irq(irq, lambda irq: log.append("a"), "a", first)
        with pytest.raises(OSError, match="does not share it") as caught:
            request_irq(irq, lambda irq: log.append("b"), "b", second)
        trigger(irq)
        cond_resched()
        return caught.value.errno

    assert run(init) == errno.EBUSY
    assert log == ["a"]


def test_handlers_of_one_name_are_told_apart_by_their_dev_id(run, log):
    def init():
        disks = [object(), object()]
        irq = current_kernel().lkl_get_free_irq("disks")
        for number, disk in enumerate(disks):
            request_irq(irq, lambda irq, number=number: log.append(number), "disk", IRQF_SHARED, disk)
        with pytest.raises(OSError, match="already has a handler 'disk'"):
            request_irq(irq, log.append, "disk", IRQF_SHARED, disks[1])
        with pytest.raises(OSError, match="no dev_id was given"):
            free_irq(irq)
        free_irq(irq, disks[0])
        trigger(irq)
        cond_resched()

    run(init)
    assert log == [1]


def test_the_only_handler_of_a_line_is_freed_without_naming_it(run, log):
    def init():
        irq = my_line(log.append)
        free_irq(irq)
        request_irq(irq, lambda irq: log.append("next"), "next")
        trigger(irq)
        cond_resched()

    run(init)
    assert log == ["next"]


@pytest.mark.parametrize("dev_id", [None, "timer"])
def test_the_kernels_own_timer_interrupt_cannot_be_freed(run, dev_id):
    def init():
        kernel = current_kernel()
        with pytest.raises(OSError, match=r"has the handlers .'timer' with dev_id") as caught:
            free_irq(kernel.timers.irq, dev_id)
        with pytest.raises(OSError, match="does not share it"):
            request_irq(kernel.timers.irq, print, "timer", IRQF_SHARED)
        kernel.lkl_put_irq(kernel.timers.irq, "timer")
        msleep(1)
        return caught.value.errno, "free_irq() first" in kernel.printk.text()

    assert run(init) == (errno.EINVAL, True)


@pytest.mark.parametrize("irq", [1.5, 2.0, "2", None, True, float("nan")])
def test_a_number_that_is_not_an_integer_is_a_type_error_and_changes_nothing(kernel, irq):
    lines = dict(kernel.irq.statistics())
    calls = (
        lambda: kernel.lkl_trigger_irq(irq),
        lambda: kernel.irq.request_irq(irq, print, "dev"),
        lambda: kernel.irq.free_irq(irq, "dev"),
        lambda: kernel.irq.irq_expect(irq),
    )
    for call in calls:
        with pytest.raises(TypeError, match=r"irq=.* must be an integer"):
            call()
    assert kernel.irq.statistics() == lines
    assert kernel.lkl_run().reason is RunReason.IDLE


def test_expecting_what_is_not_in_use_is_einval(kernel):
    with pytest.raises(OSError, match="is not in use") as caught:
        kernel.irq.irq_expect(77)
    assert caught.value.errno == errno.EINVAL


def test_unknown_flags_are_einval(kernel):
    with pytest.raises(OSError, match="use IRQF_SHARED") as caught:
        kernel.irq.request_irq(5, print, "dev", flags=1)
    assert caught.value.errno == errno.EINVAL


def test_a_handler_may_free_itself_and_add_another(run, log):
    def init():
        def once(irq):
            log.append("once")
            free_irq(irq, "once")
            request_irq(irq, lambda irq: log.append("later"), "later")

        irq = my_line(once, "once")
        for _ in range(2):
            trigger(irq)
            cond_resched()

    run(init)
    assert log == ["once", "later"]


def test_an_exception_in_a_handler_is_an_oops_that_panics(boot):
    def fails(irq):
        raise ZeroDivisionError("from the handler")

    kernel = boot()
    irq = line(kernel, fails)
    kernel.lkl_trigger_irq(irq)
    with pytest.raises(KernelPanic, match=f"interrupt handler 'dev' of irq {irq}") as caught:
        kernel.lkl_run()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_with_oops_kill_the_interrupted_task_and_the_other_handlers_go_on(run, log):
    def init():
        def fails(irq):
            log.append("fails")
            raise ZeroDivisionError

        first = current_kernel().lkl_get_free_irq("shared")
        request_irq(first, fails, "fails", IRQF_SHARED)
        request_irq(first, lambda irq: log.append("same line"), "other", IRQF_SHARED)
        second = my_line(lambda irq: log.append("next line"), "next")
        flags = local_irq_save()
        trigger(first)
        trigger(second)
        local_irq_restore(flags)
        log.append(("task", in_interrupt(), current().irqs_disabled, current().preempt_count))
        return current_kernel().printk.tainted

    assert run(init, on_oops="kill") == 1
    assert log == ["fails", "same line", "next line", ("task", False, False, 0)]


def test_sleeping_in_a_handler_is_a_named_bug(boot):
    kernel = boot()
    irq = line(kernel, lambda irq: msleep(1))
    kernel.lkl_trigger_irq(irq)
    with pytest.raises(KernelPanic, match="interrupt handler must not sleep") as caught:
        kernel.lkl_run()
    assert isinstance(caught.value.__cause__, SchedulingWhileAtomic)


@pytest.mark.parametrize("interrupted", ["idle", "a task"])
def test_do_exit_in_a_handler_panics_and_does_not_end_whoever_was_interrupted(boot, log, interrupted):
    def init():
        if interrupted == "idle":
            msleep(1)
        while True:
            schedule()

    kernel = boot(init)
    irq = line(kernel, lambda irq: do_exit(1))
    kernel.lkl_run(max_switches=2)
    kernel.lkl_trigger_irq(irq)
    with pytest.raises(KernelPanic, match="killing interrupt handler"):
        kernel.lkl_run()


def test_panic_in_a_handler_of_an_idle_kernel_is_a_kernel_panic_for_the_application(boot):
    kernel = boot()
    irq = line(kernel, lambda irq: panic("no way on"))
    kernel.lkl_run()
    kernel.lkl_trigger_irq(irq)
    with pytest.raises(KernelPanic, match="no way on"):
        kernel.lkl_run()


# -- waking from a handler


def test_a_wake_up_from_a_handler_between_state_and_schedule_is_not_lost(run, log):
    """Rule 116 against interrupts: the handler runs inside `schedule()` itself, after the state was set."""

    def init():
        task = current()
        irq = my_line(lambda irq: log.append(wake_up_process(task)))
        set_current_state(TASK_INTERRUPTIBLE)
        trigger(irq)
        schedule()
        log.append("awake")

    run(init)
    assert log == [True, "awake"]


def test_a_real_time_task_preempts_at_irq_exit(run, log):
    def init():
        def urgent():
            done.wait_for_completion()
            log.append("urgent")

        done = Completion()
        task = kthread_create(urgent)
        sched_setscheduler(task, SCHED_FIFO, 50)
        wake_up_process(task)

        def handler(irq):
            done.complete()
            log.append("handler ends")

        irq = my_line(handler)
        flags = local_irq_save()
        trigger(irq)
        local_irq_restore(flags)
        log.append("interrupted task goes on")

    run(init)
    assert log == ["handler ends", "urgent", "interrupted task goes on"]


def test_nobody_preempts_a_section_with_irqs_disabled(run, log):
    """On one CPU that is what makes the section atomic."""

    def init():
        def urgent():
            done.wait_for_completion()
            log.append("urgent")

        done = Completion()
        task = kthread_create(urgent)
        sched_setscheduler(task, SCHED_FIFO, 50)
        wake_up_process(task)
        flags = local_irq_save()
        done.complete()
        preempt_disable()
        preempt_enable()
        log.append("still atomic")
        local_irq_restore(flags)
        log.append("over")

    run(init)
    assert log == ["still atomic", "urgent", "over"]


def test_unlock_irqrestore_lets_interrupts_in_before_it_lets_preempt(run, log):
    def init():
        def urgent():
            done.wait_for_completion()
            log.append("urgent")

        done, lock = Completion(), SpinLock()
        task = kthread_create(urgent)
        sched_setscheduler(task, SCHED_FIFO, 50)
        wake_up_process(task)
        irq = my_line(lambda irq: log.append("handler"))
        flags = lock.lock_irqsave()
        done.complete()
        trigger(irq)
        log.append("locked")
        lock.unlock_irqrestore(flags)
        log.append("over")

    run(init)
    assert log == ["locked", "handler", "urgent", "over"]


def test_an_interrupt_ends_nobody_s_time_slice(run, log):
    """Whoever is interrupted goes on, though his equals wait."""

    def init():
        irq = my_line(lambda irq: log.append("handler"))
        other = kthread_create(log.append, "other")
        msleep(1)
        wake_up_process(other)
        for _ in range(5):
            trigger(irq)
            cond_resched()
        log.append("init")

    run(init)
    assert log == ["handler"] * 5 + ["init"]


# -- storms


def test_an_interrupt_that_raises_itself_starves_no_task(run, log):
    def init():
        def again(irq):
            log.append("irq")
            trigger(irq)

        irq = my_line(again)
        trigger(irq)
        other = kthread_run(lambda: [(log.append("other"), schedule()) for _ in range(3)])
        for _ in range(3):
            schedule()
            log.append("init")
        kthread_stop(other)
        free_irq(irq, "dev")

    run(init)
    assert [who for who in log if who != "irq"].count("other") == 3
    assert log.count("init") == 3
    assert 3 < log.count("irq") < 50


def test_an_interrupt_that_raises_itself_does_not_keep_lkl_run_beyond_its_budget(boot):
    class SlowTime:
        now = 0

        def __call__(self) -> int:
            self.now += 1
            return self.now

    kernel = boot()
    count = [0]

    def again(irq):
        count[0] += 1
        assert count[0] < 10_000, "lkl_run() does not return"
        kernel.lkl_trigger_irq(irq)

    irq = line(kernel, again)
    kernel.host.time = SlowTime()
    kernel.lkl_trigger_irq(irq)
    status = kernel.lkl_run(budget_ns=100)
    assert status.reason is RunReason.BUDGET
    assert count[0] > 10
    kernel.irq.free_irq(irq, "dev")


def test_a_storm_of_many_lines_delivers_each_once_per_pass(run, log):
    def init():
        lines = [my_line(log.append, f"dev{n}") for n in range(100)]
        for _ in range(3):
            for irq in reversed(lines):
                trigger(irq)
            cond_resched()
        return lines

    lines = run(init)
    assert log == lines * 3


def test_nothing_that_an_os_thread_hands_over_is_lost(boot):
    """A mailbox, an interrupt for each letter, and a kernel thread that empties it: the doorbell is never missed.

    Should a doorbell be missed, the timeout ends the wait and the test fails instead of hanging.
    """
    letters = 300
    mailbox: list[int] = []

    def init():
        got: list[int] = []
        while len(got) < letters:
            if not arrived.wait_for_completion_timeout(20 * S):
                return got
            while mailbox:
                got.append(mailbox.pop(0))
        return got

    def post():
        for letter in range(letters):
            mailbox.append(letter)
            kernel.lkl_trigger_irq(irq)

    kernel = boot(init, clock="monotonic")
    arrived = Completion(kernel)
    irq = line(kernel, lambda irq: arrived.complete())
    thread = threading.Thread(target=post)
    thread.start()
    got = kernel.run()
    thread.join(10)
    assert got == list(range(letters))


# -- virtual time and the host's threads


def test_under_virtual_time_a_foreign_trigger_waits_until_the_kernel_is_idle(boot, log):
    def init():
        on_os_thread(lambda: kernel.lkl_trigger_irq(irq))
        for step in range(3):
            schedule()
            log.append(step)
        msleep(1)
        log.append("slept")

    kernel = boot(init)
    irq = line(kernel, lambda irq: log.append("handler"))
    kernel.run()
    assert log == [0, 1, 2, "handler", "slept"]


def test_under_virtual_time_a_foreign_call_ends_nobody_s_time_slice(run, log):
    """When an OS thread leaves its call must not show in the order of the kernel's tasks."""

    def story(post: bool) -> list[Any]:
        def init():
            kernel = current_kernel()
            kthread_run(lambda: order.append("other"))
            thread = threading.Thread(target=kernel.lkl_syscall, args=(NR_getpid,))
            if post:
                thread.start()
                while not kernel.host_tasks.posts:
                    pass
            for step in range(3):
                order.append(step)
                cond_resched()
            return thread

        order: list[Any] = []
        thread = run(init)
        if post:
            thread.join(10)
            assert not thread.is_alive()
        return order

    assert story(post=True) == story(post=False) == [0, 1, 2]


def test_expected_host_work_arrives_together_and_in_order_of_numbers(boot, log):
    """Whoever is quicker on the host, the lower number comes first, at the time at which the work was handed out."""

    def init():
        arrived = Completion()
        irqs = [my_line(lambda irq: (log.append((irq, kernel.clock.peek_ns())), arrived.complete())) for _ in range(3)]
        start = kernel.clock.peek_ns()
        go = threading.Event()
        for irq in reversed(irqs):
            irq_expect(irq)
            threads.append(threading.Thread(target=lambda irq=irq: (go.wait(10), kernel.lkl_trigger_irq(irq))))
            threads[-1].start()
        timer = Timer(lambda timer: log.append("timer"))
        timer.add_timer(start + 5_000_000)
        go.set()
        for _ in irqs:
            arrived.wait_for_completion()
        msleep(10)
        return [(irq, start) for irq in irqs]

    threads: list[threading.Thread] = []
    kernel = boot(init)
    expected = kernel.run()
    for thread in threads:
        thread.join(10)
    assert log == [*expected, "timer"]


# -- parity


def test_interrupts_softirqs_and_preemption_trace_the_same_everywhere(parity):
    def init():
        def urgent():
            while not kthread_should_stop():
                done.wait_for_completion_timeout(3_000_000)

        def worker():
            for _ in range(20):
                flags = local_irq_save()
                trigger(high)
                trigger(low)
                schedule()
                local_irq_restore(flags)
                cond_resched()

        done = Completion()
        rt = kthread_create(urgent, name="urgent")
        sched_setscheduler(rt, SCHED_FIFO, 10)
        wake_up_process(rt)
        soft = tasklet(done.complete)
        low = my_line(lambda irq: soft.schedule(), "low")
        high = my_line(lambda irq: trigger(low), "high")
        workers = [kthread_run(worker, name="worker") for _ in range(3)]
        for task in workers:
            kthread_stop(task)
        done.complete()
        kthread_stop(rt)

    trace = parity(init)
    assert trace.count("irq_handler_entry") > 40
