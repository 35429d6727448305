"""The watchdog: a thread that never yields is named with its line, and ended."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from lkl_green import FaultyHost, GreenletHost, KernelPanic, ThreadHost, lkl_start_kernel
from lkl_green.errors import SoftLockup
from lkl_green.host.ops import LiveObjects
from lkl_green.linux import (
    Mutex,
    Timer,
    WaitQueueHead,
    Work,
    cond_resched,
    cpu_relax,
    current_kernel,
    flush_work,
    kthread_run,
    kthread_stop,
    ktime_get,
    mod_timer,
    msleep,
    ndelay,
    request_irq,
    schedule_work,
    wait_event,
    yield_,
)

WATCHED = {"watchdog_s": 0.05}
MS = 1_000_000


def spin() -> Any:
    while True:
        pass


SPIN_LINES = tuple(f"{__file__}:{spin.__code__.co_firstlineno + offset}" for offset in (1, 2))


def lockups(kernel) -> list[str]:
    return [record.text for record in kernel.printk.records if record.text.startswith("BUG: soft lockup")]


def test_a_thread_that_never_yields_is_named_with_its_line_and_panics(boot, log):
    def init():
        kthread_run(spin, name="spinner")
        msleep(1)
        log.append("never")

    kernel = boot(init, **WATCHED)
    with pytest.raises(KernelPanic, match="SoftLockup in spinner-4") as caught:
        kernel.run()
    assert isinstance(caught.value.__cause__, SoftLockup)
    (line,) = lockups(kernel)
    assert "spinner-4 has not reached a scheduling point for 0.05s" in line
    assert any(where in line for where in SPIN_LINES)
    assert log == []


def test_with_kill_the_kernel_goes_on_without_the_thread(boot, log):
    def spinner():
        try:
            spin()
        finally:
            log.append("finally")

    def init():
        task = kthread_run(spinner, name="spinner")
        yield_()
        log.append(kthread_stop(task))
        msleep(1)
        log.append("init goes on")

    kernel = boot(init, on_oops="kill", **WATCHED)
    kernel.run()
    assert log == ["finally", -errno.EFAULT, "init goes on"]
    assert kernel.printk.tainted == 1
    assert "Oops: spinner-4: SoftLockup" in kernel.printk.text()


def test_an_init_that_never_yields_panics_in_any_case(boot):
    kernel = boot(spin, on_oops="kill", **WATCHED)
    with pytest.raises(KernelPanic, match="SoftLockup in init"):
        kernel.run()


def test_a_work_that_never_yields_takes_only_its_worker_along(boot, log):
    def init():
        work = Work(lambda work: spin(), name="endless")
        schedule_work(work)
        flush_work(work)
        good = Work(lambda work: log.append("good"))
        schedule_work(good)
        flush_work(good)

    kernel = boot(init, on_oops="kill", **WATCHED)
    kernel.run()
    assert log == ["good"]
    assert "kworker/0:0-4" in lockups(kernel)[0]


def test_a_lock_that_the_thread_held_is_released_by_its_with(boot, log):
    def spinner(lock):
        with lock:
            spin()

    def init():
        lock = Mutex()
        kthread_run(spinner, lock)
        yield_()
        with lock:
            log.append("locked")

    boot(init, on_oops="kill", **WATCHED).run()
    assert log == ["locked"]


def test_a_callback_that_never_ends_is_ended_in_the_idle_loop_too(boot, log):
    def init():
        mod_timer(Timer(lambda timer: spin(), name="endless"), ktime_get() + MS)
        msleep(5)
        log.append("init goes on")

    kernel = boot(init, on_oops="kill", **WATCHED)
    kernel.run()
    assert log == ["init goes on"]
    assert "an interrupt handler or callback on top of swapper-0" in lockups(kernel)[0]
    assert "Oops in callback of <Timer endless inactive>: SoftLockup" in kernel.printk.text()


def test_a_handler_that_never_ends_does_not_take_the_interrupted_task_along(boot, log):
    def init():
        kernel = current_kernel()
        irq = kernel.lkl_get_free_irq("device")
        request_irq(irq, lambda irq: spin(), "device")
        kernel.lkl_trigger_irq(irq)
        cpu_relax()
        log.append("init goes on")

    kernel = boot(init, on_oops="kill", **WATCHED)
    kernel.run()
    assert log == ["init goes on"]
    assert "an interrupt handler or callback on top of init-1" in lockups(kernel)[0]


def test_a_thread_that_never_yields_while_it_is_taken_down_does_not_stop_the_halt(boot, log):
    def stubborn():
        try:
            msleep(1000)
        finally:
            log.append("unwinds")
            spin()

    def init():
        kthread_run(stubborn, name="stubborn")
        msleep(1)

    kernel = boot(init, **WATCHED)
    kernel.run()
    assert log == ["unwinds"]
    assert kernel.halted
    assert "stubborn-4" in lockups(kernel)[0]


def test_a_thread_that_swallows_its_end_is_ended_again(boot, log):
    def stubborn():
        for _ in range(2):
            try:
                spin()
            except BaseException as error:
                log.append(type(error).__name__)

    def init():
        kthread_run(stubborn, name="stubborn")
        msleep(1)

    kernel = boot(init, **WATCHED)
    kernel.run()
    assert log == ["SoftLockup", "SoftLockup"]
    assert len(lockups(kernel)) == 2


def test_the_line_is_the_threads_own_although_it_spins_inside_the_kernel(boot):
    """It waits in a function of the kernel that never yields, or the kernel calls it back."""

    def delays():
        ndelay(3600 * 1_000_000_000)

    def init():
        kthread_run(delays, name="delays")
        yield_()
        kthread_run(wait_event, WaitQueueHead(), spin, name="waits")
        yield_()

    kernel = boot(init, on_oops="kill", clock="monotonic", **WATCHED)
    kernel.run()
    first, second = lockups(kernel)
    assert "delays-4" in first
    assert f"{__file__}:{delays.__code__.co_firstlineno + 1} in delays: ndelay" in first
    assert "waits-5" in second
    assert any(where in second for where in SPIN_LINES)


# -- whom it leaves alone; these call what the host's timer calls


def look(kernel) -> None:
    """One look of the watchdog. Here it is called by whom it watches, so that no chance is involved."""
    kernel.watchdog._look(None)


def test_a_thread_that_reaches_scheduling_points_is_left_alone(run, log):
    def init():
        kernel = current_kernel()
        for point in (cond_resched, yield_, lambda: msleep(1)):
            for _ in range(3):
                look(kernel)
                point()
        log.append(lockups(kernel))

    run(init)
    assert log == [[]]


def test_without_a_scheduling_point_the_second_look_ends_the_thread(boot, log):
    """The other half of the test above: it would fail if the looks did nothing."""

    def looks():
        kernel = current_kernel()
        look(kernel)
        log.append("first look")
        look(kernel)
        spin()

    def init():
        kthread_run(looks, name="looks")
        yield_()

    kernel = boot(init, on_oops="kill")
    kernel.run()
    assert log == ["first look"]
    assert len(lockups(kernel)) == 1


def test_the_application_may_take_its_time(boot):
    kernel = boot()
    kernel.lkl_run()
    for _ in range(3):
        look(kernel)
    assert lockups(kernel) == []


def test_an_interrupt_storm_is_no_lockup(boot, log):
    """Handlers follow each other without a scheduling point, but each of them ends."""
    kernel = boot()
    irq = kernel.lkl_get_free_irq("device")

    def handler(irq):
        look(kernel)
        log.append("irq")
        if len(log) < 5:
            kernel.lkl_trigger_irq(irq)

    kernel.irq.request_irq(irq, handler, "device")
    kernel.lkl_trigger_irq(irq)
    kernel.lkl_run()
    assert log == ["irq"] * 5
    assert lockups(kernel) == []


def test_a_thread_that_yields_while_the_watchdog_writes_is_left_alone(configuration, log):
    """Writing to the console lets the watched thread run; the exception would then hit whoever comes next."""

    class Console(GreenletHost if configuration["host"] == "greenlet" else ThreadHost):
        def print(self, text):
            kernel.sched.points += 1
            kernel.sched.misses += 1

    def looks():
        for _ in range(3):
            look(kernel)
        log.append("left alone")

    def init():
        kthread_run(looks)
        msleep(1)

    kernel = lkl_start_kernel(init, host=Console(), switch=configuration["switch"], clock="virtual")
    kernel.run()
    assert log == ["left alone"]
    assert lockups(kernel)


# -- the host's part


@pytest.mark.parametrize("operation", ["timer_alloc", "timer_set_oneshot"])
def test_a_host_without_a_timer_is_an_error_at_boot(configuration, operation):
    host = FaultyHost(GreenletHost() if configuration["host"] == "greenlet" else ThreadHost(), operation, 1)
    with pytest.raises(OSError, match="no timer for the watchdog") as caught:
        lkl_start_kernel(spin, host=host, switch=configuration["switch"], watchdog_s=1)
    assert caught.value.errno == errno.ENOMEM
    assert host.live() == LiveObjects()


def test_without_a_period_there_is_no_watchdog(boot):
    kernel = boot(lambda: 7)
    assert kernel.host.live().timers == 0
    assert kernel.run() == 7


def test_a_kernel_with_a_watchdog_gives_its_timer_back(boot):
    kernel = boot(lambda: 7, watchdog_s=3600)
    assert kernel.host.live().timers == 1
    assert kernel.run() == 7
    assert kernel.host.live() == LiveObjects()
