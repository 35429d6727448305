"""Softirqs and tasklets: rules 123 and 124."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lkl_green import KernelPanic
from lkl_green.errors import KernelBug
from lkl_green.kernel.softirq import (
    BLOCK_SOFTIRQ,
    HI_SOFTIRQ,
    MAX_SOFTIRQ_RESTART,
    NET_RX_SOFTIRQ,
    RCU_SOFTIRQ,
    SOFTIRQ_NAMES,
)
from lkl_green.linux import (
    SpinLock,
    Timer,
    cpu_relax,
    current,
    current_kernel,
    in_interrupt,
    kthread_run,
    ktime_get,
    local_bh_disable,
    local_bh_enable,
    local_irq_disable,
    local_irq_enable,
    mod_timer,
    msleep,
    request_irq,
    schedule,
    tasklet,
    yield_,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def raise_softirq(vec: int) -> None:
    current_kernel().softirq.raise_softirq(vec)


def open_softirq(vec: int, action: Callable[[], Any]) -> None:
    current_kernel().softirq.open_softirq(vec, action)


def interrupt(handler: Callable[[int], Any]) -> None:
    """Take an interrupt here and now."""
    kernel = current_kernel()
    irq = kernel.lkl_get_free_irq("test")
    request_irq(irq, handler, "test")
    kernel.lkl_trigger_irq(irq)
    cpu_relax()
    kernel.irq.free_irq(irq, "test")
    kernel.lkl_put_irq(irq, "test")


# -- rule 123


def test_rule_123_a_raised_softirq_runs_when_the_interrupt_returns(run, log):
    def handler(irq):
        raise_softirq(BLOCK_SOFTIRQ)
        log.append("handler")

    def init():
        open_softirq(BLOCK_SOFTIRQ, lambda: log.append(("softirq", in_interrupt(), current().comm)))
        interrupt(handler)
        log.append("task")

    run(init)
    assert log == ["handler", ("softirq", True, "init"), "task"]


def test_rule_123_interrupts_are_enabled_in_softirqs(run, log):
    """An interrupt that comes meanwhile is handled at once; its softirqs wait for the ones that run."""

    def action():
        log.append("begins")
        if len(log) == 1:
            interrupt(lambda irq: (log.append("irq"), raise_softirq(HI_SOFTIRQ)))
        log.append("ends")

    def init():
        open_softirq(BLOCK_SOFTIRQ, action)
        open_softirq(HI_SOFTIRQ, lambda: log.append("HI"))
        interrupt(lambda irq: raise_softirq(BLOCK_SOFTIRQ))

    run(init)
    assert log == ["begins", "irq", "ends", "HI"]


def test_rule_123_a_softirq_runs_at_local_bh_enable(run, log):
    def init():
        open_softirq(BLOCK_SOFTIRQ, lambda: log.append("softirq"))
        local_bh_disable()
        local_bh_disable()
        interrupt(lambda irq: (log.append("irq"), raise_softirq(BLOCK_SOFTIRQ)))
        raise_softirq(BLOCK_SOFTIRQ)
        local_bh_enable()
        log.append("still disabled")
        local_bh_enable()
        log.append("enabled")

    run(init)
    assert log == ["irq", "still disabled", "softirq", "enabled"]


def test_rule_123_ksoftirqd_runs_what_is_raised_outside_of_interrupts(run, log):
    def init():
        open_softirq(BLOCK_SOFTIRQ, lambda: log.append((current().comm, in_interrupt())))
        raise_softirq(BLOCK_SOFTIRQ)
        log.append("raised")
        yield_()

    run(init)
    assert log == ["raised", ("ksoftirqd/0", True)]


def test_rule_123_softirqs_run_in_fixed_order(run, log):
    def handler(irq):
        for vec in reversed(range(len(SOFTIRQ_NAMES))):
            raise_softirq(vec)

    def init():
        for vec, name in enumerate(SOFTIRQ_NAMES):
            open_softirq(vec, lambda name=name: log.append(name))
        interrupt(handler)

    run(init)
    assert log == ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"]


def test_rule_123_raising_twice_runs_once(run, log):
    def init():
        open_softirq(NET_RX_SOFTIRQ, lambda: log.append("runs"))
        interrupt(lambda irq: (raise_softirq(NET_RX_SOFTIRQ), raise_softirq(NET_RX_SOFTIRQ)))

    run(init)
    assert log == ["runs"]


def test_rule_123_after_ten_rounds_ksoftirqd_goes_on(run, log):
    """A softirq that raises itself does not keep the interrupted task from running for ever."""

    def action():
        log.append(current().comm)
        if len(log) <= 3 * MAX_SOFTIRQ_RESTART:
            raise_softirq(RCU_SOFTIRQ)

    def init():
        open_softirq(RCU_SOFTIRQ, action)
        interrupt(lambda irq: raise_softirq(RCU_SOFTIRQ))
        log.append("init goes on")
        msleep(1)

    run(init)
    ten = MAX_SOFTIRQ_RESTART
    assert log == ["init"] * ten + ["init goes on"] + ["ksoftirqd/0"] * (2 * ten)


def test_rule_123_a_softirq_must_not_sleep(boot, log):
    def init():
        open_softirq(BLOCK_SOFTIRQ, lambda: msleep(1))
        interrupt(lambda irq: raise_softirq(BLOCK_SOFTIRQ))
        log.append((current().preempt_count, current().state))
        msleep(1)
        log.append("init goes on")

    kernel = boot(init, on_oops="kill")
    kernel.run()
    assert log == [(0, 0), "init goes on"]
    assert "a softirq, tasklet or timer callback must not sleep" in kernel.printk.text()


def test_an_exception_in_a_softirq_is_an_oops_without_a_victim(boot, log):
    def fails():
        log.append("fails")
        raise ZeroDivisionError("in a softirq")

    def init():
        open_softirq(BLOCK_SOFTIRQ, fails)
        open_softirq(RCU_SOFTIRQ, lambda: log.append("the next vector"))
        interrupt(lambda irq: (raise_softirq(BLOCK_SOFTIRQ), raise_softirq(RCU_SOFTIRQ)))
        log.append("init goes on")

    kernel = boot(init, on_oops="kill")
    kernel.run()
    assert log == ["fails", "the next vector", "init goes on"]
    assert "Oops in softirq BLOCK: ZeroDivisionError: in a softirq" in kernel.printk.text()


def test_an_exception_in_a_softirq_panics_a_kernel_that_panics_on_oops(boot, log):
    def init():
        open_softirq(BLOCK_SOFTIRQ, lambda: 1 // 0)
        interrupt(lambda irq: raise_softirq(BLOCK_SOFTIRQ))
        msleep(1)
        log.append("never")

    with pytest.raises(KernelPanic, match="ZeroDivisionError in softirq BLOCK"):
        boot(init).run()
    assert log == []


def test_a_softirq_that_keeps_a_lock_is_named_and_does_not_harm_the_interrupted_task(boot, log):
    """Linux: "huh, entered softirq ... with preempt_count ..., exited with ...?", and goes on with the old count."""

    def init():
        lock = SpinLock()
        open_softirq(BLOCK_SOFTIRQ, lock.lock)
        interrupt(lambda irq: raise_softirq(BLOCK_SOFTIRQ))
        msleep(1)
        log.append("init sleeps as before")

    kernel = boot(init, on_oops="kill")
    kernel.run()
    assert log == ["init sleeps as before"]
    assert "softirq BLOCK" in kernel.printk.text()


def test_sleeping_with_bottom_halves_disabled_is_refused(run, log):
    def init():
        local_bh_disable()
        with pytest.raises(KernelBug, match="scheduling while atomic"):
            schedule()
        local_bh_enable()
        schedule()
        log.append("sleeps again")

    run(init)
    assert log == ["sleeps again"]


def test_softirqs_are_counted(run):
    def init():
        open_softirq(BLOCK_SOFTIRQ, lambda: None)
        for _ in range(3):
            interrupt(lambda irq: raise_softirq(BLOCK_SOFTIRQ))
        assert current_kernel().statistics().softirqs["BLOCK"] == 3

    run(init)


def test_softirqs_run_in_the_idle_loop_too(boot, log):
    kernel = boot()
    kernel.softirq.open_softirq(BLOCK_SOFTIRQ, lambda: log.append(current().comm))
    irq = kernel.lkl_get_free_irq("device")
    kernel.irq.request_irq(irq, lambda irq: kernel.softirq.raise_softirq(BLOCK_SOFTIRQ), "device")
    kernel.lkl_run()
    kernel.lkl_trigger_irq(irq)
    kernel.lkl_run()
    assert log == ["swapper"]


# -- rule 124


def test_rule_124_a_tasklet_scheduled_twice_runs_once(run, log):
    def init():
        blink = tasklet(lambda: log.append((in_interrupt(), current().comm)))
        blink.schedule()
        blink.schedule()
        msleep(1)
        blink.schedule()
        msleep(1)

    run(init)
    assert log == [(True, "ksoftirqd/0")] * 2


def test_rule_124_tasklets_run_when_the_interrupt_returns_in_order(run, log):
    def init():
        tasklets = [tasklet(lambda name=name: log.append(name)) for name in "abc"]
        interrupt(lambda irq: [each.schedule() for each in reversed(tasklets)])
        log.append("task")

    run(init)
    assert log == ["c", "b", "a", "task"]


def test_rule_124_a_running_tasklet_can_be_scheduled_again_and_is_not_reentered(run, log):
    def blink():
        log.append("begins")
        if len(log) < 5:
            again.schedule()
            interrupt(lambda irq: None)  # at whose end softirqs would run if none did
        log.append("ends")

    again = None

    def init():
        nonlocal again
        again = tasklet(blink)
        again.schedule()
        msleep(1)

    run(init)
    assert log == ["begins", "ends"] * 3


def test_rule_124_disabling_counts(run, log):
    def init():
        blink = tasklet(lambda: log.append("runs"))
        blink.disable()
        blink.disable()
        blink.schedule()
        msleep(1)
        blink.enable()
        msleep(1)
        log.append("still disabled")
        blink.enable()
        msleep(1)
        blink.disable()
        blink.enable()
        msleep(1)

    run(init)
    assert log == ["still disabled", "runs"]


def test_rule_124_a_disabled_tasklet_keeps_no_other_waiting_and_nobody_busy(run, log):
    def init():
        off, on = tasklet(lambda: log.append("off")), tasklet(lambda: log.append("on"))
        off.disable()
        off.schedule()
        on.schedule()
        msleep(1)
        switches = current_kernel().sched.nr_switches
        msleep(100)
        assert current_kernel().sched.nr_switches - switches <= 2
        off.enable()
        msleep(1)

    run(init)
    assert log == ["on", "off"]


def test_enabling_more_often_than_disabling_is_an_error(run):
    def init():
        blink = tasklet(lambda: None)
        with pytest.raises(KernelBug, match="not disabled"):
            blink.enable()

    run(init)


def test_a_tasklet_that_raises_does_not_take_the_others_along(boot, log):
    def fails():
        log.append("fails")
        raise ZeroDivisionError("in a tasklet")

    def init():
        bad, off = tasklet(fails), tasklet(lambda: log.append("off"))
        others = [tasklet(lambda name=name: log.append(name)) for name in "ab"]
        off.disable()
        for _ in range(2):
            interrupt(lambda irq: [each.schedule() for each in (others[0], off, bad, others[1])])
        off.enable()
        msleep(1)

    kernel = boot(init, on_oops="kill")
    kernel.run()
    assert log == ["a", "fails", "b"] * 2 + ["off"]
    assert kernel.printk.text().count("Oops in softirq TASKLET") == 2


def test_a_tasklet_may_wake_a_task(run, log):
    def sleeper():
        current().state = 2
        schedule()
        log.append("woken")

    def init():
        task = kthread_run(sleeper)
        msleep(1)
        tasklet(lambda: current_kernel().sched.wake_up_process(task)).schedule()
        msleep(1)

    run(init)
    assert log == ["woken"]


def test_a_repr_tells_the_state(run):
    def blink():
        pass

    def init():
        led = tasklet(blink)
        assert repr(led) == "<Tasklet blink idle>"
        led.disable()
        led.schedule()
        assert repr(led) == "<Tasklet blink scheduled, disabled 1 deep>"

    run(init)


def test_parity_of_softirqs(parity):
    def init():
        kernel = current_kernel()
        irq = kernel.lkl_get_free_irq("device")
        led = tasklet(lambda: None)
        request_irq(irq, lambda irq: (led.schedule(), raise_softirq(RCU_SOFTIRQ)), "device")
        open_softirq(RCU_SOFTIRQ, lambda: left and (left.pop(), raise_softirq(RCU_SOFTIRQ)))
        left = list(range(25))
        mod_timer(Timer(lambda timer: kernel.lkl_trigger_irq(irq)), ktime_get() + 1_500_000)
        for _ in range(4):
            kernel.lkl_trigger_irq(irq)
            msleep(1)
            local_irq_disable()
            kernel.lkl_trigger_irq(irq)
            led.schedule()
            local_irq_enable()

    trace = parity(init)
    assert "softirq_entry: vec=6 [action=TASKLET]" in trace
    assert "ksoftirqd/0" in trace
