"""Completions: rule 119, against a model, and through signals, time-outs and the end of the kernel."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkl_green import lkl_start_kernel
from lkl_green.compare.parity import CONFIGURATIONS
from lkl_green.linux import (
    SCHED_FIFO,
    SIGKILL,
    TASK_RUNNING,
    Completion,
    Timer,
    allow_signal,
    current,
    current_kernel,
    kernel_power_off,
    kthread_create,
    kthread_run,
    ktime_get,
    msleep,
    request_irq,
    sched_setscheduler,
    schedule,
    send_sig,
    wake_up_process,
)

if TYPE_CHECKING:
    from lkl_green.compare.parity import Configuration
    from lkl_green.linux import Task

MS = 1_000_000
FOR_EVER_NS = 10_000 * MS


def wait(done: Completion, name: Any, log: list[Any], kind: str = "plain") -> None:
    """Wait in one of the ways; what came of it goes into the log."""
    allow_signal(10)
    allow_signal(SIGKILL)
    try:
        match kind:
            case "plain":
                done.wait_for_completion()
            case "interruptible":
                done.wait_for_completion_interruptible()
            case "killable":
                done.wait_for_completion_killable()
            case "timeout":
                if not done.wait_for_completion_timeout(FOR_EVER_NS):
                    log.append((name, "timeout"))
                    return
        log.append((name, "done"))
    except InterruptedError:
        log.append((name, "interrupted"))
    finally:
        assert (current().state, current().waiting_for) == (TASK_RUNNING, None)


KINDS = ["plain", "interruptible", "killable", "timeout"]


# -- rule 119


def test_rule_119_complete_wakes_one_in_order_of_arrival(run, log):
    def init():
        done = Completion()
        for name in "abc":
            kthread_run(wait, done, name, log)
        msleep(1)
        for _ in range(3):
            done.complete()
            msleep(1)
            log.append("one")
        assert done.done == 0

    run(init)
    assert log == [("a", "done"), "one", ("b", "done"), "one", ("c", "done"), "one"]


def test_rule_119_complete_counts_what_nobody_waits_for_yet(run, log):
    def init():
        done = Completion()
        done.complete()
        done.complete()
        done.wait_for_completion()
        log.append(done.completion_done())
        done.wait_for_completion()
        log.append(done.completion_done())
        log.append(done.wait_for_completion_timeout(MS))

    run(init)
    assert log == [True, False, 0]


def test_rule_119_complete_all_is_sticky_until_reinit(run, log):
    def init():
        done = Completion()
        for name in "ab":
            kthread_run(wait, done, name, log)
        msleep(1)
        done.complete_all()
        msleep(1)
        for _ in range(5):
            done.wait_for_completion()
            assert done.try_wait_for_completion()
        done.complete()
        assert done.completion_done()
        done.reinit_completion()
        log.append((done.completion_done(), done.try_wait_for_completion(), done.wait_for_completion_timeout(MS)))

    run(init)
    assert log == [("a", "done"), ("b", "done"), (False, False, 0)]


def test_rule_119_a_timed_wait_returns_0_after_its_time_else_at_least_1(run, log):
    def init():
        done = Completion()
        begin = ktime_get()
        log.append(done.wait_for_completion_timeout(2 * MS))
        log.append(ktime_get() - begin >= 2 * MS)
        Timer(lambda timer: done.complete()).mod_timer_in(2 * MS)
        left = done.wait_for_completion_timeout(5 * MS)
        log.append(2.9 * MS < left < 3.1 * MS)
        done.complete()
        log.append(done.wait_for_completion_timeout(0))
        log.append(done.wait_for_completion_timeout(0))
        log.append(current_kernel().statistics().timers_pending)

    run(init)
    assert log == [0, True, True, 1, 0, 0]


def test_rule_119_try_wait_is_a_bool_and_never_sleeps(run, log):
    def init():
        done = Completion()
        kthread_run(log.append, "other")
        log.append(done.try_wait_for_completion())
        done.complete()
        log.append(done.try_wait_for_completion())
        log.append(done.try_wait_for_completion())

    run(init)
    assert log[:3] == [False, True, False]


def test_completing_from_an_interrupt_handler_a_timer_and_the_application(boot, log):
    def init():
        for _ in range(3):
            done[0].wait_for_completion()
            log.append("done")

    kernel = boot(init, open_ended=True)
    done = [Completion(kernel)]
    irq = kernel.lkl_get_free_irq("dev")
    kernel.irq.request_irq(irq, lambda irq: done[0].complete(), "dev")
    timer = Timer(lambda timer: done[0].complete(), kernel)
    kernel.lkl_run()
    assert log == []
    done[0].complete()
    kernel.lkl_run()
    assert log == ["done"]
    kernel.lkl_trigger_irq(irq)
    kernel.lkl_run()
    assert log == ["done", "done"]
    timer.mod_timer_in(MS)
    kernel.pause(kernel.lkl_run())
    kernel.lkl_run()
    assert log == ["done"] * 3


def test_what_was_given_is_not_taken_away_before_its_owner_runs(run, log):
    """Hand-over: nobody slips in between `complete()` and the waiter it was for."""

    def init():
        done = Completion()
        kthread_run(wait, done, "waiter", log)
        msleep(1)
        done.complete()
        log.append(done.try_wait_for_completion())
        msleep(1)

    run(init)
    assert log == [False, ("waiter", "done")]


def test_complete_all_serves_each_waiter_once_though_one_preempts_reinits_and_waits_again(run):
    def init():
        def again():
            while len(rounds) < 10:
                done.wait_for_completion()
                rounds.append(1)
                done.reinit_completion()

        rounds: list[int] = []
        done = Completion()
        task = kthread_create(again)
        sched_setscheduler(task, SCHED_FIFO, 10)
        wake_up_process(task)
        done.complete_all()
        return len(rounds)

    assert run(init) == 1


# -- leaving early


@pytest.mark.parametrize("sig", [10, SIGKILL])
@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_ends_the_waits_it_may_end_and_the_next_waiter_is_served(run, log, kind, sig):
    def init():
        done = Completion()
        first = kthread_run(wait, done, "first", log, kind)
        kthread_run(wait, done, "second", log)
        msleep(1)
        send_sig(sig, first)
        msleep(1)
        done.complete()
        msleep(1)
        done.complete()
        msleep(1)
        return done.done

    ended = kind == "interruptible" or (kind == "killable" and sig == SIGKILL)
    assert run(init) == (1 if ended else 0)
    assert log == [("first", "interrupted" if ended else "done"), ("second", "done")]


@pytest.mark.parametrize("kind", ["interruptible", "killable", "timeout"])
@pytest.mark.parametrize("order", ["served, then disturbed", "disturbed, then served"])
def test_nothing_is_lost_when_service_and_disturbance_meet(run, log, kind, order):
    """Both come before the waiter runs: it takes what it got, or leaves all of it to the next."""

    def init():
        done = Completion()
        first = kthread_run(wait, done, "first", log, kind)
        kthread_run(wait, done, "second", log)
        msleep(1)
        actions = [done.complete, lambda: (send_sig(SIGKILL, first), wake_up_process(first))]
        for action in actions if order.startswith("served") else reversed(actions):
            action()
        msleep(1)
        done.complete()
        msleep(1)
        return done.done

    left = run(init)
    assert [what for _, what in log].count("done") + left == 2


def test_a_completion_and_a_time_out_at_the_same_moment_count_as_completed_or_leave_it(run, log):
    def init():
        def timed(name):
            log.append((name, bool(done.wait_for_completion_timeout(end - current_kernel().clock.peek_ns()))))

        done = Completion()
        end = ktime_get() + 5 * MS
        for name in "ab":
            kthread_run(timed, name)
        schedule()
        timer = Timer(lambda timer: done.complete())
        timer.add_timer(end)
        msleep(10)
        log.append(done.done)

    run(init)
    served = sum(got for entry in log[:-1] for got in entry[1:])
    assert served + log[-1] == 1


def test_halting_unwinds_the_waiters_and_keeps_the_count(run, log):
    kept: list[Completion] = []

    def init():
        def victim(kind):
            try:
                wait(done, kind, [], kind)
            finally:
                log.append(kind)
                done.complete()

        done = Completion(name="doomed")
        kept.append(done)
        for kind in KINDS:
            kthread_run(victim, kind)
        msleep(1)
        kernel_power_off()

    run(init)
    assert log == KINDS
    assert kept[0].done == len(KINDS)
    assert "nobody" in repr(kept[0])


def test_repr_shows_count_and_waiters(run, log):
    def init():
        done = Completion(name="boot")
        task = kthread_run(wait, done, "w", [], name="waiter")
        msleep(1)
        log.append(repr(done))
        done.complete_all()
        msleep(1)
        log.append(repr(done))
        return task.pid

    pid = run(init)
    assert log == [
        f"<Completion boot done=0 waiters: waiter-{pid}>",
        "<Completion boot done=all waiters: nobody>",
    ]


# -- a model


class Model:
    """A count, a queue of (name, kind), and what each step lets happen, in order."""

    def __init__(self) -> None:
        self.count: float = 0
        self.queue: deque[tuple[int, str]] = deque()

    def wait(self, name: int, kind: str) -> list[tuple[int, str]]:
        if self.count:
            self.count -= 1
            return [(name, "done")]
        self.queue.append((name, kind))
        return []

    def complete(self) -> list[tuple[int, str]]:
        if self.queue:
            return [(self.queue.popleft()[0], "done")]
        self.count += 1
        return []

    def complete_all(self) -> list[tuple[int, str]]:
        self.count = float("inf")
        served = [(name, "done") for name, _ in self.queue]
        self.queue.clear()
        return served

    def leave(self, leavers: list[tuple[int, str]], why: str) -> list[tuple[int, str]]:
        for leaver in leavers:
            self.queue.remove(leaver)
        return [(name, why) for name, _ in leavers]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from(KINDS)),
        st.tuples(st.sampled_from(["complete", "complete_all", "reinit", "try_wait", "time_passes"]), st.none()),
        st.tuples(st.sampled_from(["signal", "kill", "spurious"]), st.integers(0, 20)),
    ),
    max_size=25,
)


def follow(steps: list[tuple[str, Any]]) -> None:
    """Do each step to a completion and to the model, and let everybody run: the same must happen."""
    done, model = Completion(), Model()
    log: list[Any] = []
    tasks: list[Task] = []
    for what, arg in steps:
        expected: list[Any] = []
        chosen = [entry for entry in model.queue if isinstance(arg, int) and entry[0] == arg % len(tasks)]
        match what:
            case "wait":
                expected = model.wait(len(tasks), arg)
                tasks.append(kthread_run(wait, done, len(tasks), log, arg))
            case "complete":
                expected = model.complete()
                done.complete()
            case "complete_all":
                expected = model.complete_all()
                done.complete_all()
            case "reinit":
                model.count = 0
                done.reinit_completion()
            case "try_wait":
                assert done.try_wait_for_completion() is bool(model.count)
                model.count -= bool(model.count)
            case "time_passes":
                expected = model.leave([entry for entry in model.queue if entry[1] == "timeout"], "timeout")
                msleep(2 * FOR_EVER_NS // MS)
            case "signal" if tasks:
                expected = model.leave([entry for entry in chosen if entry[1] == "interruptible"], "interrupted")
                send_sig(10, tasks[arg % len(tasks)])
            case "kill" if tasks:
                killable = [entry for entry in chosen if entry[1] in ("interruptible", "killable")]
                expected = model.leave(killable, "interrupted")
                send_sig(SIGKILL, tasks[arg % len(tasks)])
            case "spurious" if tasks:
                wake_up_process(tasks[arg % len(tasks)])
        msleep(1)
        assert log == expected
        log.clear()
        assert done.completion_done() is bool(model.count)


@pytest.mark.parametrize("where", CONFIGURATIONS, ids=lambda where: where.name)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps=STEPS)
def test_a_completion_follows_the_model(where: Configuration, steps: list[tuple[str, Any]]) -> None:
    options = {"host": where.host, "switch": where.switch, "clock": "virtual", "loglevel": 0}
    with lkl_start_kernel(follow, steps, **options) as kernel:
        kernel.run()


# -- parity


def test_completions_under_preemption_trace_the_same(parity):
    def init():
        def server(prio):
            for _ in range(8):
                request.wait_for_completion()
                msleep(0.1 * (prio % 3))
                reply.complete()

        kernel = current_kernel()
        request, reply = Completion(), Completion()
        irq = kernel.lkl_get_free_irq("dev")
        request_irq(irq, lambda irq: request.complete(), "dev")
        for prio in range(1, 5):
            task = kthread_create(server, prio, name="server")
            sched_setscheduler(task, SCHED_FIFO if prio % 2 else 0, prio)
            wake_up_process(task)
        for step in range(32):
            if step % 3:
                request.complete()
            else:
                kernel.lkl_trigger_irq(irq)
            assert reply.wait_for_completion_timeout(1000 * MS)

    assert parity(init).count("sched_switch") > 60
