"""Wait queues: rules 116 and 122, time-outs, signals, and what happens when somebody is taken down while waiting."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkl_green import lkl_start_kernel
from lkl_green.compare.parity import CONFIGURATIONS
from lkl_green.kernel.wait import WaitQueueHead as KernelWaitQueueHead
from lkl_green.linux import (
    SCHED_FIFO,
    SIGKILL,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    Mutex,
    WaitQueueHead,
    allow_signal,
    current,
    current_kernel,
    kernel_power_off,
    kthread_create,
    kthread_run,
    kthread_should_stop,
    kthread_stop,
    ktime_get,
    msleep,
    request_irq,
    sched_setscheduler,
    schedule,
    send_sig,
    wait_event,
    wait_event_interruptible,
    wait_event_timeout,
    wake_up,
    wake_up_all,
    wake_up_process,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.compare.parity import Configuration
    from lkl_green.linux import Task

MS = 1_000_000


def waiter(queue: WaitQueueHead, name: str, log: list[Any], exclusive: bool = False) -> None:
    """Sleep once, in queue, and say when that is over."""
    queue.prepare_to_wait(TASK_INTERRUPTIBLE, exclusive)
    schedule()
    queue.finish_wait()
    log.append(name)


def start_waiters(queue: WaitQueueHead, log: list[Any], *names: str) -> list[Task]:
    """Exclusive waiters have upper case names; all are asleep on return."""
    tasks = [kthread_run(waiter, queue, name, log, name.isupper(), name=name) for name in names]
    msleep(1)
    return tasks


# -- waiting for a condition


def test_a_condition_that_holds_is_not_waited_for(run, log):
    def init():
        kthread_run(lambda: log.append("other"))
        queue = WaitQueueHead()
        wait_event(queue, lambda: True)
        log.append((wait_event_timeout(queue, lambda: True, 5), wait_event_timeout(queue, lambda: True, 0)))
        assert not queue.waitqueue_active()

    run(init)
    assert log == [(5, 1)]


def test_rule_116_the_condition_is_tested_again_after_each_wake_up(run, log):
    def init():
        def consumer():
            wait_event(queue, lambda: log.append(len(box)) or len(box) >= 2)
            log.append("enough")

        queue, box = WaitQueueHead(), []
        task = kthread_run(consumer)
        msleep(1)
        for _ in range(2):
            box.append(1)
            wake_up(queue)
            msleep(1)
        wake_up_process(task)
        assert not queue.waitqueue_active()

    run(init)
    assert log == [0, 0, 1, 2, "enough"]


def test_rule_116_a_waker_that_comes_between_test_and_sleep_is_not_missed(run, log):
    """The condition itself wakes the queue: the waiter must be on it, with its state set, by then."""

    def init():
        queue = WaitQueueHead()
        tests = []

        def condition():
            tests.append(1)
            if len(tests) == 2:
                log.append(wake_up(queue))
            return len(tests) > 2

        wait_event(queue, condition)
        return len(tests)

    assert run(init) == 3
    assert log == [1]


def test_an_exception_in_the_condition_leaves_queue_and_task_clean(run):
    def init():
        def condition():
            if queue.waitqueue_active():
                raise ZeroDivisionError
            return False

        queue = WaitQueueHead()
        with pytest.raises(ZeroDivisionError):
            wait_event(queue, condition)
        schedule()
        return queue.waitqueue_active(), current().state, current().waiting_for

    assert run(init) == (False, TASK_RUNNING, None)


def test_a_condition_that_sleeps_itself_is_legal(run, log):
    """Linux warns of it; here the inner sleep ends the outer one early, which the loop makes good."""

    def init():
        def holder():
            with mutex:
                msleep(5)
                box.append(1)
            wake_up(queue)

        def condition():
            with mutex:
                return box

        queue, mutex, box = WaitQueueHead(), Mutex(), []
        kthread_run(holder)
        schedule()
        wait_event(queue, condition)
        log.append((box, queue.waitqueue_active(), mutex.is_locked()))

    run(init)
    assert log == [([1], False, False)]


# -- rule 122: who is woken


def test_rule_122_all_non_exclusive_waiters_and_one_exclusive(run, log):
    def init():
        queue = WaitQueueHead()
        start_waiters(queue, log, "A", "a", "B", "b", "C")
        log.append(wake_up(queue))
        msleep(1)
        log.append(wake_up(queue))
        msleep(1)
        log.append(wake_up_all(queue))
        msleep(1)
        log.append(wake_up_all(queue))

    run(init)
    assert log == [3, "a", "b", "A", 1, "B", 1, "C", 0]


def test_rule_122_exclusive_waiters_are_served_first_come_first_served(run, log):
    def init():
        queue = WaitQueueHead()
        start_waiters(queue, log, *"ABCDEF")
        assert queue.wake_up(nr_exclusive=2) == 2
        msleep(1)
        assert queue.wake_up(nr_exclusive=0) == 0
        assert queue.wake_up(nr_exclusive=10) == 4
        msleep(1)

    run(init)
    assert log == list("ABCDEF")


def test_rule_122_a_second_wake_up_before_the_first_woken_has_run_finds_the_next(run, log):
    def init():
        queue = WaitQueueHead()
        start_waiters(queue, log, *"ABC")
        assert [wake_up(queue), wake_up(queue), wake_up(queue), wake_up(queue)] == [1, 1, 1, 0]
        msleep(1)

    run(init)
    assert log == list("ABC")


def test_rule_122_a_waiter_that_is_awake_for_another_reason_uses_up_no_wake_up(run, log):
    def init():
        queue = WaitQueueHead()
        tasks = start_waiters(queue, log, *"ABC")
        assert wake_up_process(tasks[0])
        assert wake_up(queue) == 1
        msleep(1)
        assert wake_up(queue) == 1
        msleep(1)

    run(init)
    assert log == list("ABC")


def test_wake_up_interruptible_leaves_uninterruptible_sleepers_alone(run, log):
    def init():
        def sleeper(name, state):
            queue.prepare_to_wait(state, True)
            schedule()
            queue.finish_wait()
            log.append(name)

        queue = WaitQueueHead()
        kthread_run(sleeper, "uninterruptible", TASK_UNINTERRUPTIBLE)
        kthread_run(sleeper, "interruptible", TASK_INTERRUPTIBLE)
        msleep(1)
        assert queue.wake_up_interruptible() == 1
        msleep(1)
        assert queue.wake_up_interruptible() == 0
        log.append("then")
        assert wake_up(queue) == 1
        msleep(1)

    run(init)
    assert log == ["interruptible", "then", "uninterruptible"]


def test_waking_from_an_interrupt_handler(run, log):
    def init():
        kernel, queue = current_kernel(), WaitQueueHead()
        irq = kernel.lkl_get_free_irq("dev")
        request_irq(irq, lambda irq: log.append(wake_up(queue)), "dev")
        start_waiters(queue, log, "A", "b")
        kernel.lkl_trigger_irq(irq)
        msleep(1)

    run(init)
    assert log == [2, "b", "A"]


def test_a_task_on_two_queues_is_woken_by_either_and_leaves_both(run, log):
    """How poll() waits."""

    def init():
        def poller():
            for queue in queues:
                queue.prepare_to_wait(TASK_INTERRUPTIBLE)
            schedule()
            for queue in queues:
                queue.finish_wait()
            log.append([queue.waitqueue_active() for queue in queues])

        queues = [WaitQueueHead(), WaitQueueHead()]
        for queue in queues:
            kthread_run(poller)
            msleep(1)
            wake_up(queue)
            msleep(1)

    run(init)
    assert log == [[False, False]] * 2


def test_a_waiter_that_preempts_its_waker_and_waits_again_is_not_forgotten(run, log):
    """The waker must not take the second entry of the waiter off the queue for the first."""

    def init():
        def consumer():
            while len(log) < 5:
                wait_event(queue, lambda: box)
                log.append(box.pop())

        queue, box = WaitQueueHead(), []
        task = kthread_create(consumer)
        sched_setscheduler(task, SCHED_FIFO, 10)
        wake_up_process(task)
        for item in range(5):
            box.append(item)
            wake_up(queue)
        msleep(1)

    run(init)
    assert log == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("exclusive", [False, True])
def test_wake_up_all_wakes_each_waiter_once_though_they_preempt_and_wait_again(run, log, exclusive):
    def init():
        def rewaiter(name):
            while not kthread_should_stop():
                queue.prepare_to_wait(TASK_UNINTERRUPTIBLE, exclusive)
                schedule()
                queue.finish_wait()
                log.append(name)

        queue = WaitQueueHead()
        tasks = [kthread_create(rewaiter, name) for name in "ab"]
        for task in tasks:
            sched_setscheduler(task, SCHED_FIFO, 10)
            wake_up_process(task)
        log.append(wake_up_all(queue))
        log.append(wake_up_all(queue))
        for task in tasks:
            kthread_stop(task)

    run(init)
    assert log[:6] == ["a", "b", 2, "a", "b", 2]


# -- time-outs


def test_a_time_out_returns_0_not_before_its_time(run, log):
    def init():
        queue = WaitQueueHead()
        begin = ktime_get()
        log.append(wait_event_timeout(queue, lambda: False, 3 * MS))
        log.append(ktime_get() - begin >= 3 * MS)
        log.append((queue.waitqueue_active(), current_kernel().statistics().timers_pending))

    run(init)
    assert log == [0, True, (False, 0)]


def test_what_is_left_of_the_time_is_returned_and_wake_ups_do_not_prolong_it(run, log):
    def init():
        def waker():
            for _ in range(5):
                msleep(1)
                wake_up(queue)
            box.append(1)
            wake_up(queue)

        queue, box = WaitQueueHead(), []
        kthread_run(waker)
        left = wait_event_timeout(queue, lambda: box, 100 * MS)
        log.append(94 * MS < left < 96 * MS)
        log.append(wait_event_timeout(queue, lambda: False, MS))

    run(init)
    assert log == [True, 0]


def test_a_condition_that_holds_at_the_very_end_counts(run):
    def init():
        queue = WaitQueueHead()
        end = ktime_get() + MS
        return wait_event_timeout(queue, lambda: current_kernel().clock.peek_ns() >= end, MS)

    assert run(init) == 1


@pytest.mark.parametrize("timeout", [0, -1])
def test_no_time_at_all_does_not_sleep(run, log, timeout):
    def init():
        kthread_run(lambda: log.append("other"))
        log.append(wait_event_timeout(WaitQueueHead(), lambda: False, timeout))
        return current().state

    assert run(init) == TASK_RUNNING
    assert log == [0]


# -- signals


WAITS: dict[str, Callable[[WaitQueueHead, Callable[[], Any]], Any]] = {
    "uninterruptible": lambda queue, condition: queue.wait_event(condition),
    "interruptible": lambda queue, condition: queue.wait_event_interruptible(condition),
    "killable": lambda queue, condition: queue.wait_event_killable(condition),
    "timeout": lambda queue, condition: queue.wait_event_timeout(condition, 1000 * MS),
    "interruptible timeout": lambda queue, condition: queue.wait_event_interruptible_timeout(condition, 1000 * MS),
    "exclusive": lambda queue, condition: queue.wait_event(condition, exclusive=True),
    "interruptible exclusive": lambda queue, condition: queue.wait_event_interruptible(condition, exclusive=True),
}
ENDED_BY = {
    "interruptible": {10, SIGKILL},
    "killable": {SIGKILL},
    "interruptible timeout": {10, SIGKILL},
    "interruptible exclusive": {10, SIGKILL},
}


@pytest.mark.parametrize("sig", [10, SIGKILL])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("wait", WAITS)
def test_which_signal_ends_which_wait(run, log, wait, sig, before):
    """Sent while the task sleeps, or before it waits; the queue is empty either way."""

    def init():
        def victim():
            allow_signal(10)
            allow_signal(SIGKILL)
            if before:
                send_sig(sig, current())
            try:
                WAITS[wait](queue, lambda: box)
                log.append("condition")
            except InterruptedError as error:
                log.append(error.errno)
            log.append((current().state, current().waiting_for))

        queue, box = WaitQueueHead(), []
        task = kthread_run(victim)
        msleep(1)
        if not before:
            send_sig(sig, task)
            msleep(1)
        box.append(1)
        wake_up(queue)
        msleep(1)
        assert not queue.waitqueue_active()

    run(init)
    assert log == [errno.EINTR if sig in ENDED_BY.get(wait, ()) else "condition", (TASK_RUNNING, None)]


def test_signals_that_a_kernel_thread_did_not_allow_are_ignored(run, log):
    def init():
        queue, box = WaitQueueHead(), []
        task = kthread_run(lambda: (wait_event_interruptible(queue, lambda: box), log.append("condition")))
        msleep(1)
        send_sig(SIGKILL, task)
        msleep(1)
        log.append("still waiting")
        box.append(1)
        wake_up(queue)
        msleep(1)

    run(init)
    assert log == ["still waiting", "condition"]


def test_a_condition_that_holds_beats_a_signal_that_came_meanwhile(run, log):
    """An exclusive waiter that was chosen must take what it was chosen for, or nobody will."""

    def init():
        def victim():
            allow_signal(10)
            queue.wait_event_interruptible(lambda: box, exclusive=True)
            log.append(box.pop())

        queue, box = WaitQueueHead(), []
        task = kthread_run(victim)
        msleep(1)
        box.append("token")
        wake_up(queue)
        send_sig(10, task)
        msleep(1)

    run(init)
    assert log == ["token"]


@pytest.mark.parametrize("order", ["signal first", "wake-up first"])
def test_no_token_is_lost_when_the_first_of_two_exclusive_waiters_is_signalled(run, log, order):
    def init():
        def take(name):
            allow_signal(10)
            try:
                queue.wait_event_interruptible(lambda: box, exclusive=True)
                log.append((name, box.pop()))
            except InterruptedError:
                log.append((name, "interrupted"))

        queue, box = WaitQueueHead(), []
        first, _second = [kthread_run(take, name) for name in ("first", "second")]
        msleep(1)
        if order == "signal first":
            send_sig(10, first)
        box.append("token")
        wake_up(queue)
        if order == "wake-up first":
            send_sig(10, first)
        msleep(1)
        return box

    assert run(init) == []
    assert [what for _, what in log].count("token") == 1


# -- taken down


def test_halting_unwinds_waiters_and_empties_the_queue(run, log):
    queues = []

    def init():
        def victim(name, wait):
            try:
                WAITS[wait](queue, lambda: False)
            finally:
                log.append((name, current().state))

        queue = WaitQueueHead(name="doomed")
        queues.append(queue)
        for name, wait in enumerate(WAITS):
            kthread_run(victim, name, wait)
        msleep(1)
        kernel_power_off()

    run(init)
    assert sorted(log) == [(name, TASK_RUNNING) for name in range(len(WAITS))]
    assert not queues[0].waitqueue_active()


def test_waking_a_queue_whose_waiters_are_being_taken_down_wakes_nobody_twice(run, log):
    def init():
        def victim(name):
            try:
                wait_event(queue, lambda: False)
            finally:
                log.append((name, wake_up_all(queue)))

        queue = WaitQueueHead()
        for name in "abc":
            kthread_run(victim, name)
        msleep(1)

    run(init)
    assert log == [("a", 0), ("b", 0), ("c", 0)]


# -- the object


def test_repr_names_the_waiters(run, log):
    def init():
        queue = WaitQueueHead(name="tea")
        log.append(repr(queue))
        start_waiters(queue, [], "a", "B")
        log.append(repr(queue))

    run(init)
    assert log == ["<WaitQueueHead tea waiters: nobody>", "<WaitQueueHead tea waiters: a-4, B-5>"]


def test_outside_a_kernel_it_can_be_told_which(kernel):
    assert not KernelWaitQueueHead(kernel).waitqueue_active()


# -- a model


class Model:
    """Two lists; what a driver sees of a queue whose waiters sleep once each."""

    def __init__(self) -> None:
        self.waiters: list[str] = []
        self.exclusive: list[str] = []

    def wake_up(self, nr_exclusive: int) -> list[str]:
        woken = self.waiters + self.exclusive[:nr_exclusive]
        self.waiters, self.exclusive = [], self.exclusive[nr_exclusive:]
        return woken

    def wake(self, name: str) -> list[str]:
        for queue in (self.waiters, self.exclusive):
            if name in queue:
                queue.remove(name)
                return [name]
        return []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.booleans()),
        st.tuples(st.just("wake_up"), st.integers(0, 3)),
        st.tuples(st.just("wake_up_all"), st.none()),
        st.tuples(st.just("wake_up_process"), st.integers(0, 12)),
    ),
    max_size=25,
)


@pytest.mark.parametrize("where", CONFIGURATIONS, ids=lambda where: where.name)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps=STEPS)
def test_a_queue_follows_the_model(where: Configuration, steps: list[tuple[str, Any]]) -> None:
    def init():
        queue, model = WaitQueueHead(), Model()
        log: list[str] = []
        tasks: dict[str, Task] = {}
        for what, arg in steps:
            expected: list[str] = []
            match what:
                case "wait":
                    name = f"{'x' if arg else 'n'}{len(tasks)}"
                    (model.exclusive if arg else model.waiters).append(name)
                    tasks[name] = kthread_run(waiter, queue, name, log, arg)
                case "wake_up":
                    expected = model.wake_up(arg)
                    assert queue.wake_up(arg) == len(expected)
                case "wake_up_all":
                    expected = model.wake_up(len(model.exclusive))
                    assert wake_up_all(queue) == len(expected)
                case "wake_up_process":
                    name = list(tasks)[arg % len(tasks)] if tasks else ""
                    expected = model.wake(name)
                    if tasks:
                        assert wake_up_process(tasks[name]) is bool(expected)
            msleep(1)
            assert log == expected
            log.clear()
            assert queue.waitqueue_active() is bool(model.waiters or model.exclusive)

    with lkl_start_kernel(init, host=where.host, switch=where.switch, clock="virtual", loglevel=0) as kernel:
        kernel.run()


# -- parity


def test_waiting_with_time_outs_and_signals_traces_the_same(parity):
    def init():
        def consumer(exclusive):
            allow_signal(10)
            for _ in range(5):
                try:
                    queue.wait_event_interruptible(lambda: box, exclusive=exclusive)
                    box.pop()
                except InterruptedError:
                    current().signals = None
                wait_event_timeout(queue, lambda: len(box) > 2, MS)

        queue, box = WaitQueueHead(), []
        tasks = [kthread_run(consumer, n % 2, name="consumer") for n in range(6)]
        sched_setscheduler(tasks[2], SCHED_FIFO, 1)
        for step in range(60):
            box.append(step)
            wake_up(queue)
            send_sig(10, tasks[step % 6])
            if step % 7 == 0:
                msleep(1)

    assert parity(init).count("sched_switch") > 50
