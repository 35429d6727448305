"""Kernel threads on request: creating, stopping, parking: rules 95 to 106."""

from __future__ import annotations

import errno

import pytest

from lkl_green import Deadlock, KernelBug
from lkl_green.errors import SchedulingWhileAtomic
from lkl_green.kernel.task import PF_KTHREAD, TASK_IDLE, TASK_PARKED
from lkl_green.kernel.taskend import Stoppable, TaskEnd
from lkl_green.linux import (
    SCHED_FIFO,
    SIGKILL,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    Completion,
    allow_signal,
    current,
    current_kernel,
    do_exit,
    flush_signals,
    kernel_thread,
    kthread_create,
    kthread_create_worker,
    kthread_park,
    kthread_parkme,
    kthread_run,
    kthread_should_park,
    kthread_should_stop,
    kthread_stop,
    kthread_unpark,
    local_irq_disable,
    local_irq_enable,
    msleep,
    preempt_disable,
    preempt_enable,
    request_irq,
    sched_setscheduler,
    schedule,
    send_sig,
    set_current_state,
    signal_pending,
    wake_up_process,
)


def sleep_until_stopped():
    """The loop of kthread_should_stop()'s documentation."""
    while True:
        set_current_state(TASK_INTERRUPTIBLE)
        if kthread_should_stop():
            break
        schedule()
    set_current_state(TASK_RUNNING)


def sleep_park_and_stop(log, name):
    """A thread that parks when asked, and stops when asked."""
    log.append(f"{name} starts")
    while not kthread_should_stop():
        if kthread_should_park():
            log.append(f"{name} parks")
            kthread_parkme()
            log.append(f"{name} goes on")
            continue
        set_current_state(TASK_INTERRUPTIBLE)
        if not kthread_should_stop() and not kthread_should_park():
            schedule()
        set_current_state(TASK_RUNNING)
    log.append(f"{name} stops")
    return name


# -- rule 95: creating


def test_rule_95_a_created_thread_sleeps_uninterruptibly_and_has_not_run_its_function(run, log):
    def init():
        task = kthread_create(log.append, "ran", name="new")
        msleep(10)
        log.append((task.state == TASK_UNINTERRUPTIBLE, bool(task.flags & PF_KTHREAD)))
        log.append(wake_up_process(task))
        schedule()

    run(init)
    assert log == [(True, True), True, "ran"]


def test_rule_95_the_child_is_kthreadds(run):
    def init():
        task = kthread_create(print, name="new")
        return task.parent is current_kernel().kthreads.kthreadd, task.parent.pid

    assert run(init) == (True, 2)


def test_rule_95_kthread_run_is_create_and_wake(run, log):
    def init():
        kthread_run(log.append, "ran", name="new")
        log.append("created")
        schedule()

    run(init)
    assert log == ["created", "ran"]


def test_rule_95_requests_are_served_in_the_order_they_came(run, log):
    def creator(name):
        log.append((name, kthread_create(print, name=name).pid))

    def init():
        creators = [kthread_create(creator, f"c{number}", name="creator") for number in range(3)]
        for task in creators:
            wake_up_process(task)
        msleep(1)

    run(init)
    assert log == [("c0", 7), ("c1", 8), ("c2", 9)]


def test_rule_95_a_fork_that_fails_is_the_creators_error(run, log):
    def init():
        kernel = current_kernel()
        kernel.pids.limit = 4
        with pytest.raises(OSError, match="no free pid") as caught:
            kthread_create(print, name="new")
        log.append(caught.value.errno)
        with pytest.raises(OSError, match="no free pid"):
            kthread_run(print, name="new")
        kernel.pids.limit = 5
        log.append(kthread_create(print, name="new").pid)

    run(init)
    assert log == [errno.EAGAIN, 4]


# -- rule 96: names


@pytest.mark.parametrize(
    ("name", "args", "comm"),
    [
        ("plain", (), "plain"),
        ("migration/%d", (3,), "migration/3"),
        ("%s/%d", ("irq", 7, "not in the name"), "irq/7"),
        ("100%%", (3,), "100%"),
        ("exactly15-chars", (), "exactly15-chars"),
        ("one-more-than-15", (), "one-more-than-1"),
        ("kworker/%d:a-long-name", (12,), "kworker/12:a-lo"),
    ],
)
def test_rule_96_the_name_is_printf_formatted_and_cut_to_15_characters(run, name, args, comm):
    def init():
        return kthread_create(lambda *args: None, *args, name=name).comm

    assert run(init) == comm


# -- rule 97: stopping


def test_rule_97_stop_wakes_the_thread_waits_for_it_and_gives_its_result(run, log):
    def work():
        log.append("sleeps")
        sleep_until_stopped()
        msleep(5)
        log.append("stops")
        return 42

    def init():
        task = kthread_run(work, name="worker")
        msleep(1)
        log.append(kthread_stop(task))
        log.append(task.pid in current_kernel().pids.tasks)

    run(init)
    assert log == ["sleeps", "stops", 42, False]


def test_rule_97_a_thread_that_was_never_woken_never_runs_its_function(run, log):
    def init():
        task = kthread_create(log.append, "ran", name="never")
        log.append(kthread_stop(task))
        log.append(task.pid in current_kernel().pids.tasks)

    run(init)
    assert log == [-errno.EINTR, False]


def test_rule_97_nor_does_one_that_was_woken_but_did_not_get_to_run(run, log):
    def init():
        log.append(kthread_stop(kthread_run(log.append, "ran", name="late")))

    run(init)
    assert log == [-errno.EINTR]


def test_rule_97_two_may_wait_for_one_end(run, log):
    def work():
        sleep_until_stopped()
        msleep(5)
        return "result"

    def stopper(task, name):
        log.append((name, kthread_stop(task)))

    def init():
        task = kthread_run(work, name="worker")
        schedule()
        for name in ("a", "b"):
            kthread_run(stopper, task, name, name=name)
        msleep(10)

    run(init)
    assert log == [("a", "result"), ("b", "result")]


def test_rule_97_a_thread_that_does_not_listen_keeps_the_stopper_waiting(run):
    def deaf():
        Completion(name="never").wait_for_completion()

    def init():
        task = kthread_run(deaf, name="deaf")
        schedule()
        kthread_stop(task)

    with pytest.raises(Deadlock, match=r"task deaf-4[^$]*never"):
        run(init)


# -- rule 98: exit codes


@pytest.mark.parametrize("result", [0, None, 5, -errno.EIO, "any object"])
def test_rule_98_the_result_of_the_function_is_the_exit_code(run, result):
    def init():
        task = kthread_run(lambda: result, name="worker")
        msleep(1)
        return task.exit_code, kthread_stop(task)

    assert run(init) == (result, result)


def test_rule_98_do_exit_inside_the_function_gives_that_code(run, log):
    def work():
        try:
            do_exit(7)
        finally:
            log.append("finally")

    def init():
        task = kthread_run(work, name="worker")
        msleep(1)
        return kthread_stop(task)

    assert run(init) == 7
    assert log == ["finally"]


def test_rule_98_a_thread_that_ended_by_itself_can_be_stopped_as_often_as_one_likes(run):
    """Whoever holds the task holds a reference to it; in C that would be get_task_struct()."""

    def init():
        task = kthread_run(lambda: 5, name="worker")
        msleep(1)
        return task.pid in current_kernel().pids.tasks, kthread_stop(task), kthread_stop(task)

    assert run(init) == (False, 5, 5)


def test_rule_98_an_oops_is_an_exit_code_too(run):
    def work():
        raise ValueError("on purpose")

    def init():
        task = kthread_run(work, name="worker")
        msleep(1)
        return kthread_stop(task)

    assert run(init, on_oops="kill") == -errno.EFAULT


# -- rule 99: a creator that is killed


def test_rule_99_a_creator_that_is_killed_gets_eintr_and_no_thread_is_made(run, log):
    def creator():
        sched_setscheduler(current(), SCHED_FIFO, 50)
        allow_signal(SIGKILL)
        try:
            kthread_create(log.append, "ran", name="orphan")
        except InterruptedError as error:
            log.append((current().comm, error.errno))
            flush_signals()

    def killer(victim):
        sched_setscheduler(current(), SCHED_FIFO, 40)  # more important than kthreadd, which has a request now
        log.append("kill")
        send_sig(SIGKILL, victim)

    def init():
        victim = kthread_create(creator, name="creator")
        other = kthread_create(killer, victim, name="killer")
        wake_up_process(victim)
        wake_up_process(other)
        msleep(5)
        log.append([task.comm for task in current_kernel().pids])
        log.append(kthread_create(print, name="next").pid)

    run(init)
    assert log == ["kill", ("creator", errno.EINTR), ["init", "kthreadd", "ksoftirqd/0"], 6]


def test_rule_99_a_thread_that_was_made_already_is_the_creators_in_spite_of_the_signal(run, log):
    """The signal came second: what Linux's kthread_create() does when it finds `done` taken."""

    def creator():
        allow_signal(SIGKILL)
        log.append((kthread_create(print, name="mine").comm, signal_pending()))

    def killer(victim):
        schedule()  # kthreadd serves the request meanwhile
        log.append(("kill", max(current_kernel().pids.tasks)))
        send_sig(SIGKILL, victim)

    def init():
        victim = kthread_create(creator, name="creator")
        other = kthread_create(killer, victim, name="killer")
        wake_up_process(victim)
        wake_up_process(other)
        msleep(5)

    run(init)
    assert log == [("kill", 6), ("mine", True)]


@pytest.mark.parametrize("turns", [1, 2], ids=["before kthreadd has made it", "after kthreadd has made it"])
def test_rule_99_a_creator_that_is_taken_down_leaves_no_thread(run, log, turns):
    """TaskKilled, which ends the tasks of cancelled calls, is not a signal: the creator never gets the thread."""

    def creator():
        kthread_run(log.append, "ran", name="child")

    def init():
        kernel = current_kernel()
        task = kthread_run(creator, name="creator")
        for _ in range(turns):
            schedule()
        names = [task.comm for task in kernel.pids]
        kernel.exits.take_down(task)
        msleep(1)
        log.append(("child" in names, "child" in [task.comm for task in kernel.pids]))
        kthread_run(log.append, "kthreadd goes on")
        msleep(1)

    run(init)
    assert log == [(turns == 2, False), "kthreadd goes on"]


def test_rule_99_a_creator_that_must_not_sleep_leaves_no_request(run, log):
    def init():
        preempt_disable()
        with pytest.raises(SchedulingWhileAtomic, match="preemption is disabled"):
            kthread_run(log.append, "ran", name="child")
        preempt_enable()
        msleep(1)
        return [task.comm for task in current_kernel().pids]

    assert run(init) == ["init", "kthreadd", "ksoftirqd/0"]
    assert log == []


class GivesUp(Exception):
    """Raised by a listener, in place of whatever can be raised at a scheduling point."""


@pytest.mark.parametrize("create", [kthread_run, lambda fn, *_, name: kthread_create_worker(name)])
def test_rule_99_a_creator_that_ends_before_the_first_wake_up_leaves_no_thread(run, log, create):
    def init():
        kernel = current_kernel()

        def listener(kind, task):
            if kind == "wake":
                raise GivesUp

        kernel.sched.listener = listener
        try:
            with pytest.raises(GivesUp):
                create(log.append, "ran", name="child")
        finally:
            kernel.sched.listener = None
        msleep(1)
        return [task.comm for task in kernel.pids]

    assert run(init) == ["init", "kthreadd", "ksoftirqd/0"]
    assert log == []


# -- rule 100: the flags belong to the current kthread


def test_rule_100_the_flags_are_those_of_the_thread_that_asks(run, log):
    def work(name, gate):
        gate.wait_for_completion()
        log.append((name, kthread_should_stop(), kthread_should_park()))

    def init():
        gate = Completion()
        stopped = kthread_run(work, "stopped", gate, name="a")
        kthread_run(work, "other", gate, name="b")
        schedule()
        gate.complete_all()
        kthread_stop(stopped)
        msleep(1)

    run(init)
    assert log == [("stopped", True, False), ("other", False, False)]


@pytest.mark.parametrize("ask", [kthread_should_stop, kthread_should_park])
def test_rule_100_outside_of_a_kthread_asking_is_a_warning(run, log, ask):
    def init():
        kernel = current_kernel()
        log.append((ask(), kernel.printk.tainted))
        kernel_thread(lambda _: log.append((ask(), kernel.printk.tainted)) or do_exit(0))
        schedule()
        return f"{ask.__name__}() in" in kernel.printk.text()

    assert run(init) is True
    assert log == [(False, 1), (False, 2)]


@pytest.mark.parametrize("call", [kthread_stop, kthread_park, kthread_unpark])
def test_rule_100_what_is_no_kthread_cannot_be_stopped_or_parked(run, log, call):
    def init():
        with pytest.raises(KernelBug, match="was not made by kthread_create"):
            call(current())
        log.append("refused")

    run(init)
    assert log == ["refused"]


# -- threads made without kthreadd


class Reported(TaskEnd):
    """Notes the end of a thread."""

    def __init__(self, log):
        self.log = log

    def thread_exits(self, task, code):
        self.log.append((task.comm, code))


class ReportedAndStoppable(Stoppable):
    """Notes the end of a thread that can be stopped."""

    def __init__(self, log):
        self.log = log
        self.kthread = None

    def thread_exits(self, task, code):
        self.log.append((task.comm, code))
        if self.kthread is not None:
            self.kthread.thread_exits(task, code)


def start_thread(end, fn, name="direct"):
    kernel = current_kernel()
    task = kernel.fork.create_thread(end, lambda _: fn(), None, name)
    kernel.sched.wake_up_new_task(task)
    return task


def test_the_end_of_a_thread_made_without_kthreadd_is_reported_with_its_result(run, log):
    def init():
        start_thread(Reported(log), lambda: 7, "returns")
        start_thread(Reported(log), lambda: do_exit(8), "exits")
        msleep(1)

    run(init)
    assert log == [("returns", 7), ("exits", 8)]


def test_the_end_of_a_thread_that_the_halt_drops_before_it_ran_is_reported_too(run, log):
    run(lambda: current_kernel().fork.create_thread(Reported(log), lambda _: 7, None, "dropped") and None)
    assert log == [("dropped", -errno.EINTR)]


@pytest.mark.parametrize("call", [kthread_stop, kthread_park, kthread_unpark])
def test_stopping_or_parking_a_thread_made_without_kthreadd_is_an_error_that_says_what_to_do(run, log, call):
    def init():
        task = start_thread(TaskEnd(), lambda: msleep(5))
        with pytest.raises(KernelBug, match=r"cannot be stopped or parked: make it with kthread_run\(\)"):
            call(task)
        log.append("refused")

    run(init)
    assert log == ["refused"]


def test_a_thread_that_cannot_be_stopped_was_never_asked_to(run, log):
    def init():
        start_thread(TaskEnd(), lambda: log.append((kthread_should_stop(), kthread_should_park())))
        msleep(1)
        return current_kernel().printk.tainted

    assert run(init) == 0
    assert log == [(False, False)]


def test_a_thread_with_a_stoppable_end_parks_and_stops_like_a_kthread(run, log):
    def init():
        task = start_thread(ReportedAndStoppable(log), lambda: sleep_park_and_stop(log, "direct"))
        msleep(1)
        assert kthread_park(task) == 0
        assert task.state == TASK_PARKED
        return kthread_stop(task)

    assert run(init) == "direct"
    assert log[-1] == ("direct", "direct")


def test_a_thread_with_a_stoppable_end_can_be_stopped_after_it_has_ended(run, log):
    def init():
        task = start_thread(ReportedAndStoppable(log), lambda: 7)
        msleep(1)
        return kthread_stop(task), kthread_stop(task)

    assert run(init) == (7, 7)


# -- rules 101 and 102: parking


def test_rule_101_a_thread_that_is_parked_before_it_ever_ran_does_not_run_its_function(run, log):
    def init():
        task = kthread_create(lambda: log.append("ran"), name="early")
        log.append((kthread_park(task), task.state == TASK_PARKED))
        msleep(5)
        log.append("still parked")
        kthread_unpark(task)
        msleep(1)

    run(init)
    assert log == [(0, True), "still parked", "ran"]


def test_rule_101_a_thread_parked_before_its_start_is_stopped_in_its_function(run, log):
    """As in Linux: __kthread_parkme() comes back, and the function sees that it should stop."""

    def work():
        log.append(kthread_should_stop())
        return "ran"

    def init():
        task = kthread_create(work, name="early")
        kthread_park(task)
        return kthread_stop(task)

    assert run(init) == "ran"
    assert log == [True]


def test_rule_102_parkme_returns_at_once_when_nobody_asked(run, log):
    def work():
        kthread_parkme()
        log.append(current().state == TASK_RUNNING)

    def init():
        kthread_run(work, name="worker")
        schedule()

    run(init)
    assert log == [True]


def test_rule_102_a_parked_thread_goes_on_running(run, log):
    def init():
        task = kthread_run(sleep_park_and_stop, log, "worker", name="worker")
        schedule()
        log.append(kthread_park(task))
        msleep(5)
        kthread_unpark(task)
        log.append(task.state == TASK_RUNNING)
        schedule()
        kthread_stop(task)

    run(init)
    assert log == ["worker starts", "worker parks", 0, True, "worker goes on", "worker stops"]


def test_rule_102_a_thread_parks_as_often_as_it_is_asked(run, log):
    def init():
        task = kthread_run(sleep_park_and_stop, log, "worker", name="worker")
        schedule()
        for _ in range(3):
            assert kthread_park(task) == 0
            assert task.state == TASK_PARKED
            kthread_unpark(task)
            msleep(1)
        kthread_stop(task)

    run(init)
    assert log == ["worker starts", *["worker parks", "worker goes on"] * 3, "worker stops"]


def test_rule_102_a_flag_that_comes_back_before_the_thread_has_run_keeps_it_parked(run, log):
    """The loop tests again: between unpark and running, somebody has asked once more."""

    def init():
        task = kthread_run(sleep_park_and_stop, log, "worker", name="worker")
        schedule()
        kthread_park(task)
        kthread_unpark(task)
        log.append(kthread_park(task))
        msleep(5)
        log.append(task.state == TASK_PARKED)
        kthread_stop(task)

    run(init)
    assert log == ["worker starts", "worker parks", 0, True, "worker goes on", "worker stops"]


# -- rule 103: kthread_park()


def test_rule_103_parking_waits_until_the_thread_is_inactive(run, log):
    def work():
        while not kthread_should_park():
            msleep(5)
        log.append("parks")
        kthread_parkme()
        log.append("goes on")

    def init():
        task = kthread_run(work, name="slow")
        schedule()
        log.append((kthread_park(task), task.state == TASK_PARKED))

    run(init)
    assert log == ["parks", (0, True)]


def test_rule_103_a_thread_that_exits_is_enosys_with_a_warning(run, log):
    def init():
        task = kthread_run(lambda: None, name="gone")
        msleep(1)
        log.append(kthread_park(task))
        return current_kernel().printk.tainted, "which exits" in current_kernel().printk.text()

    assert run(init) == (1, True)
    assert log == [-errno.ENOSYS]


def test_rule_103_a_second_request_is_ebusy_with_a_warning(run, log):
    def init():
        task = kthread_run(sleep_park_and_stop, log, "worker", name="worker")
        schedule()
        kthread_park(task)
        log.append((kthread_park(task), current_kernel().printk.tainted))
        kthread_stop(task)

    run(init)
    assert log == ["worker starts", "worker parks", (-errno.EBUSY, 1), "worker goes on", "worker stops"]


def test_rule_103_parking_oneself_only_sets_the_flag(run, log):
    def work():
        log.append((kthread_should_park(), kthread_park(current()), kthread_should_park()))
        log.append("still running")
        kthread_parkme()
        log.append("unparked")

    def init():
        task = kthread_run(work, name="worker")
        msleep(5)
        log.append(task.state == TASK_PARKED)
        kthread_unpark(task)
        schedule()

    run(init)
    assert log == [(False, 0, True), "still running", True, "unparked"]


# -- rules 104 and 105: leaving the park


def test_rule_104_wake_up_process_does_not_wake_a_parked_thread(run, log):
    def init():
        task = kthread_run(sleep_park_and_stop, log, "worker", name="worker")
        schedule()
        kthread_park(task)
        log.append(wake_up_process(task))
        msleep(1)
        log.append(task.state == TASK_PARKED)

    run(init)
    assert log == ["worker starts", "worker parks", False, True]


def test_rule_104_unpark_wakes_only_who_is_parked(run, log):
    """A thread that sleeps for another reason is not woken; its flag is cleared all the same."""

    def work(done):
        done.wait_for_completion()
        log.append((kthread_should_park(), "done"))

    def init():
        done = Completion(name="done")
        task = kthread_run(work, done, name="sleeper")
        schedule()
        kthread_unpark(task)
        log.append(task.state == TASK_UNINTERRUPTIBLE)
        msleep(1)
        log.append("complete")
        done.complete()
        schedule()

    run(init)
    assert log == [True, "complete", (False, "done")]


def test_rule_105_stopping_a_parked_thread_unparks_it(run, log):
    def init():
        task = kthread_run(sleep_park_and_stop, log, "worker", name="worker")
        schedule()
        kthread_park(task)
        log.append(kthread_stop(task))

    run(init)
    assert log == ["worker starts", "worker parks", "worker goes on", "worker stops", "worker"]


# -- rule 106: kthreadd


def test_rule_106_kthreadd_serves_until_its_list_is_empty_before_it_sleeps(boot, log):
    """Three requests, and kthreadd runs once."""

    def creator(number):
        log.append(kthread_create(print, name=f"made{number}").comm)

    def init():
        creators = [kthread_create(creator, number, name="creator") for number in range(3)]
        trace = current_kernel().trace_start()
        for task in creators:
            wake_up_process(task)
        msleep(1)
        switches = [record for record in trace.records if record.event == "sched_switch"]
        log.append(sum(record.fields[0] == "kthreadd" for record in switches))

    boot(init).run()
    assert log == ["made0", "made1", "made2", 1]


def test_rule_106_one_kernel_thread_per_request(run):
    def init():
        before = len(current_kernel().pids)
        made = [kthread_create(print, name=f"t{number}") for number in range(20)]
        return len(current_kernel().pids) - before, [task.pid for task in made]

    assert run(init) == (20, list(range(4, 24)))


def test_rule_106_a_request_between_the_test_of_the_list_and_the_sleep_is_not_lost(run, log):
    """kthreadd has set its state before it looked: whoever wakes it after that keeps it from sleeping.

    The interrupt comes in kthreadd's own schedule(): it is raised while init has interrupts disabled.
    """

    def handler(irq):
        kthreadd = current_kernel().kthreads.kthreadd
        log.append(("handler in kthreadd", current() is kthreadd, kthreadd.state == TASK_IDLE))
        current_kernel().kthreads.kthread_run_nowait(log.append, "ran", name="late", failed=log.append)

    def init():
        kernel = current_kernel()
        irq = kernel.lkl_get_free_irq("dev")
        request_irq(irq, handler, "dev")
        local_irq_disable()
        kernel.lkl_trigger_irq(irq)
        kthread_create(print, name="first")
        local_irq_enable()
        msleep(1)

    run(init)
    assert log == [("handler in kthreadd", True, True), "ran"]


def test_rule_106_a_request_that_cannot_be_served_does_not_stop_kthreadd(run, log):
    def init():
        kernel = current_kernel()
        limit, kernel.pids.limit = kernel.pids.limit, 4
        kernel.kthreads.kthread_run_nowait(print, name="a", failed=lambda error: log.append(error.errno))
        msleep(1)
        kernel.pids.limit = limit
        kernel.kthreads.kthread_run_nowait(log.append, "ran", name="b", failed=log.append)
        msleep(1)

    run(init)
    assert log == [errno.EAGAIN, "ran"]


# -- in all configurations alike


def test_a_life_of_kthreads_traces_equally_everywhere(parity):
    def init():
        log = []
        tasks = [kthread_create(sleep_park_and_stop, log, name, name=name) for name in "abc"]
        never = kthread_create(print, name="never")
        kthread_park(tasks[2])
        for task in tasks[:2]:
            wake_up_process(task)
        msleep(1)
        kthread_park(tasks[0])
        kthread_unpark(tasks[2])
        msleep(1)
        for task in (never, *tasks):
            kthread_stop(task)
        assert log == [
            *("a starts", "b starts", "a parks", "c starts"),
            *("a goes on", "a stops", "b stops", "c stops"),
        ]

    text = parity(init)
    assert "prev_comm=a prev_pid=4 prev_prio=120 prev_state=P" in text
    assert "comm=never pid=7" in text
