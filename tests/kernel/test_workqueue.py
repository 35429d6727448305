"""Work queues: rule 125, one clause after another, and what goes wrong around them."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green import FaultyHost, GreenletHost, KernelPanic, ThreadHost, lkl_start_kernel
from lkl_green.errors import Deadlock, KernelBug, SchedulingWhileAtomic
from lkl_green.host.ops import LiveObjects
from lkl_green.kernel.workerpool import CREATE_COOLDOWN_NS, CREATE_RETRIES, MAX_IDLE_WORKERS
from lkl_green.linux import (
    SCHED_FIFO,
    TASK_INTERRUPTIBLE,
    Completion,
    DelayedWork,
    Mutex,
    SpinLock,
    Timer,
    Work,
    alloc_ordered_workqueue,
    alloc_workqueue,
    cancel_delayed_work,
    cancel_delayed_work_sync,
    cancel_work,
    cancel_work_sync,
    cpu_relax,
    current,
    current_kernel,
    destroy_workqueue,
    do_exit,
    drain_workqueue,
    flush_delayed_work,
    flush_work,
    flush_workqueue,
    in_interrupt,
    kthread_run,
    ktime_get,
    mod_delayed_work,
    mod_timer,
    msleep,
    queue_delayed_work,
    queue_work,
    request_irq,
    sched_setscheduler,
    schedule,
    schedule_delayed_work,
    schedule_work,
    set_current_state,
    usleep,
    yield_,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green import Kernel

MS = 1_000_000


def says(log: list[Any], what: Any) -> Callable[[Work], None]:
    """A work function that writes into the log."""
    return lambda work: log.append(what)


def workers(kernel: Kernel) -> int:
    return sum(task.comm.startswith("kworker/") for task in kernel.pids)


# -- queueing


def test_rule_125_queue_work_is_false_while_pending(run, log):
    def init():
        work = Work(says(log, "runs"))
        log.append(schedule_work(work))
        log.append(schedule_work(work))
        flush_work(work)
        log.append(schedule_work(work))
        flush_work(work)

    run(init)
    assert log == [True, False, "runs", True, "runs"]


def test_the_function_gets_its_work_and_runs_in_a_kworker_that_may_sleep(run, log):
    def fn(work):
        msleep(1)
        log.append((work.name, current().comm, in_interrupt()))

    def init():
        work = Work(fn, name="blink")
        schedule_work(work)
        flush_work(work)

    run(init)
    assert log == [("blink", "kworker/0:0", False)]


def test_rule_125_a_running_work_can_be_queued_again(run, log):
    def fn(work):
        log.append(f"runs {len(log)}")
        if len(log) < 3:
            log_queued.append(schedule_work(work))

    log_queued: list[bool] = []

    def init():
        work = Work(fn)
        schedule_work(work)
        while len(log) < 3:
            flush_work(work)
            yield_()

    run(init)
    assert log == ["runs 0", "runs 1", "runs 2"]
    assert log_queued == [True, True]


@pytest.mark.parametrize("same_queue", [True, False])
def test_rule_125_a_work_is_never_reentrant(run, log, same_queue):
    """The second run begins when the first has ended, though other workers are idle and other works overtake."""

    def fn(work):
        log.append(("begin", current().comm))
        msleep(10)
        log.append(("end", current().comm))

    def init():
        other = alloc_workqueue("other")
        work = Work(fn)
        schedule_work(work)
        msleep(1)
        assert queue_work(current_kernel().workqueues.system_wq if same_queue else other, work)
        schedule_work(Work(says(log, "overtakes")))
        msleep(1)
        assert work.pending
        flush_work(work)

    run(init)
    one = "kworker/0:0"
    assert log == [("begin", one), "overtakes", ("end", one), ("begin", one), ("end", one)]


def test_works_begin_in_the_order_of_queueing(run, log):
    def fn(work):
        log.append(work.name)
        msleep(1)

    def init():
        wq = alloc_workqueue("wq")
        for number in range(20):
            queue_work(wq, Work(fn, name=f"work{number}"))
        flush_workqueue(wq)

    run(init)
    assert log == [f"work{number}" for number in range(20)]


def test_rule_125_an_ordered_queue_runs_one_at_a_time_in_order(run, log):
    def fn(work):
        log.append(f"{work.name} begins")
        msleep(3 if work.name == "a" else 1)
        log.append(f"{work.name} ends")

    def init():
        wq = alloc_ordered_workqueue("in order")
        for name in "abc":
            queue_work(wq, Work(fn, name=name))
        flush_workqueue(wq)

    run(init)
    assert log == ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]


@pytest.mark.parametrize("max_active", [1, 2, 3])
def test_max_active_works_of_a_queue_run_at_a_time(run, log, max_active):
    running: set[str] = set()

    def fn(work):
        running.add(work.name)
        log.append(len(running))
        msleep(1)
        running.discard(work.name)

    def init():
        wq = alloc_workqueue("narrow", max_active=max_active)
        for number in range(7):
            queue_work(wq, Work(fn, name=f"w{number}"))
        assert wq.nr_active == max_active
        flush_workqueue(wq)
        assert wq.nr_active == 0

    run(init)
    assert len(log) == 7
    assert max(log) == max_active


def test_a_full_queue_does_not_hold_up_another(run, log):
    def init():
        narrow = alloc_ordered_workqueue("narrow")
        queue_work(narrow, Work(lambda work: (msleep(5), log.append("slow"))))
        queue_work(narrow, Work(says(log, "behind slow")))
        schedule_work(Work(says(log, "other queue")))
        flush_workqueue(narrow)

    run(init)
    assert log == ["other queue", "slow", "behind slow"]


def test_wrong_limits_are_refused(run):
    def init():
        with pytest.raises(ValueError, match="max_active=-1"):
            alloc_workqueue("wrong", max_active=-1)
        with pytest.raises(ValueError, match="one work at a time"):
            alloc_workqueue("wrong", max_active=2, ordered=True)

    run(init)


def test_a_work_made_by_the_application_for_a_kernel(kernel, log):
    work = Work(says(log, "runs"), kernel=kernel)
    kernel.workqueues.system_wq.queue_work(work)
    kernel.lkl_run()
    assert log == ["runs"]


# -- the workers


def test_workers_are_made_on_demand_and_reused(run, log):
    def init():
        kernel = current_kernel()
        log.append(workers(kernel))
        for _ in range(5):
            work = Work(says(log, "runs"))
            schedule_work(work)
            flush_work(work)
        log.append(workers(kernel))

    run(init)
    assert log == [0, *["runs"] * 5, 1]


def test_there_are_as_many_workers_as_sleeping_works_and_two_more(run, log):
    def init():
        kernel = current_kernel()
        wq = alloc_workqueue("sleepers")
        for number in range(10):
            queue_work(wq, Work(lambda work: msleep(5), name=f"sleeper{number}"))
        msleep(1)
        log.append(workers(kernel))
        for number in range(100):
            queue_work(wq, Work(lambda work: None, name=f"quick{number}"))
        msleep(1)
        log.append(workers(kernel))
        flush_workqueue(wq)
        msleep(1)
        log.append(workers(kernel))

    run(init)
    assert log == [10, 12, MAX_IDLE_WORKERS]


def test_idle_workers_are_no_deadlock_and_do_not_keep_the_kernel_awake(boot, log):
    kernel = boot()
    work = Work(says(log, "runs"), kernel=kernel)
    kernel.workqueues.system_wq.queue_work(work)
    status = kernel.lkl_run()
    assert (status.reason.name, status.next_event_ns) == ("IDLE", None)
    assert log == ["runs"]
    assert kernel.reports.stuck() == []


def test_a_work_can_be_queued_in_an_interrupt_before_there_is_any_worker(run, log):
    work = None

    def handler(irq):
        log.append(("irq", in_interrupt(), schedule_work(work), schedule_work(work)))

    def init():
        nonlocal work
        kernel = current_kernel()
        work = Work(lambda work: log.append((current().comm, in_interrupt())))
        irq = kernel.lkl_get_free_irq("device")
        request_irq(irq, handler, "device")
        kernel.lkl_trigger_irq(irq)
        cpu_relax()
        flush_work(work)

    run(init)
    assert log == [("irq", True, True, False), ("kworker/0:0", False)]


def test_a_work_can_be_queued_in_a_softirq(run, log):
    def init():
        work = Work(says(log, "runs"))
        timer = Timer(lambda timer: log.append(schedule_work(work)))
        mod_timer(timer, ktime_get() + MS)
        msleep(2)

    run(init)
    assert log == [True, "runs"]


def test_a_work_can_be_queued_by_an_irq_that_interrupts_the_idle_loop(boot, log):
    kernel = boot()
    work = Work(says(log, "runs"), kernel=kernel)
    irq = kernel.lkl_get_free_irq("device")
    kernel.irq.request_irq(irq, lambda irq: kernel.workqueues.system_wq.queue_work(work), "device")
    kernel.lkl_run()
    thread = threading.Thread(target=kernel.lkl_trigger_irq, args=(irq,))
    thread.start()
    thread.join(5)
    kernel.lkl_run()
    kernel.lkl_run()
    assert log == ["runs"]


def test_workers_do_not_inherit_from_whoever_queued_first(run, log):
    """Neither a priority nor, in an interrupt, the interrupted task's anything."""

    def init():
        sched_setscheduler(current(), SCHED_FIFO, 50)
        work = Work(lambda work: log.append((current().prio, current().parent.comm)))
        schedule_work(work)
        flush_work(work)

    run(init)
    assert log == [(120, "kthreadd")]


@pytest.mark.parametrize("make_host", [GreenletHost, ThreadHost])
def test_a_worker_that_cannot_be_made_is_asked_for_again(make_host, log):
    """The fifth thread is the first worker's; a second later the host has a thread again."""

    def init():
        work = Work(says(log, "runs"))
        schedule_work(work)
        flush_work(work)
        log.append(ktime_get() // 1_000_000_000)

    host = FaultyHost(make_host(), "thread_create", 4)
    kernel = lkl_start_kernel(init, host=host, switch="semaphore", clock="virtual", loglevel=0)
    kernel.run()
    assert log == ["runs", 1]
    assert "Failed to create a worker thread" in kernel.printk.text()
    assert host.live() == LiveObjects()


class NoMoreThreads(FaultyHost):
    """A host that gives the first threads only."""

    def thread_create(self, fn: Callable[[Any], object], arg: Any) -> int:
        self.calls["thread_create"] += 1
        return 0 if self.calls["thread_create"] > 3 else self._host.thread_create(fn, arg)


@pytest.mark.parametrize("make_host", [GreenletHost, ThreadHost])
def test_without_any_worker_a_flush_is_a_deadlock_that_is_reported(make_host):
    def init():
        work = Work(lambda work: None, name="stranded")
        schedule_work(work)
        for _ in range(5):
            msleep(100)
            schedule_work(Work(lambda work: None))  # no reason to ask again before the second is over
        flush_work(work)

    host = NoMoreThreads(make_host(), "thread_create", 0)
    kernel = lkl_start_kernel(init, host=host, switch="semaphore", clock="virtual", loglevel=0)
    with pytest.raises(Deadlock, match="flush of work stranded"):
        kernel.run()
    assert host.calls["thread_create"] == 3 + CREATE_RETRIES
    assert kernel.clock.peek_ns() >= (CREATE_RETRIES - 1) * CREATE_COOLDOWN_NS
    assert "gave up" in kernel.printk.text()
    assert host.live() == LiveObjects()


# -- flushing


def test_flush_work_is_false_for_an_idle_work(run):
    def init():
        work = Work(lambda work: None)
        assert not flush_work(work)
        schedule_work(work)
        assert flush_work(work)
        assert not flush_work(work)

    run(init)


def test_flush_work_waits_for_a_running_work(run, log):
    def init():
        work = Work(lambda work: (msleep(5), log.append("ends")))
        schedule_work(work)
        msleep(1)
        assert not work.pending
        log.append(flush_work(work))

    run(init)
    assert log == ["ends", True]


def test_rule_125_flush_waits_for_the_last_queueing(run, log):
    """Queued again while it runs: the flush waits for that run, too, and not for one queued later."""

    def fn(work):
        log.append("begins")
        msleep(5)
        log.append("ends")

    def again(work):
        msleep(7)
        log.append(("queued again", schedule_work(work)))

    def init():
        work = Work(fn)
        schedule_work(work)
        msleep(1)
        schedule_work(work)
        kthread_run(again, work)
        flush_work(work)
        log.append("flushed")
        cancel_work_sync(work)

    run(init)
    # The worker goes on with the third run before the flusher gets the CPU, but the flusher does not wait for its end.
    assert log == ["begins", "ends", "begins", ("queued again", True), "ends", "begins", "flushed", "ends"]


def test_several_flushers_of_one_work(run, log):
    def flusher(work, name):
        log.append((name, flush_work(work)))

    def init():
        work = Work(lambda work: (msleep(3), log.append("ends")))
        schedule_work(work)
        for name in "ab":
            kthread_run(flusher, work, name)
        msleep(1)
        kthread_run(flusher, work, "c")
        msleep(5)

    run(init)
    assert log == ["ends", ("a", True), ("b", True), ("c", True)]


def test_flush_workqueue_waits_for_what_was_queued_before(run, log):
    def init():
        wq = alloc_workqueue("wq", max_active=2)
        for number in range(5):
            queue_work(wq, Work(lambda work: (msleep(1), log.append(work.name)), name=f"w{number}"))
        kthread_run(late, wq)
        flush_workqueue(wq)
        log.append("flushed")
        destroy_workqueue(wq)

    def late(wq):
        queue_work(wq, Work(lambda work: (msleep(10), log.append("late"))))

    run(init)
    assert log == ["w0", "w1", "w2", "w3", "w4", "flushed", "late"]


def test_flushes_of_a_workqueue_that_overlap(run, log):
    def flusher(wq, name):
        flush_workqueue(wq)
        log.append(f"{name} flushed")

    def init():
        wq = alloc_workqueue("wq")
        for name, ms in (("long", 9), ("short", 3), ("middle", 6)):
            queue_work(wq, Work(lambda work, ms=ms: (msleep(ms), log.append(work.name)), name=name))
            kthread_run(flusher, wq, name)
            yield_()
        flush_workqueue(wq)

    run(init)
    # Each flush also waits for everything older: here for the longest, which was queued first.
    assert log == ["short", "middle", "long", "long flushed", "short flushed", "middle flushed"]


def test_flush_workqueue_of_an_empty_queue_returns_at_once(run):
    def init():
        wq = alloc_workqueue("wq")
        before = current_kernel().sched.nr_switches
        flush_workqueue(wq)
        drain_workqueue(wq)
        assert current_kernel().sched.nr_switches == before

    run(init)


def test_a_flusher_of_higher_priority_preempts_the_worker_that_ends(run, log):
    """Every wake-up in the work queue code may switch at once; what follows it must not matter."""

    def urgent(work, wq):
        sched_setscheduler(current(), SCHED_FIFO, 10)
        flush_work(work)
        log.append(("flushed", work.pending, wq.nr_active))
        queue_work(wq, work)
        flush_workqueue(wq)
        log.append(("flushed queue", wq.nr_active))

    def init():
        wq = alloc_ordered_workqueue("wq")
        work = Work(lambda work: (msleep(1), log.append("ends")))
        queue_work(wq, work)
        task = kthread_run(urgent, work, wq)
        queue_work(wq, Work(says(log, "next")))
        msleep(10)
        assert task.exit_state

    run(init)
    assert log == ["ends", ("flushed", False, 1), "next", "ends", ("flushed queue", 0)]


# -- cancelling


def test_rule_125_cancel_work_sync_is_true_if_it_was_pending(run, log):
    def init():
        work = Work(says(log, "never"))
        assert not cancel_work_sync(work)
        schedule_work(work)
        assert cancel_work_sync(work)
        assert not cancel_work_sync(work)
        msleep(1)

    run(init)
    assert log == []


def test_cancel_work_sync_waits_for_a_run_that_has_begun(run, log):
    def init():
        work = Work(lambda work: (msleep(5), log.append("ends")))
        schedule_work(work)
        msleep(1)
        log.append(("cancelled", cancel_work_sync(work)))
        schedule_work(work)
        msleep(1)
        schedule_work(work)
        log.append(("cancelled", cancel_work_sync(work)))
        log.append((work.pending, work.worker))

    run(init)
    assert log == ["ends", ("cancelled", False), "ends", ("cancelled", True), (False, None)]


def test_cancel_work_does_not_wait(run, log):
    def init():
        work = Work(lambda work: (msleep(5), log.append("ends")))
        schedule_work(work)
        msleep(1)
        log.append(cancel_work(work))
        schedule_work(work)
        log.append(cancel_work(work))
        flush_work(work)

    run(init)
    assert log == [False, True, "ends"]


def test_cancel_work_sync_ends_a_work_that_queues_itself(run, log):
    def fn(work):
        msleep(1)
        log.append(schedule_work(work))

    def init():
        work = Work(fn)
        schedule_work(work)
        msleep(4)
        cancel_work_sync(work)
        log.append("cancelled")
        msleep(5)
        log.append(schedule_work(work))
        cancel_work_sync(work)

    run(init)
    # While it was being cancelled it could not queue itself; afterwards it can be queued as before.
    assert log[-4:] == [True, False, "cancelled", True]


def test_cancelling_lets_the_flushers_go(run, log):
    def flusher(work):
        flush_work(work)
        log.append("flushed")

    def init():
        wq = alloc_ordered_workqueue("wq")
        blocker = Work(lambda work: msleep(5), name="blocker")
        work = Work(says(log, "never"))
        queue_work(wq, blocker)
        queue_work(wq, work)
        kthread_run(flusher, work)
        msleep(1)
        log.append(cancel_work(work))
        msleep(1)
        flush_workqueue(wq)

    run(init)
    assert log == [True, "flushed"]


def test_cancelling_an_active_work_makes_room_for_the_next(run, log):
    def init():
        wq = alloc_ordered_workqueue("wq")
        first, second = Work(says(log, "first")), Work(says(log, "second"))
        queue_work(wq, first)
        queue_work(wq, second)
        assert cancel_work(first)
        flush_workqueue(wq)
        assert wq.nr_active == 0

    run(init)
    assert log == ["second"]


def test_cancelling_an_inactive_work_makes_room_for_nobody(run, log):
    def init():
        wq = alloc_ordered_workqueue("wq")
        queue_work(wq, Work(lambda work: (msleep(5), log.append("first"))))
        second, third = Work(says(log, "second")), Work(says(log, "third"))
        queue_work(wq, second)
        queue_work(wq, third)
        msleep(1)
        assert cancel_work(second)
        assert wq.nr_active == 1
        flush_workqueue(wq)

    run(init)
    assert log == ["first", "third"]


def test_two_tasks_cancel_at_the_same_time(run, log):
    def canceller(work, name):
        log.append((name, cancel_work_sync(work)))
        log.append((name, schedule_work(work)))

    def init():
        work = Work(lambda work: msleep(5))
        schedule_work(work)
        msleep(1)
        schedule_work(work)
        for name in "ab":
            kthread_run(canceller, work, name)
        msleep(10)
        cancel_work_sync(work)

    run(init)
    # The first to come back still finds the other cancelling.
    assert log == [("a", True), ("a", False), ("b", False), ("b", True)]


def test_a_work_cannot_wait_for_itself(run, log):
    def fn(work):
        schedule_work(work)
        for wait in (flush_work, cancel_work_sync):
            with pytest.raises(KernelBug, match="wait for itself"):
                wait(work)
        for wait in (flush_workqueue, drain_workqueue, destroy_workqueue):
            with pytest.raises(KernelBug, match="wait for itself"):
                wait(current_kernel().workqueues.system_wq)
        log.append((work.canceling, cancel_work(work), schedule_work(work), cancel_work(work)))

    def init():
        work = Work(fn)
        schedule_work(work)
        flush_work(work)
        log.append(schedule_work(work))
        cancel_work(work)

    run(init)
    assert log == [(0, True, True, True), True]


def test_a_work_may_flush_and_cancel_others(run, log):
    def outer(work):
        schedule_work(inner)
        log.append(flush_work(inner))
        schedule_work(inner)
        log.append(cancel_work_sync(inner))

    inner: Work

    def init():
        nonlocal inner
        inner = Work(says(log, "inner"))
        work = Work(outer)
        schedule_work(work)
        flush_work(work)

    run(init)
    assert log == ["inner", True, True]


# -- draining and destroying


def test_rule_125_destroy_drains(run, log):
    """Works that queue more on the same queue are let through, however long the chain."""

    def chain(work):
        log.append(work.name)
        msleep(1)
        left = int(work.name)
        if left:
            assert queue_work(wq, Work(chain, name=str(left - 1)))

    wq = None

    def init():
        nonlocal wq
        wq = alloc_workqueue("wq")
        queue_work(wq, Work(chain, name="4"))
        destroy_workqueue(wq)
        log.append("destroyed")

    run(init)
    assert log == ["4", "3", "2", "1", "0", "destroyed"]


def test_a_draining_queue_takes_nothing_from_others(run, log):
    """A task, a work of another queue, and an interrupt handler that interrupts one of its own works."""

    def outsider(wq, who):
        stranger = Work(says(log, "never"))
        log.append((who, queue_work(wq, stranger), stranger.pending))

    def own(work):
        msleep(2)
        current_kernel().lkl_trigger_irq(irq)
        cpu_relax()
        log.append("ends")

    irq = 0

    def init():
        nonlocal irq
        wq = alloc_workqueue("wq")
        irq = current_kernel().lkl_get_free_irq("device")
        request_irq(irq, lambda irq: outsider(wq, "handler"), "device")
        queue_work(wq, Work(own))
        kthread_run(outsider, wq, "task")
        schedule_work(Work(lambda work: outsider(wq, "other queue")))
        drain_workqueue(wq)
        log.append("drained")
        log.append(queue_work(wq, Work(says(log, "as before"))))
        flush_workqueue(wq)
        assert "wq is being drained" in current_kernel().printk.text()

    run(init)
    refused = [(who, False, False) for who in ("task", "other queue", "handler")]
    assert log == [*refused, "ends", "drained", True, "as before"]


def test_a_destroyed_queue_takes_nothing_and_says_so(run, log):
    def init():
        wq = alloc_workqueue("gone")
        work, delayed = Work(says(log, "never")), DelayedWork(says(log, "never"))
        assert queue_delayed_work(wq, delayed, MS)
        destroy_workqueue(wq)
        assert not queue_work(wq, work)
        msleep(2)
        assert not work.pending
        assert not delayed.pending
        assert current_kernel().printk.text().count("WARNING: workqueue gone was destroyed") == 2
        destroy_workqueue(wq)
        assert schedule_work(work)
        flush_work(work)

    run(init)
    assert log == ["never"]


def test_drain_warns_of_works_that_never_stop_queueing(run):
    count = 0

    def endless(work):
        nonlocal count
        count += 1
        msleep(1)
        if count < 12:
            queue_work(work.wq, work)

    def init():
        wq = alloc_workqueue("wq")
        queue_work(wq, Work(endless))
        drain_workqueue(wq)
        assert "isn't complete after 10 tries" in current_kernel().printk.text()

    run(init)
    assert count == 12


# -- delayed works


def test_a_delayed_work_is_never_early(run, log):
    def init():
        start = ktime_get()
        dwork = DelayedWork(lambda work: log.append(ktime_get() - start >= 5 * MS))
        assert schedule_delayed_work(dwork, 5 * MS)
        assert not schedule_delayed_work(dwork, MS)
        assert not schedule_work(dwork)
        msleep(4)
        assert log == []
        assert dwork.pending
        msleep(2)

    run(init)
    assert log == [True]


def test_a_delay_of_0_is_no_delay(run, log):
    def init():
        dwork = DelayedWork(says(log, "runs"))
        queue_delayed_work(current_kernel().workqueues.system_wq, dwork, 0)
        assert not dwork.timer.pending
        flush_work(dwork)

    run(init)
    assert log == ["runs"]


def test_mod_delayed_work_is_true_if_it_was_pending(run, log):
    def init():
        wq = alloc_workqueue("wq")
        dwork = DelayedWork(lambda work: log.append(ktime_get() // MS))
        log.append(mod_delayed_work(wq, dwork, 3 * MS))
        log.append(mod_delayed_work(wq, dwork, 6 * MS))
        msleep(4)
        log.append(mod_delayed_work(wq, dwork, 6 * MS))
        msleep(7)
        log.append(mod_delayed_work(wq, dwork, 0))
        log.append(mod_delayed_work(wq, dwork, MS))
        msleep(2)

    run(init)
    assert log == [False, True, True, 10, False, True, 12]


def test_mod_delayed_work_does_nothing_while_it_is_being_cancelled(run, log):
    def canceller(dwork):
        log.append(cancel_delayed_work_sync(dwork))

    def init():
        wq = alloc_workqueue("wq")
        dwork = DelayedWork(lambda work: (log.append("begins"), msleep(5)))
        mod_delayed_work(wq, dwork, 0)
        kthread_run(canceller, dwork)
        msleep(1)
        log.append((mod_delayed_work(wq, dwork, 0), dwork.pending))
        msleep(10)

    run(init)
    assert log == ["begins", (False, False), False]


def test_cancel_delayed_work_stops_the_timer(run, log):
    def init():
        dwork = DelayedWork(says(log, "never"))
        assert not cancel_delayed_work(dwork)
        schedule_delayed_work(dwork, MS)
        assert cancel_delayed_work(dwork)
        schedule_delayed_work(dwork, MS)
        assert cancel_delayed_work_sync(dwork)
        assert not cancel_delayed_work_sync(dwork)
        msleep(2)
        assert len(current_kernel().timers) == 0

    run(init)
    assert log == []


def test_cancel_delayed_work_sync_ends_a_work_that_queues_itself_later(run, log):
    def tick(dwork):
        usleep(500)
        log.append(schedule_delayed_work(dwork, MS))

    def init():
        dwork = DelayedWork(tick)
        schedule_delayed_work(dwork, MS)
        msleep(4)
        assert cancel_delayed_work_sync(dwork)
        schedule_delayed_work(dwork, 0)
        yield_()
        assert not cancel_delayed_work_sync(dwork)
        msleep(5)

    run(init)
    assert log == [True, True, False]


def test_flush_delayed_work_does_not_wait_for_its_time(run, log):
    def init():
        dwork = DelayedWork(lambda work: log.append(ktime_get() < MS))
        assert not flush_delayed_work(dwork)
        schedule_delayed_work(dwork, 1000 * MS)
        assert not flush_work(dwork)
        assert flush_delayed_work(dwork)
        assert not dwork.timer.pending

    run(init)
    assert log == [True]


def test_delayed_works_of_one_moment_run_in_the_order_of_queueing(run, log):
    def init():
        wq = alloc_workqueue("wq")
        current_kernel().clock.read_cost_ns = 1
        for name in "abc":
            queue_delayed_work(wq, DelayedWork(says(log, name), name=name), MS)
        msleep(2)

    run(init)
    assert log == ["a", "b", "c"]


# -- errors


def test_an_exception_in_a_work_is_an_oops_of_its_worker(boot, log):
    def init():
        wq = alloc_ordered_workqueue("wq")
        bad, good = Work(fails, name="bad"), Work(says(log, "good"))
        for _ in range(3):
            queue_work(wq, bad)
            queue_work(wq, good)
            log.append(flush_work(bad))
            flush_workqueue(wq)
        log.append((wq.nr_active, workers(current_kernel())))

    def fails(work):
        log.append("bad")
        raise ZeroDivisionError("in a work")

    kernel = boot(init, on_oops="kill")
    kernel.run()
    assert log[:-1] == ["bad", True, "good"] * 3 or log[:-1] == ["bad", "good", True] * 3
    assert log[-1][0] == 0
    text = kernel.printk.text()
    assert text.count("Oops: kworker/0:") == 3
    assert text.count("Workqueue: wq bad") == 3
    assert kernel.printk.tainted == 3


def test_an_exception_in_a_work_panics_a_kernel_that_panics_on_oops(boot):
    def init():
        work = Work(lambda work: 1 // 0)
        schedule_work(work)
        flush_work(work)

    kernel = boot(init)
    with pytest.raises(KernelPanic, match="ZeroDivisionError in kworker/0:0") as caught:
        kernel.run()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_worker_that_dies_leaves_nobody_waiting(boot, log):
    """Flushers, cancellers, and the second queueing of the very work that killed it."""

    def fails(work):
        msleep(5)
        log.append("dies")
        raise RuntimeError("dies")

    def waiter(wait, argument, name):
        wait(argument)
        log.append(name)

    def init():
        wq = alloc_workqueue("wq")
        work = Work(fails)
        queue_work(wq, work)
        msleep(1)
        kthread_run(waiter, flush_work, work, "flushed once")
        msleep(1)
        queue_work(wq, work)
        msleep(1)
        assert work.pending
        kthread_run(waiter, flush_work, work, "flushed twice")
        kthread_run(waiter, flush_workqueue, wq, "flushed queue")
        msleep(20)
        queue_work(wq, work)
        msleep(1)
        cancel_work_sync(work)
        assert wq.nr_active == 0

    kernel = boot(init, on_oops="kill")
    kernel.run()
    assert log[:2] == ["dies", "flushed once"]
    assert log[2] == "dies"
    assert set(log[3:5]) == {"flushed twice", "flushed queue"}
    assert log[5:] == ["dies"]


def test_do_exit_in_a_work_ends_its_worker_and_no_other(run, log):
    def init():
        work, good = Work(lambda work: do_exit(3)), Work(says(log, "good"))
        schedule_work(work)
        schedule_work(good)
        log.append(flush_work(work))
        flush_work(good)
        log.append(workers(current_kernel()) > 0)

    run(init)
    assert sorted(map(str, log)) == ["True", "True", "good"]


@pytest.mark.parametrize("leak", ["spinlock", "mutex", "irqs"])
def test_a_work_that_keeps_what_it_took_is_named(boot, log, leak):
    def init():
        kernel = current_kernel()
        take = {
            "spinlock": SpinLock().lock,
            "mutex": Mutex().lock,
            "irqs": kernel.irq.local_irq_save,
        }[leak]
        leaky, good = Work(lambda work: take(), name="leaky"), Work(lambda work: (msleep(1), log.append("good")))
        schedule_work(leaky)
        schedule_work(good)
        flush_work(good)

    kernel = boot(init, on_oops="kill")
    kernel.run()
    assert log == ["good"]
    assert "BUG: workqueue leaked atomic or lock: leaky" in kernel.printk.text()


def test_a_work_that_forgets_to_reset_its_state_does_no_harm(run, log):
    def init():
        forgetful = Work(lambda work: set_current_state(TASK_INTERRUPTIBLE))
        work = Work(lambda work: (schedule(), log.append("runs")))
        for _ in range(2):
            schedule_work(work)
            schedule_work(forgetful)
            flush_work(forgetful)

    run(init)
    assert log == ["runs", "runs"]


def test_waiting_in_atomic_context_is_refused_and_does_no_harm(run, log):
    def init():
        work = Work(lambda work: (msleep(2), log.append("ends")))
        lock = SpinLock()
        schedule_work(work)
        msleep(1)
        with lock:
            for wait in (flush_work, cancel_work_sync):
                with pytest.raises(SchedulingWhileAtomic):
                    wait(work)
        assert work.canceling == 0
        log.append(schedule_work(work))
        flush_work(work)

    run(init)
    assert log == [True, "ends", "ends"]


def test_flushing_what_waits_behind_oneself_is_a_deadlock_with_names(boot):
    def outer(work):
        queue_work(work.wq, inner)
        flush_work(inner)

    inner: Work

    def init():
        nonlocal inner
        wq = alloc_ordered_workqueue("wq")
        inner = Work(lambda work: None, name="inner")
        queue_work(wq, Work(outer, name="outer"))
        flush_workqueue(wq)

    kernel = boot(init)
    with pytest.raises(Deadlock) as caught:
        kernel.run()
    assert "flush of work inner" in str(caught.value)
    assert "flush of workqueue wq" in str(caught.value)
    assert "in outer" in str(caught.value)


# -- halting in the middle


def test_halting_unwinds_running_works_and_drops_pending_ones(boot, log):
    def fn(work):
        try:
            msleep(1000)
        finally:
            log.append(f"{work.name} unwound")

    kernel = boot()
    wq = kernel.workqueues.alloc_workqueue("wq", max_active=2)
    works = [Work(fn, kernel=kernel, name=f"w{number}") for number in range(4)]
    for work in works:
        wq.queue_work(work)
    kernel.lkl_run()
    kernel.lkl_sys_halt()
    assert log == ["w0 unwound", "w1 unwound"]
    assert [work.worker for work in works] == [None] * 4


@pytest.mark.parametrize("after", range(0, 60, 3))
def test_halting_anywhere_does_not_hang(boot, after):
    """After each number of switches, with works that sleep, raise, queue themselves, and tasks that wait for them."""

    def sleeper(work):
        try:
            msleep(1)
            schedule_work(work)
        finally:
            cancel_work_sync(others[0])
            flush_work(others[1])

    def waiter():
        try:
            while True:
                for work in others:
                    schedule_work(work)
                    flush_work(work)
                flush_workqueue(current_kernel().workqueues.system_wq)
                cancel_work_sync(others[2])
        finally:
            for work in others:
                schedule_work(work)
                cancel_work_sync(work)

    others: list[Work] = []

    def init():
        others.extend(Work(lambda work: msleep(1), name=f"other{number}") for number in range(3))
        schedule_work(Work(sleeper))
        kthread_run(waiter, name="waiter")
        msleep(1000)

    kernel = boot(init)
    while after > 0 and not kernel.halted:
        status = kernel.lkl_run(max_switches=min(after, 7))
        after -= 7
        kernel.pause(status)
    kernel.lkl_sys_halt()
    assert kernel.halted


def test_a_work_that_always_queues_itself_does_not_starve_the_others(run, log):
    def fn(work):
        log.append("runs")
        if len(log) < 100_000:
            schedule_work(work)

    def init():
        work = Work(fn)
        schedule_work(work)
        yield_()
        for _ in range(3):
            yield_()
        cancel_work_sync(work)

    run(init)
    assert len(log) < 10_000


def test_a_work_that_swallows_its_end_does_not_stop_the_halt(boot, log):
    def stubborn(work):
        try:
            msleep(1000)
        except BaseException:
            log.append("swallowed")
        schedule_work(work)

    kernel = boot()
    kernel.workqueues.system_wq.queue_work(Work(stubborn, kernel=kernel))
    kernel.lkl_run()
    kernel.lkl_sys_halt()
    assert log == ["swallowed"]


def test_queueing_while_the_kernel_halts_is_harmless(boot, log):
    def init():
        work = Work(says(log, "never"))
        try:
            msleep(1000)
        finally:
            log.append(schedule_work(work))

    kernel = boot(init)
    kernel.lkl_run()
    kernel.lkl_sys_halt()
    assert log == [True]


def test_two_kernels_have_two_pools(boot, log):
    def init(name):
        work = Work(lambda work: (msleep(1), log.append((name, current().comm))))
        schedule_work(work)
        flush_work(work)

    one, two = boot(init, "one"), boot(init, "two")
    while not (one.halted and two.halted):
        for kernel in (one, two):
            if not kernel.halted:
                kernel.pause(kernel.lkl_run())
    assert log == [("one", "kworker/0:0"), ("two", "kworker/0:0")]


# -- looking inside


def test_an_idle_worker_keeps_no_work_alive(run):
    def init():
        work = Work(lambda work: None)
        alive = weakref.ref(work)
        schedule_work(work)
        flush_work(work)
        del work
        yield_()
        gc.collect()
        assert alive() is None

    run(init)


def test_reprs_and_reports_tell_states(run):
    def init():
        kernel = current_kernel()
        wq = alloc_workqueue("wq", max_active=1)
        go = Completion()
        work = Work(lambda work: go.wait_for_completion(), name="waits")
        assert repr(work) == "<Work waits idle>"
        queue_work(wq, work)
        assert repr(work) == "<Work waits pending on wq>"
        msleep(1)
        queue_work(wq, Work(lambda work: None))
        assert repr(work) == "<Work waits running in kworker/0:0-4>"
        assert repr(work.worker) == "<Worker kworker/0:0-4 runs waits of wq>"
        assert repr(wq).startswith("<Workqueue wq active=1/1 inactive=1 flushers: ")
        assert "1 workers, 0 idle, 0 works waiting" in repr(kernel.workqueues.pool)
        go.complete_all()
        flush_workqueue(wq)
        assert "work" in kernel.ps().split("kworker/0:0")[1]
        destroy_workqueue(wq)
        assert repr(wq).startswith("<Workqueue wq destroyed")

    run(init)


def test_scheduling_points_are_announced_before_they_happen(run, log):
    def init():
        kernel = current_kernel()
        work = Work(lambda work: None)
        kernel.sched.listener = lambda kind, what: log.append((kind, what.pending)) if what is work else None
        schedule_work(work)
        cancel_work(work)
        schedule_work(work)
        flush_work(work)
        kernel.sched.listener = None

    run(init)
    assert log == [("queue_work", False), ("cancel_work", True), ("queue_work", False), ("flush_work", True)]


def test_trace_has_names_and_no_addresses(parity):
    def blink(work):
        msleep(1)

    def init():
        work = Work(blink, name="led0")
        schedule_work(work)
        flush_work(work)

    lines = [line.split(": ", 1)[1] for line in parity(init).splitlines() if "workqueue_" in line]
    assert lines == [
        "workqueue_execute_start: work struct led0: function blink",
        "workqueue_execute_end: work struct led0: function blink",
    ]


def test_parity_of_a_program_with_everything(parity):
    def quick(work):
        pass

    def slow(work):
        msleep(2)

    def again(work):
        msleep(1)
        queue_work(work.wq, work)

    def fails(work):
        raise RuntimeError(work.name)

    def stress(wq, works):
        for work in works:
            queue_work(wq, work)
            yield_()
        flush_workqueue(wq)

    def init():
        kernel = current_kernel()
        queues = [alloc_workqueue("wide"), alloc_ordered_workqueue("ordered"), kernel.workqueues.system_wq]
        works = [Work(fn, name=f"{fn.__name__}{number}") for number in range(3) for fn in (quick, slow, fails)]
        looping = Work(again)
        delayed = [DelayedWork(quick, name=f"delayed{number}") for number in range(4)]
        irq = kernel.lkl_get_free_irq("device")
        request_irq(irq, lambda irq: schedule_work(works[0]), "device")
        for wq in queues:
            kthread_run(stress, wq, works, name=f"stress {wq.name}")
        queue_work(queues[0], looping)
        for number, dwork in enumerate(delayed):
            schedule_delayed_work(dwork, number * MS)
        for _ in range(5):
            kernel.lkl_trigger_irq(irq)
            msleep(1)
        mod_delayed_work(queues[1], delayed[3], 5 * MS)
        cancel_delayed_work_sync(delayed[2])
        cancel_work_sync(looping)
        for wq in queues[:2]:
            destroy_workqueue(wq)

    trace = parity(init, on_oops="kill")
    assert "function again" in trace
    assert "function fails" in trace
