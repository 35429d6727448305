"""Work queues against models, and under schedules in which anybody may come in anywhere (rule 125)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkl_green import lkl_start_kernel
from lkl_green.host.ops import LiveObjects
from lkl_green.linux import (
    SCHED_FIFO,
    Completion,
    DelayedWork,
    Work,
    alloc_ordered_workqueue,
    alloc_workqueue,
    cancel_delayed_work,
    cancel_delayed_work_sync,
    cancel_work,
    cancel_work_sync,
    current,
    current_kernel,
    destroy_workqueue,
    flush_delayed_work,
    flush_work,
    flush_workqueue,
    kthread_create,
    kthread_run,
    kthread_stop,
    mod_delayed_work,
    msleep,
    queue_delayed_work,
    queue_work,
    sched_setscheduler,
    usleep,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green import Kernel

MS = 1_000_000

# -- anybody may come in at an announced point

CALLS: dict[str, Callable[[DelayedWork], Any]] = {
    "queue": lambda dwork: queue_work(dwork.wq, dwork),
    "queue delayed": lambda dwork: queue_delayed_work(dwork.wq, dwork, MS),
    "modify": lambda dwork: mod_delayed_work(dwork.wq, dwork, 2 * MS),
    "modify to now": lambda dwork: mod_delayed_work(dwork.wq, dwork, 0),
    "cancel": cancel_delayed_work,
    "cancel and wait": cancel_delayed_work_sync,
    "flush": flush_work,
    "flush delayed": flush_delayed_work,
}


@pytest.mark.parametrize("at_first", ["idle", "delayed", "queued"])
@pytest.mark.parametrize("intruder", CALLS)
@pytest.mark.parametrize("call", CALLS)
def test_two_calls_for_one_work_keep_their_promises(call, intruder, at_first):
    """A task is preempted by another at the first point at which its call announces something, at the second, ..."""
    for point in range(4):
        if not intrude(call, intruder, at_first, point):
            break
    assert point > 0


def intrude(call: str, intruder: str, at_first: str, point: int) -> bool:
    """One such run; false if the call announces no such point."""
    runs: list[int] = []

    def init():
        kernel = current_kernel()
        wq = alloc_ordered_workqueue("wq")
        dwork = DelayedWork(lambda work: (usleep(100), runs.append(1)))
        dwork.wq = wq
        if at_first == "delayed":
            queue_delayed_work(wq, dwork, MS)
        elif at_first == "queued":
            queue_work(wq, Work(lambda work: usleep(50)))
            queue_work(wq, dwork)
        passed = 0

        def listener(kind, what):
            nonlocal passed
            if current() is me and not me.preempt_count:
                passed += 1
                if passed == point + 1:
                    kernel.sched.wake_up_process(other)

        me, done = current(), Completion()
        other = kthread_create(lambda: (CALLS[intruder](dwork), done.complete()))
        sched_setscheduler(other, SCHED_FIFO, 50)
        kernel.sched.listener = listener
        CALLS[call](dwork)
        kernel.sched.listener = None
        if passed <= point:
            kthread_stop(other)
            return False
        done.wait_for_completion()
        assert dwork.pending == (dwork.timer.pending or dwork.on_list is not None)
        if (call, at_first) == ("flush delayed", "delayed") and intruder.startswith("cancel"):
            assert not runs, "it ran after it had been cancelled"
        cancel_delayed_work_sync(dwork)
        assert (dwork.pending, dwork.timer.pending, dwork.on_list, dwork.worker) == (False, False, None, None)
        before = len(runs)
        msleep(5)
        assert len(runs) == before, "it ran after it had been cancelled"
        flush_workqueue(wq)
        assert wq.nr_active == 0
        return True

    kernel = lkl_start_kernel(init, clock="virtual", loglevel=0)
    intruded: bool = kernel.run()
    assert kernel.printk.tainted == 0
    return intruded


# -- against a model

STRESS = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

WORKS = st.integers(0, 3)
QUEUES = st.integers(0, 1)
OPERATIONS = st.one_of(
    *[st.tuples(st.just("queue"), QUEUES, WORKS)] * 3,
    st.tuples(st.just("cancel"), WORKS),
    st.tuples(st.just("cancel_sync"), WORKS),
    st.tuples(st.just("flush"), WORKS),
    st.tuples(st.just("flush_queue"), QUEUES),
    st.tuples(st.just("sleep")),
)


def run_once(configuration: dict[str, Any], init: Callable[[], Any]) -> Any:
    """Boot, run and halt one kernel."""
    kernel = lkl_start_kernel(init, clock="virtual", loglevel=0, **configuration)
    try:
        return kernel.run()
    finally:
        kernel.lkl_sys_halt()
        assert kernel.host.live() == LiveObjects()


def preempt_at_random(kernel: Kernel, seed: int, percent: int) -> None:
    """Preempt whoever reaches an announced scheduling point, every now and then."""

    def preempt(kind: str, what: object) -> None:
        task = kernel.sched.current
        if task is not kernel.sched.swapper and not task.preempt_count and chance.randrange(100) < percent:
            kernel.sched.preempt_schedule()

    chance = random.Random(seed)
    kernel.sched.listener = preempt


class Model:
    """What works that never sleep do: nothing until the driver sleeps, and then everything, in order."""

    def __init__(self, limits: tuple[int, ...], again: tuple[int, ...]) -> None:
        self.limits = limits
        self.again = list(again)  # how often each work queues itself
        self.ready: list[tuple[int, int]] = []  # (queue, work)
        self.inactive: list[list[int]] = [[] for _ in limits]
        self.active = [0] * len(limits)
        self.log: list[Any] = []

    def where(self, work: int) -> int | None:
        for wq, pending in [*self.ready, *((wq, w) for wq, works in enumerate(self.inactive) for w in works)]:
            if pending == work:
                return wq
        return None

    def queue(self, wq: int, work: int) -> bool:
        if self.where(work) is not None:
            return False
        if self.active[wq] < self.limits[wq]:
            self.active[wq] += 1
            self.ready.append((wq, work))
        else:
            self.inactive[wq].append(work)
        return True

    def gone(self, wq: int) -> None:
        self.active[wq] -= 1
        if self.inactive[wq]:
            self.active[wq] += 1
            self.ready.append((wq, self.inactive[wq].pop(0)))

    def cancel(self, work: int) -> bool:
        wq = self.where(work)
        if wq is None:
            return False
        if work in self.inactive[wq]:
            self.inactive[wq].remove(work)
        else:
            self.ready.remove((wq, work))
            self.gone(wq)
        return True

    cancel_sync = cancel

    def sleep(self) -> None:
        while self.ready:
            wq, work = self.ready.pop(0)
            self.log.append(work)
            if self.again[work]:
                self.again[work] -= 1
                self.queue(wq, work)
            self.gone(wq)

    def flush(self, work: int) -> bool:
        was_pending = self.where(work) is not None
        if was_pending:
            self.sleep()
        return was_pending

    def flush_queue(self, wq: int) -> None:
        if self.active[wq]:
            self.sleep()


@STRESS
@given(
    operations=st.lists(OPERATIONS, min_size=5, max_size=40),
    limits=st.tuples(*[st.integers(1, 3)] * 2),
    again=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_works_that_do_not_sleep_follow_the_model(configuration, operations, limits, again):
    log: list[Any] = []
    left = list(again)

    def fn(work):
        number = int(work.name)
        log.append(number)
        if left[number]:
            left[number] -= 1
            queue_work(work.wq, work)

    def init():
        queues = [alloc_workqueue(f"wq{number}", max_active=limit) for number, limit in enumerate(limits)]
        works = [Work(fn, name=str(number)) for number in range(4)]
        do = {
            "queue": lambda wq, work: queue_work(queues[wq], works[work]),
            "cancel": lambda work: cancel_work(works[work]),
            "cancel_sync": lambda work: cancel_work_sync(works[work]),
            "flush": lambda work: flush_work(works[work]),
            "flush_queue": lambda wq: flush_workqueue(queues[wq]),
            "sleep": lambda: msleep(1),
        }
        for name, *arguments in operations:
            log.append((name, do[name](*arguments), [wq.nr_active for wq in queues]))
        for wq in queues:
            destroy_workqueue(wq)

    model = Model(limits, again)
    for name, *arguments in operations:
        model.log.append((name, getattr(model, name)(*arguments), list(model.active)))
    model.sleep()
    run_once(configuration, init)
    assert log == model.log


@STRESS
@given(
    operations=st.lists(OPERATIONS, min_size=5, max_size=40),
    limits=st.tuples(*[st.integers(1, 3)] * 2),
    sleeps=st.tuples(*[st.integers(0, 3)] * 4),
    tasks=st.integers(1, 3),
    percent=st.sampled_from([0, 0, 20, 80]),
    seed=st.integers(0, 1000),
)
def test_works_that_sleep_keep_their_promises(configuration, operations, limits, sleeps, tasks, percent, seed):
    """Several tasks at once, which preempt each other, so that no order is predicted.

    What must hold in any order is checked at each step.
    """
    running: list[int] = []  # queue numbers
    inside: set[int] = set()
    queued, cancelled, ran = [0] * 4, [0] * 4, [0] * 4

    def fn(work):
        number, wq = int(work.name), int(work.wq.name)
        assert number not in inside, "re-entered"
        inside.add(number)
        running.append(wq)
        assert running.count(wq) <= limits[wq], "more than max_active"
        msleep(sleeps[number])
        running.remove(wq)
        inside.discard(number)
        ran[number] += 1

    def init():
        queues = [alloc_workqueue(str(number), max_active=limit) for number, limit in enumerate(limits)]
        works = [Work(fn, name=str(number)) for number in range(4)]

        def queue(wq, work):
            was_queued = queue_work(queues[wq], works[work])
            queued[work] += was_queued

        def cancel(work):
            was_pending = cancel_work(works[work])
            cancelled[work] += was_pending

        def cancel_sync(work):
            was_pending = cancel_work_sync(works[work])
            cancelled[work] += was_pending
            assert tasks > 1 or (not works[work].pending and work not in inside)

        def flush(work):
            before = queued[work] - cancelled[work]
            flush_work(works[work])
            if not percent:  # else a canceller may not have come to counting yet
                assert ran[work] + cancelled[work] >= before, "a queueing before the flush has not been executed"

        do = {
            "queue": queue,
            "cancel": cancel,
            "cancel_sync": cancel_sync,
            "flush": flush,
            "flush_queue": lambda wq: flush_workqueue(queues[wq]),
            "sleep": lambda: msleep(1),
        }

        done = Completion()

        def driver():
            for name, *arguments in operations:
                do[name](*arguments)
            done.complete()

        preempt_at_random(current_kernel(), seed, percent)
        for _ in range(tasks):
            kthread_run(driver, name="driver")
        for _ in range(tasks):
            done.wait_for_completion()
        for wq in queues:
            destroy_workqueue(wq)
            assert wq.nr_active == 0
        assert [work.pending for work in works] == [False] * 4

    run_once(configuration, init)
    assert [a + b for a, b in zip(ran, cancelled, strict=True)] == queued
    assert not inside
