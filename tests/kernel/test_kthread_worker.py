"""kthread workers: rules 107 to 111."""

from __future__ import annotations

import errno
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkl_green import FaultyHost, GreenletHost, KernelPanic, ThreadHost, lkl_start_kernel
from lkl_green.errors import KernelBug
from lkl_green.host.ops import LiveObjects
from lkl_green.linux import (
    SCHED_FIFO,
    Completion,
    KthreadDelayedWork,
    KthreadWork,
    Timer,
    cpu_relax,
    current,
    current_kernel,
    in_interrupt,
    kthread_cancel_delayed_work_sync,
    kthread_cancel_work_sync,
    kthread_create_worker,
    kthread_destroy_worker,
    kthread_flush_work,
    kthread_flush_worker,
    kthread_mod_delayed_work,
    kthread_queue_delayed_work,
    kthread_queue_work,
    kthread_run,
    kthread_stop,
    ktime_get,
    mod_timer,
    msleep,
    request_irq,
    sched_setscheduler,
    yield_,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1_000_000


def says(log: list[Any], what: Any) -> Callable[[KthreadWork], None]:
    """A work function that writes into the log."""
    return lambda work: log.append(what)


# -- rule 107: queueing


def test_rule_107_works_run_in_order_in_the_worker(run, log):
    def fn(work):
        log.append((work.name, current().comm, in_interrupt()))
        msleep(3 if work.name == "a" else 1)
        log.append(f"{work.name} ends")

    def init():
        worker = kthread_create_worker("pump")
        for name in "abc":
            kthread_queue_work(worker, KthreadWork(fn, name=name))
        kthread_flush_worker(worker)

    run(init)
    assert log == [entry for name in "abc" for entry in ((name, "pump", False), f"{name} ends")]


def test_rule_107_queueing_is_false_while_pending(run, log):
    def init():
        worker = kthread_create_worker("pump")
        work = KthreadWork(says(log, "runs"))
        log.append(kthread_queue_work(worker, work))
        log.append(kthread_queue_work(worker, work))
        kthread_flush_work(work)
        log.append(kthread_queue_work(worker, work))
        kthread_flush_work(work)

    run(init)
    assert log == [True, False, "runs", True, "runs"]


def test_rule_107_a_running_work_can_queue_itself(run, log):
    def fn(work):
        log.append(len(log))
        if len(log) < 3:
            assert kthread_queue_work(work.worker, work)

    def init():
        worker = kthread_create_worker("pump")
        kthread_queue_work(worker, KthreadWork(fn))
        msleep(1)

    run(init)
    assert log == [0, 1, 2]


def test_rule_107_queueing_is_false_while_being_cancelled(run, log):
    def canceller(work):
        log.append(("cancelled", kthread_cancel_work_sync(work)))

    def init():
        worker = kthread_create_worker("pump")
        work = KthreadWork(lambda work: msleep(5))
        kthread_queue_work(worker, work)
        msleep(1)
        kthread_run(canceller, work)
        msleep(1)
        log.append(kthread_queue_work(worker, work))
        msleep(5)
        log.append(kthread_queue_work(worker, work))

    run(init)
    assert log == [False, ("cancelled", False), True]


def test_rule_107_a_work_belongs_to_one_worker(run, log):
    def init():
        one, two = kthread_create_worker("one"), kthread_create_worker("two")
        work = KthreadWork(lambda work: log.append(current().comm), name="shared")
        assert work.worker is None
        kthread_queue_work(one, work)
        assert work.worker is one
        kthread_flush_work(work)
        tainted = current_kernel().printk.tainted
        assert kthread_queue_work(two, work)
        kthread_flush_work(work)
        assert current_kernel().printk.tainted == tainted + 1
        assert "a work belongs to one worker" in current_kernel().printk.text()

    run(init)
    assert log == ["one", "two"]


def test_rule_107_the_worker_is_woken_only_if_it_runs_nothing(run, log):
    """A work that sleeps must not be woken by what is queued behind it."""

    def fn(work):
        log.append(current().state)
        current().state = 1
        current_kernel().sched.schedule()
        log.append("woken by its friend")

    def init():
        worker = kthread_create_worker("pump")
        kthread_queue_work(worker, KthreadWork(fn))
        msleep(1)
        kthread_queue_work(worker, KthreadWork(says(log, "second")))
        msleep(1)
        log.append("nobody was woken")
        current_kernel().sched.wake_up_process(worker.task)
        kthread_flush_worker(worker)

    run(init)
    assert log == [0, "nobody was woken", "woken by its friend", "second"]


def test_rule_107_the_function_may_dispose_of_its_work(run, log):
    """The worker keeps no reference: not while it is idle, and not while it runs the next work."""
    works: dict[str, KthreadWork] = {}

    def fn(work):
        del works["only"]

    def look(alive):
        gc.collect()
        log.append(alive())

    def init():
        worker = kthread_create_worker("pump")
        works["only"] = KthreadWork(fn)
        alive = weakref.ref(works["only"])
        kthread_queue_work(worker, works["only"])
        kthread_queue_work(worker, KthreadWork(lambda work: look(alive)))
        kthread_flush_worker(worker)
        look(alive)

    run(init)
    assert log == [None, None]


def test_works_can_be_queued_in_interrupts_and_softirqs(run, log):
    def init():
        kernel = current_kernel()
        worker = kthread_create_worker("pump")
        hard, soft = KthreadWork(says(log, "irq's")), KthreadWork(says(log, "timer's"))
        irq = kernel.lkl_get_free_irq("device")
        request_irq(irq, lambda irq: log.append(kthread_queue_work(worker, hard)), "device")
        mod_timer(Timer(lambda timer: log.append(kthread_queue_work(worker, soft))), ktime_get() + MS)
        kernel.lkl_trigger_irq(irq)
        cpu_relax()
        msleep(2)

    run(init)
    assert log == [True, "irq's", True, "timer's"]


def test_the_worker_may_have_a_priority(run, log):
    def init():
        worker = kthread_create_worker("urgent")
        sched_setscheduler(worker.task, SCHED_FIFO, 50)
        kthread_queue_work(worker, KthreadWork(says(log, "runs")))
        log.append("queued")

    run(init)
    assert log == ["runs", "queued"]


def test_a_work_made_by_the_application_for_a_kernel(kernel):
    assert not KthreadWork(lambda work: None, kernel=kernel).pending


@pytest.mark.parametrize("make_host", [GreenletHost, ThreadHost])
def test_a_worker_without_a_thread_is_an_error(make_host):
    def init():
        with pytest.raises(OSError, match="thread") as caught:
            kthread_create_worker("pump")
        assert caught.value.errno == errno.ENOMEM
        worker = kthread_create_worker("pump")
        kthread_destroy_worker(worker)

    host = FaultyHost(make_host(), "thread_create", 4)
    kernel = lkl_start_kernel(init, host=host, switch="semaphore", clock="virtual", loglevel=0)
    kernel.run()
    assert host.live() == LiveObjects()


# -- rule 108: the end


def test_rule_108_destroy_runs_what_is_queued_and_stops(run, log):
    def init():
        worker = kthread_create_worker("pump")
        task = worker.task
        for name in "ab":
            kthread_queue_work(worker, KthreadWork(lambda work: (msleep(1), log.append(work.name)), name=name))
        kthread_destroy_worker(worker)
        log.append((task.exit_state != 0, worker.task))
        assert current_kernel().printk.tainted == 0

    run(init)
    assert log == ["a", "b", (True, None)]


def test_rule_108_the_worker_stops_before_it_takes_more(run, log):
    """A work that queues itself again does not keep the worker alive; what it leaves behind is warned of."""

    def fn(work):
        log.append("runs")
        msleep(1)
        kthread_queue_work(work.worker, work)

    def init():
        worker = kthread_create_worker("pump")
        work = KthreadWork(fn, name="endless")
        kthread_queue_work(worker, work)
        kthread_destroy_worker(worker)
        assert not work.pending
        kthread_flush_work(work)
        assert not kthread_cancel_work_sync(work)
        assert "WARNING: kthread worker pump ends with works queued: endless" in current_kernel().printk.text()

    run(init)
    # Once before the marker of the flush, and once more before the one who flushed could stop the thread.
    assert log == ["runs"] * 2


def test_rule_108_stopping_without_flushing_takes_no_more_work(run, log):
    def init():
        worker = kthread_create_worker("pump")
        yield_()
        kthread_queue_work(worker, KthreadWork(says(log, "never"), name="late"))
        log.append(kthread_stop(worker.task))
        assert "works queued: late" in current_kernel().printk.text()

    run(init)
    assert log == [0]


def test_a_worker_that_has_ended_takes_nothing_and_says_so(run, log):
    def init():
        worker = kthread_create_worker("gone")
        delayed = KthreadDelayedWork(says(log, "never"), name="delayed")
        kthread_queue_delayed_work(worker, delayed, MS)
        kthread_destroy_worker(worker)
        assert not delayed.pending
        assert len(current_kernel().timers) == 0
        assert not kthread_queue_work(worker, KthreadWork(says(log, "never")))
        assert not kthread_queue_delayed_work(worker, delayed, MS)
        kthread_flush_worker(worker)
        kthread_destroy_worker(worker)
        text = current_kernel().printk.text()
        assert "works queued: delayed" in text
        assert text.count("kthread worker gone has ended") == 2
        assert "kthread_destroy_worker() of gone, whose thread has ended" in text

    run(init)
    assert log == []


# -- rule 109: delayed works


def test_rule_109_a_delayed_work_is_never_early(run, log):
    def init():
        worker = kthread_create_worker("pump")
        start = ktime_get()
        dwork = KthreadDelayedWork(lambda work: log.append(ktime_get() - start >= 5 * MS))
        assert kthread_queue_delayed_work(worker, dwork, 5 * MS)
        assert not kthread_queue_delayed_work(worker, dwork, MS)
        assert not kthread_queue_work(worker, dwork)
        kthread_flush_work(dwork)  # it is not on the list: nothing to wait for
        msleep(4)
        assert log == []
        msleep(2)

    run(init)
    assert log == [True]


def test_rule_109_a_delay_of_0_is_queued_at_once(run, log):
    def init():
        worker = kthread_create_worker("pump")
        dwork = KthreadDelayedWork(says(log, "runs"))
        kthread_queue_delayed_work(worker, dwork, 0)
        assert not dwork.timer.pending
        kthread_flush_work(dwork)

    run(init)
    assert log == ["runs"]


def test_rule_109_mod_delayed_work_is_true_if_it_was_pending(run, log):
    def init():
        worker = kthread_create_worker("pump")
        dwork = KthreadDelayedWork(lambda work: log.append(ktime_get() // MS))
        log.append(kthread_mod_delayed_work(worker, dwork, 3 * MS))
        log.append(kthread_mod_delayed_work(worker, dwork, 6 * MS))
        msleep(4)
        log.append(kthread_mod_delayed_work(worker, dwork, 6 * MS))
        msleep(7)
        log.append(kthread_mod_delayed_work(worker, dwork, 0))
        log.append(kthread_mod_delayed_work(worker, dwork, MS))
        msleep(2)

    run(init)
    assert log == [False, True, True, 10, False, True, 12]


def test_rule_109_mod_delayed_work_lets_another_cancel_win(run, log):
    def canceller(dwork):
        log.append(("cancelled", kthread_cancel_delayed_work_sync(dwork)))

    def init():
        worker = kthread_create_worker("pump")
        dwork = KthreadDelayedWork(lambda work: (log.append("begins"), msleep(5)))
        kthread_queue_delayed_work(worker, dwork, 0)
        kthread_run(canceller, dwork)
        msleep(1)
        log.append((kthread_mod_delayed_work(worker, dwork, 0), dwork.pending))
        msleep(10)

    run(init)
    assert log == ["begins", (False, False), ("cancelled", False)]


# -- rule 110: cancelling


def test_rule_110_cancelling_is_true_if_it_was_pending(run, log):
    def init():
        worker = kthread_create_worker("pump")
        work, dwork = KthreadWork(says(log, "never")), KthreadDelayedWork(says(log, "never"))
        assert not kthread_cancel_work_sync(work)
        kthread_queue_work(worker, work)
        assert kthread_cancel_work_sync(work)
        assert not kthread_cancel_work_sync(work)
        kthread_queue_delayed_work(worker, dwork, MS)
        assert kthread_cancel_delayed_work_sync(dwork)
        assert not kthread_cancel_delayed_work_sync(dwork)
        msleep(2)

    run(init)
    assert log == []


def test_rule_110_cancelling_waits_for_a_run_that_has_begun(run, log):
    def init():
        worker = kthread_create_worker("pump")
        work = KthreadWork(lambda work: (msleep(5), log.append("ends")))
        kthread_queue_work(worker, work)
        msleep(1)
        log.append(kthread_cancel_work_sync(work))
        kthread_queue_work(worker, work)
        msleep(1)
        kthread_queue_work(worker, work)
        log.append(kthread_cancel_work_sync(work))
        assert not work.pending
        assert worker.current_work is None

    run(init)
    assert log == ["ends", False, "ends", True]


@pytest.mark.parametrize("delay_ns", [0, MS])
def test_rule_110_cancelling_ends_a_work_that_queues_itself(run, log, delay_ns):
    def fn(dwork):
        msleep(1)
        log.append(kthread_queue_delayed_work(dwork.worker, dwork, delay_ns))

    def init():
        worker = kthread_create_worker("pump")
        dwork = KthreadDelayedWork(fn)
        kthread_queue_delayed_work(worker, dwork, 0)
        msleep(4)
        kthread_cancel_delayed_work_sync(dwork)
        log.append("cancelled")
        msleep(5)
        assert not dwork.pending

    run(init)
    assert log[-1] == "cancelled"
    assert log[0] is True


def test_rule_110_a_work_cannot_cancel_or_flush_itself(run, log):
    def fn(work):
        if log:
            return
        kthread_queue_work(work.worker, work)
        for wait in (kthread_cancel_work_sync, kthread_flush_work):
            with pytest.raises(KernelBug, match="wait for itself"):
                wait(work)
        for wait in (kthread_flush_worker, kthread_destroy_worker):
            with pytest.raises(KernelBug, match="wait for itself"):
                wait(work.worker)
        log.append((work.pending, work.canceling))

    def init():
        worker = kthread_create_worker("pump")
        kthread_queue_work(worker, KthreadWork(fn))
        msleep(1)

    run(init)
    assert log == [(True, 0)]


# -- rule 111: flushing


def test_rule_111_flush_work_waits_for_that_work_and_not_for_what_is_behind(run, log):
    def init():
        worker = kthread_create_worker("pump")
        works = [KthreadWork(lambda work: (msleep(2), log.append(work.name)), name=name) for name in "abc"]
        for work in works:
            kthread_queue_work(worker, work)
        kthread_flush_work(works[1])
        log.append("flushed b")
        kthread_flush_work(works[0])
        kthread_flush_work(works[2])

    run(init)
    assert log == ["a", "b", "flushed b", "c"]


def test_rule_111_flush_of_a_running_work_waits_for_this_run_only(run, log):
    def fn(work):
        log.append("begins")
        msleep(2)
        log.append("ends")

    def init():
        worker = kthread_create_worker("pump")
        work, other = KthreadWork(fn), KthreadWork(says(log, "behind"))
        kthread_queue_work(worker, work)
        msleep(1)
        kthread_queue_work(worker, other)
        kthread_run(lambda: (msleep(0.5), kthread_queue_work(worker, work)))
        kthread_flush_work(work)
        log.append("flushed")
        kthread_flush_work(work)
        kthread_flush_work(work)

    run(init)
    assert log == ["begins", "ends", "behind", "begins", "flushed", "ends"]


def test_rule_111_flush_of_a_pending_work_waits_for_its_next_run(run, log):
    def init():
        worker = kthread_create_worker("pump")
        work = KthreadWork(lambda work: (msleep(2), log.append("ends")))
        kthread_queue_work(worker, work)
        msleep(1)
        kthread_queue_work(worker, work)
        kthread_flush_work(work)
        log.append("flushed")

    run(init)
    assert log == ["ends", "ends", "flushed"]


def test_flush_worker_waits_for_all_that_is_queued_although_the_last_is_cancelled(run, log):
    def flusher(worker):
        kthread_flush_worker(worker)
        log.append("flushed")

    def init():
        worker = kthread_create_worker("pump")
        works = [KthreadWork(lambda work: (msleep(2), log.append(work.name)), name=name) for name in "abc"]
        for work in works:
            kthread_queue_work(worker, work)
        kthread_run(flusher, worker)
        msleep(1)
        kthread_queue_work(worker, KthreadWork(lambda work: (msleep(2), log.append("late"))))
        log.append(kthread_cancel_work_sync(works[2]))
        kthread_flush_worker(worker)

    run(init)
    assert log == [True, "a", "b", "flushed", "late"]


def test_cancelling_lets_the_flushers_go(run, log):
    def flusher(work):
        kthread_flush_work(work)
        log.append("flushed")

    def init():
        worker = kthread_create_worker("pump")
        work = KthreadWork(says(log, "never"))
        kthread_queue_work(worker, KthreadWork(lambda work: msleep(5)))
        kthread_queue_work(worker, work)
        kthread_run(flusher, work)
        msleep(1)
        log.append(kthread_cancel_work_sync(work))
        msleep(1)

    run(init)
    assert log == [True, "flushed"]


# -- errors and halting


def test_an_exception_in_a_work_is_an_oops_of_the_worker(boot, log):
    """Nothing replaces it, but nobody waits for it for ever."""

    def fails(work):
        msleep(2)
        raise ZeroDivisionError("in a work")

    def waiter(wait, argument, name):
        wait(argument)
        log.append(name)

    def init():
        worker = kthread_create_worker("pump")
        bad, behind = KthreadWork(fails, name="bad"), KthreadWork(says(log, "never"), name="behind")
        delayed = KthreadDelayedWork(says(log, "never"), name="delayed")
        for work in (bad, behind):
            kthread_queue_work(worker, work)
        kthread_queue_delayed_work(worker, delayed, 10 * MS)
        kthread_run(waiter, kthread_flush_work, bad, "flushed bad")
        kthread_run(waiter, kthread_flush_work, behind, "flushed behind")
        kthread_run(waiter, kthread_flush_worker, worker, "flushed worker")
        kthread_run(waiter, kthread_cancel_work_sync, bad, "cancelled bad")
        msleep(20)
        log.append((worker.task, behind.pending, delayed.pending, kthread_queue_work(worker, behind)))
        kthread_destroy_worker(worker)

    kernel = boot(init, on_oops="kill")
    kernel.run()
    assert sorted(log[:4]) == ["cancelled bad", "flushed bad", "flushed behind", "flushed worker"]
    assert log[4:] == [(None, False, False, False)]
    text = kernel.printk.text()
    assert "Oops: pump-" in text
    assert "kthread worker: pump bad" in text
    assert "ends with works queued: behind, delayed" in text


def test_an_exception_in_a_work_panics_a_kernel_that_panics_on_oops(boot):
    def init():
        worker = kthread_create_worker("pump")
        kthread_queue_work(worker, KthreadWork(lambda work: 1 // 0))
        kthread_flush_worker(worker)

    with pytest.raises(KernelPanic, match="ZeroDivisionError in pump"):
        boot(init).run()


def test_halting_unwinds_the_running_work_and_drops_the_rest(boot, log):
    def fn(work):
        try:
            msleep(1000)
        finally:
            log.append(f"{work.name} unwound")

    def init():
        worker = kthread_create_worker("pump")
        for name in "ab":
            kthread_queue_work(worker, KthreadWork(fn, name=name))
        try:
            kthread_destroy_worker(worker)
        finally:
            log.append("init unwound")

    kernel = boot(init)
    kernel.lkl_run()
    kernel.lkl_sys_halt()
    assert log == ["init unwound", "a unwound"]
    assert kernel.printk.tainted == 0


@pytest.mark.parametrize("after", range(0, 40, 3))
def test_halting_anywhere_does_not_hang(boot, after):
    def again(dwork):
        try:
            msleep(1)
            kthread_mod_delayed_work(dwork.worker, dwork, MS)
        finally:
            kthread_queue_work(dwork.worker, KthreadWork(lambda work: None))

    def init():
        worker = kthread_create_worker("pump")
        dwork = KthreadDelayedWork(again)
        try:
            while True:
                kthread_queue_delayed_work(worker, dwork, 0)
                kthread_flush_worker(worker)
        finally:
            kthread_cancel_delayed_work_sync(dwork)
            kthread_destroy_worker(worker)

    kernel = boot(init)
    while after > 0 and not kernel.halted:
        status = kernel.lkl_run(max_switches=min(after, 5))
        after -= 5
        kernel.pause(status)
    kernel.lkl_sys_halt()
    assert kernel.halted


def test_a_work_that_always_queues_itself_does_not_starve_the_others(run, log):
    def fn(work):
        log.append("runs")
        if len(log) < 100_000:
            kthread_queue_work(work.worker, work)

    def init():
        worker = kthread_create_worker("pump")
        work = KthreadWork(fn)
        kthread_queue_work(worker, work)
        for _ in range(3):
            yield_()
        kthread_cancel_work_sync(work)

    run(init)
    assert len(log) < 10_000


# -- looking inside


def test_an_idle_worker_is_no_deadlock(boot):
    kernel = boot()
    kernel.kthreads.kthread_run_nowait(lambda: kthread_create_worker("pump"), name="creator", failed=str)
    assert kernel.lkl_run().reason.name == "IDLE"
    assert "pump" in kernel.ps()
    assert kernel.reports.stuck() == []


def test_reprs_tell_states(run):
    def init():
        worker = kthread_create_worker("pump")
        go = Completion()
        work = KthreadWork(lambda work: go.wait_for_completion(), name="waits")
        assert repr(work) == "<KthreadWork waits idle>"
        kthread_queue_work(worker, work)
        assert repr(work) == "<KthreadWork waits pending on pump>"
        msleep(1)
        assert repr(work) == "<KthreadWork waits running on pump>"
        kthread_queue_work(worker, work)
        assert repr(work) == "<KthreadWork waits running pending on pump>"
        assert repr(worker) == f"<KthreadWorker pump runs {work!r}, 1 queued, 0 delayed>"
        go.complete_all()
        kthread_flush_worker(worker)
        yield_()
        assert repr(worker) == "<KthreadWorker pump idle, 0 queued, 0 delayed>"
        kthread_destroy_worker(worker)
        assert repr(worker) == "<KthreadWorker pump ended, 0 queued, 0 delayed>"

    run(init)


def test_parity_of_a_program_with_kthread_workers(parity):
    def slow(work):
        msleep(2)

    def again(work):
        msleep(1)
        kthread_queue_delayed_work(work.worker, work, MS)

    def init():
        pump, urgent = kthread_create_worker("pump"), kthread_create_worker("urgent")
        sched_setscheduler(urgent.task, SCHED_FIFO, 10)
        works = [KthreadWork(slow, name=f"slow{number}") for number in range(4)]
        looping = KthreadDelayedWork(again)
        kthread_queue_delayed_work(urgent, looping, 0)
        for work in works[:3]:
            kthread_queue_work(pump, work)
        kthread_queue_work(urgent, works[3])
        kthread_flush_work(works[1])
        kthread_cancel_work_sync(works[2])
        kthread_cancel_delayed_work_sync(looping)
        kthread_destroy_worker(pump)
        kthread_destroy_worker(urgent)

    assert "comm=pump" in parity(init)


# -- against a model

WORKS = st.integers(0, 3)
DELAYS = st.sampled_from([0, 2 * MS])
OPERATIONS = st.one_of(
    st.tuples(st.just("queue"), WORKS, DELAYS),
    st.tuples(st.just("mod"), WORKS, DELAYS),
    st.tuples(st.just("cancel"), WORKS),
    st.tuples(st.just("flush"), WORKS),
    st.tuples(st.just("flush_worker")),
    st.tuples(st.just("sleep"), st.integers(1, 3)),
)


class Model:
    """A list, a clock that only sleeping moves, and a set of alarms; all works take no time."""

    def __init__(self, again: tuple[int, ...]) -> None:
        self.again = list(again)
        self.now = 0
        self.sequence = 0
        self.list: list[int] = []
        self.alarms: dict[int, tuple[int, int]] = {}
        self.log: list[Any] = []

    def run(self) -> None:
        while self.list:
            work = self.list.pop(0)
            self.log.append(work)
            if self.again[work]:
                self.again[work] -= 1
                self.queue(work, 0)

    def queue(self, work: int, delay: int) -> bool:
        if work in self.list or work in self.alarms:
            return False
        if delay:
            self.sequence += 1
            self.alarms[work] = (self.now + delay, self.sequence)
        else:
            self.list.append(work)
        return True

    def cancel(self, work: int) -> bool:
        if work in self.list:
            self.list.remove(work)
            return True
        return self.alarms.pop(work, None) is not None

    def mod(self, work: int, delay: int) -> bool:
        was_pending = self.cancel(work)
        self.queue(work, delay)
        return was_pending

    def flush(self, work: int) -> None:
        if work in self.list:
            self.run()

    def flush_worker(self) -> None:
        self.run()

    def sleep(self, ms: int) -> None:
        self.run()
        end = self.now + ms * MS
        for work, (expires, _) in sorted(self.alarms.items(), key=lambda alarm: alarm[1]):
            if expires <= end:
                del self.alarms[work]
                self.list.append(work)
                self.now = expires
                self.run()
        self.now = end


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(operations=st.lists(OPERATIONS, max_size=30), again=st.tuples(*[st.integers(0, 2)] * 4))
def test_a_worker_follows_the_model(configuration, operations, again):
    log: list[Any] = []
    left = list(again)

    def fn(work):
        number = int(work.name)
        log.append(number)
        if left[number]:
            left[number] -= 1
            kthread_queue_work(work.worker, work)

    def init():
        # Odd times, so that no alarm falls on the moment at which a sleep ends, and reading the clock does not matter.
        current_kernel().clock.read_cost_ns = 1
        worker = kthread_create_worker("pump")
        works = [KthreadDelayedWork(fn, name=str(number)) for number in range(4)]
        do = {
            "queue": lambda work, delay: kthread_queue_delayed_work(worker, works[work], delay),
            "mod": lambda work, delay: kthread_mod_delayed_work(worker, works[work], delay),
            "cancel": lambda work: kthread_cancel_delayed_work_sync(works[work]),
            "flush": lambda work: kthread_flush_work(works[work]),
            "flush_worker": lambda: kthread_flush_worker(worker),
            "sleep": lambda ms: msleep(ms + 0.1),
        }
        for name, *arguments in operations:
            log.append((name, do[name](*arguments)))
        for work in works:
            kthread_cancel_delayed_work_sync(work)
        kthread_destroy_worker(worker)

    kernel = lkl_start_kernel(init, clock="virtual", loglevel=0, **configuration)
    try:
        kernel.run()
    finally:
        kernel.lkl_sys_halt()
    assert kernel.host.live() == LiveObjects()
    assert kernel.printk.tainted == 0
    model = Model(again)
    for name, *arguments in operations:
        model.log.append((name, getattr(model, name)(*arguments)))
    assert log == model.log
