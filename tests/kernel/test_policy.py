"""Scheduling policies: the default against a model, and policies of one's own in all configurations."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkl_green import FixedPriority, RunUntil, SchedulingPolicy
from lkl_green.compare.parity import CONFIGURATIONS, run_traced
from lkl_green.kernel.task import MAX_RT_PRIO, SCHED_FIFO, SCHED_NORMAL, SCHED_RR, Task
from lkl_green.linux import (
    Completion,
    Mutex,
    Semaphore,
    WaitQueueHead,
    cond_resched,
    current_kernel,
    kthread_create,
    kthread_run,
    msleep,
    request_irq,
    sched_setscheduler,
    schedule,
    wait_event,
    wake_up,
    wake_up_process,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.sched import Scheduler


# -- policies of one's own


class Lifo(SchedulingPolicy):
    """Whoever became runnable last runs first."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    @property
    def nr_running(self) -> int:
        return len(self.tasks)

    def enqueue_task(self, task: Task, preempted: bool = False) -> None:
        assert task not in self.tasks, "queued twice"
        self.tasks.append(task)

    def dequeue_task(self, task: Task) -> bool:
        if task not in self.tasks:
            return False
        self.tasks.remove(task)
        return True

    def pick_next_task(self) -> Task | None:
        return self.tasks.pop() if self.tasks else None


class Seeded(Lifo):
    """Anybody, by a generator of its own."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)

    def pick_next_task(self) -> Task | None:
        return self.tasks.pop(self.random.randrange(len(self.tasks))) if self.tasks else None

    def task_tick(self, task: Task) -> None:
        task.need_resched = bool(self.tasks) and self.random.random() < 0.5


class ByPid(Lifo):
    """The lowest pid first."""

    def pick_next_task(self) -> Task | None:
        return self.tasks.pop(self.tasks.index(min(self.tasks, key=lambda task: task.pid))) if self.tasks else None


class PassedOn(SchedulingPolicy):
    """The default policy, asked each time: it shows nothing to the scheduler."""

    def __init__(self) -> None:
        self.inner = FixedPriority()

    @property
    def nr_running(self) -> int:
        return self.inner.nr_running

    def enqueue_task(self, task: Task, preempted: bool = False) -> None:
        self.inner.enqueue_task(task, preempted)

    def dequeue_task(self, task: Task) -> bool:
        return self.inner.dequeue_task(task)

    def pick_next_task(self) -> Task | None:
        return self.inner.pick_next_task()

    def task_tick(self, task: Task) -> None:
        self.inner.task_tick(task)


POLICIES: dict[str, Callable[[], SchedulingPolicy]] = {
    "default": FixedPriority,
    "passed on": PassedOn,
    "lifo": Lifo,
    "by pid": ByPid,
    "seed 1": lambda: Seeded(1),
    "seed 2": lambda: Seeded(2),
    "seed 3": lambda: Seeded(3),
}


def story() -> list[Any]:
    """Producers, consumers, a mutex, a wait queue, interrupts, sleeps, real-time tasks; the result is what happened."""

    def producer(name: str) -> None:
        for step in range(4):
            with mutex:
                items.append((name, step))
                cond_resched()
            filled.up()
            if step % 2:
                msleep(1)
        finished.up()

    def consumer() -> None:
        for _ in range(4):
            filled.down()
            with mutex:
                log.append(items.pop(0))
            for _ in range(300):
                cond_resched()
            wake_up(queue)
        finished.up()

    def watcher() -> None:
        wait_event(queue, lambda: len(log) >= 4)
        log.append("half")
        kernel.lkl_trigger_irq(irq)
        done.wait_for_completion()
        log.append("interrupt")
        finished.up()

    def yielder() -> None:
        for _ in range(10):
            schedule()
        finished.up()

    log: list[Any] = []
    items: list[Any] = []
    kernel = current_kernel()
    mutex, filled, finished, queue, done = Mutex(), Semaphore(0), Semaphore(0), WaitQueueHead(), Completion()
    irq = kernel.lkl_get_free_irq("dev")
    request_irq(irq, lambda irq: done.complete(), "dev")
    tasks = [kthread_create(producer, name, name="producer") for name in "ab"]
    tasks += [kthread_create(consumer, name="consumer") for _ in range(2)]
    tasks += [kthread_create(watcher, name="watcher"), kthread_create(yielder, name="yielder")]
    sched_setscheduler(tasks[1], SCHED_FIFO, 3)
    sched_setscheduler(tasks[3], SCHED_RR, 3)
    for task in tasks:
        wake_up_process(task)
    for _ in tasks:
        finished.down()
    return log


@pytest.mark.parametrize("name", POLICIES)
def test_each_policy_traces_the_same_in_all_configurations(name):
    runs = [run_traced(configuration, story, policy=POLICIES[name]()) for configuration in CONFIGURATIONS]
    assert [run.error for run in runs] == [None] * 3
    assert runs[0].result == runs[1].result == runs[2].result
    assert runs[0].trace.splitlines() == runs[1].trace.splitlines() == runs[2].trace.splitlines()


def test_each_policy_gives_a_correct_run_and_not_all_the_same(run):
    results = {name: run(story, policy=policy()) for name, policy in POLICIES.items()}
    for result in results.values():
        assert sorted(item for item in result if item not in ("half", "interrupt")) == [
            (name, step) for name in "ab" for step in range(4)
        ]
        assert result.index("half") < result.index("interrupt")
    assert results["default"] == results["passed on"]
    assert len({str(result) for result in results.values()}) >= 2


def test_a_seed_repeats_its_run(boot):
    def traced(seed: int) -> list[Any]:
        kernel = boot(story, policy=Seeded(seed), trace=True)
        kernel.run()
        return list(kernel.sched.trace.records)

    assert traced(5) == traced(5)
    assert traced(5) != traced(6)


def test_the_default_policy_runs_the_same_with_and_without_its_short_cut(boot):
    """`fifo` is a short cut of the scheduler, not another policy. Only the idle task's need_resched is not kept."""

    def traced(policy: SchedulingPolicy) -> list[Any]:
        kernel = boot(story, policy=policy, trace=True)
        kernel.run()
        return [record._replace(need_resched=False) for record in kernel.sched.trace.records]

    assert traced(FixedPriority()) == traced(PassedOn())


def test_lifo_runs_the_last_one_first(run, log):
    def init():
        for task in [kthread_create(log.append, name) for name in "abc"]:
            wake_up_process(task)
        msleep(1)

    run(init, policy=Lifo())
    assert log == ["c", "b", "a"]


def test_under_lifo_schedule_comes_straight_back(run, log):
    """Who gives up the CPU became runnable last, so that nobody else gets it: sleeping is the only way."""

    def init():
        task = kthread_create(log.append, "other")
        wake_up_process(task)
        for _ in range(1000):
            schedule()
        log.append("init")
        msleep(1)

    run(init, policy=Lifo())
    assert log == ["init", "other"]


def test_any_policy_can_be_stepped_through(boot):
    kernel = boot(story, policy=Seeded(7))
    while not kernel.halted:
        kernel.pause(kernel.lkl_run(RunUntil.SWITCH))
    assert len(kernel.init_result) == 10


class Recorder(FixedPriority):
    """What a policy is told."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def attach(self, sched: Scheduler) -> None:
        """It shows nothing, so that it is asked each time."""

    def enqueue_task(self, task: Task, preempted: bool = False) -> None:
        self.calls.append(("enqueue", task.comm, preempted))
        super().enqueue_task(task, preempted)

    def task_tick(self, task: Task) -> None:
        self.calls.append(("tick", task.comm))
        super().task_tick(task)


def test_a_policy_is_told_who_was_preempted_and_when_a_time_slice_has_passed(run):
    recorder = Recorder()

    def init():
        msleep(1)
        kthread_run(lambda: None, name="other")
        recorder.calls.clear()
        for _ in range(600):
            cond_resched()
        schedule()
        return recorder.calls[:]

    calls = run(init, policy=recorder)
    assert calls[:2] == [("tick", "init"), ("enqueue", "init", True)]
    assert 2 <= calls.count(("tick", "init")) <= 3
    assert calls.count(("enqueue", "init", True)) == 1


def test_one_policy_object_serves_one_kernel(boot):
    policy = FixedPriority()
    boot(policy=policy)
    with pytest.raises(ValueError, match="give each kernel its own"):
        boot(policy=policy)


# -- the default against a model


def queued_task(policy: int, rt_priority: int) -> Task:
    task = Task(1, "model", None)
    task.policy = policy
    task.prio = 120 if policy == SCHED_NORMAL else MAX_RT_PRIO - 1 - rt_priority
    return task


class Model:
    """A list of tasks in the order in which they will run, and whether the queue of normal ones may be shown."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.shown = True

    def enqueue(self, task: Task, preempted: bool, ticked: bool) -> None:
        expired = ticked and task.policy != SCHED_FIFO and any(other.prio == task.prio for other in self.tasks)
        first = preempted and not expired
        place = [other.prio < task.prio if first else other.prio <= task.prio for other in self.tasks]
        self.tasks.insert(place.index(False) if False in place else len(place), task)
        self.shown = self.shown and task.policy == SCHED_NORMAL

    def pick(self) -> Task | None:
        task = self.tasks.pop(0) if self.tasks else None
        self.shown = task is None or task.policy == SCHED_NORMAL
        return task


OPERATIONS = st.one_of(
    st.tuples(
        st.just("enqueue"),
        st.sampled_from([SCHED_NORMAL, SCHED_FIFO, SCHED_RR]),
        st.sampled_from([1, 2, 50, 99]),
        st.booleans(),
        st.booleans(),
    ),
    st.tuples(st.just("pick")),
    st.tuples(st.just("dequeue"), st.integers(0, 20)),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(OPERATIONS, max_size=40))
def test_the_default_policy_is_a_total_order(operations):
    class Scheduler:
        fifo: Any = None

    policy, model, sched = FixedPriority(), Model(), Scheduler()
    policy.attach(sched)  # type: ignore[arg-type]
    for operation in operations:
        match operation:
            case ("enqueue", kind, prio, preempted, ticked):
                task = queued_task(kind, prio)
                model.enqueue(task, preempted, ticked)
                if ticked:
                    policy.task_tick(task)
                policy.enqueue_task(task, preempted)
            case ("pick",):
                assert policy.pick_next_task() is model.pick()
            case ("dequeue", index):
                queued = index < len(model.tasks)
                task = model.tasks.pop(index) if queued else queued_task(SCHED_NORMAL, 0)
                assert policy.dequeue_task(task) is queued
        assert policy.nr_running == len(model.tasks)
        assert (sched.fifo is not None) is model.shown
        if model.shown:
            assert list(sched.fifo) == model.tasks
    while model.tasks:
        assert policy.pick_next_task() is model.tasks.pop(0)
    assert policy.pick_next_task() is None
