"""Signals: what they wake, what they end, and who ignores them (rules 114, 115)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.kernel.signum import (
    IGNORED_BY_DEFAULT,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIGSTOP,
    SIGTERM,
    SIGUSR1,
    STOPPING_BY_DEFAULT,
    TermSignal,
)
from lkl_green.linux import (
    SIGCHLD,
    SIGKILL,
    TASK_INTERRUPTIBLE,
    TASK_KILLABLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    Completion,
    Mutex,
    Semaphore,
    WaitQueueHead,
    Work,
    allow_signal,
    current,
    current_kernel,
    flush_signals,
    kernel_execve,
    kernel_thread,
    kernel_wait4,
    kthread_create,
    kthread_run,
    kthread_stop,
    msleep,
    schedule,
    schedule_timeout_interruptible,
    schedule_work,
    send_sig,
    set_current_state,
    signal_pending,
    wake_up_process,
    yield_,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1_000_000
NR_OURS = 500


def accepting(fn: Callable[..., Any], *signals: int) -> Callable[..., Any]:
    """A thread function that accepts signals and then calls `fn`."""

    def thread(*args: Any) -> Any:
        for sig in signals or (SIGTERM, SIGKILL):
            allow_signal(sig)
        return fn(*args)

    return thread


def run_program(main: Callable[..., Any]) -> Any:
    """Start `main` as a user process; its task."""
    kernel = current_kernel()
    kernel.register_program("/bin/program", main)
    pid = kernel_thread(lambda _: kernel_execve("/bin/program"), None, SIGCHLD)
    return kernel.pids.tasks[pid]


# -- sending


@pytest.mark.parametrize("sig", [0, -1, 65])
def test_a_number_that_is_no_signal_is_refused(run, sig):
    def init():
        with pytest.raises(OSError, match="is not a signal") as caught:
            send_sig(sig, current())
        assert caught.value.errno == errno.EINVAL

    run(init)


def test_kernel_threads_ignore_signals_that_they_did_not_allow(run, log):
    def thread():
        log.append(schedule_timeout_interruptible(5 * MS))
        log.append(signal_pending())

    def init():
        task = kthread_run(accepting(thread, SIGTERM))
        msleep(1)
        send_sig(SIGKILL, task)
        msleep(10)

    run(init)
    assert log == [0, False]


def test_a_kernel_thread_gets_what_it_allowed(run, log):
    def thread():
        log.append(schedule_timeout_interruptible(5 * MS) > 0)
        log.append(signal_pending())
        flush_signals()
        log.append(signal_pending())

    def init():
        task = kthread_run(accepting(thread, SIGTERM))
        msleep(1)
        send_sig(SIGTERM, task)
        log.append(signal_pending(task))
        msleep(1)

    run(init)
    assert log == [True, True, True, False]


def test_what_a_thread_allowed_ends_with_it(run):
    def init():
        task = kthread_run(accepting(lambda: None))
        yield_()
        kthread_stop(task)
        assert current_kernel().signals.allowed == {}

    run(init)


def test_sigchld_is_ignored(run, log):
    def thread():
        log.append(schedule_timeout_interruptible(5 * MS))

    def init():
        task = kthread_run(accepting(thread, SIGCHLD))
        msleep(1)
        send_sig(SIGCHLD, task)
        msleep(10)

    run(init)
    assert log == [0]


def test_a_signal_for_a_dead_task_does_nothing(run):
    def init():
        task = kthread_run(accepting(lambda: None))
        msleep(1)
        assert task.exit_state
        send_sig(SIGTERM, task)

    run(init)


def test_an_interrupt_handler_may_send_signals(run, log):
    def thread():
        log.append(schedule_timeout_interruptible(50 * MS) > 0)

    def init():
        kernel = current_kernel()
        task = kthread_run(accepting(thread))
        msleep(1)
        irq = kernel.lkl_get_free_irq("ctrl-c")
        kernel.irq.request_irq(irq, lambda irq: send_sig(SIGTERM, task), "ctrl-c")
        kernel.lkl_trigger_irq(irq)
        msleep(1)

    run(init)
    assert log == [True]


# -- what a signal ends


@pytest.mark.parametrize(
    ("state", "sig", "ends"),
    [
        (TASK_INTERRUPTIBLE, SIGTERM, True),
        (TASK_INTERRUPTIBLE, SIGKILL, True),
        (TASK_KILLABLE, SIGTERM, False),
        (TASK_KILLABLE, SIGKILL, True),
        (TASK_UNINTERRUPTIBLE, SIGTERM, False),
        (TASK_UNINTERRUPTIBLE, SIGKILL, False),
    ],
)
def test_rule_115_which_signal_ends_which_sleep(run, log, state, sig, ends):
    def thread():
        set_current_state(state)
        schedule()
        log.append(current_kernel().clock.peek_ns() < 5 * MS)

    def init():
        task = kthread_run(accepting(thread))
        msleep(1)
        send_sig(sig, task)
        msleep(5)
        current_kernel().sched.wake_up_process(task)
        yield_()

    run(init)
    assert log == [ends]


@pytest.mark.parametrize(
    ("state", "sig", "sleeps"),
    [
        (TASK_INTERRUPTIBLE, SIGTERM, False),
        (TASK_KILLABLE, SIGTERM, True),
        (TASK_KILLABLE, SIGKILL, False),
        (TASK_UNINTERRUPTIBLE, SIGKILL, True),
    ],
)
def test_rule_115_a_pending_signal_keeps_such_a_sleep_from_beginning(run, log, state, sig, sleeps):
    def thread():
        send_sig(sig, current())
        set_current_state(state)
        schedule()
        log.append(("state", current().state))

    def init():
        task = kthread_run(accepting(thread))
        yield_()
        log.append(task.state == state)
        current_kernel().sched.wake_up_process(task)
        yield_()

    run(init)
    assert sorted(log, key=str) == [("state", TASK_RUNNING), sleeps]
    assert log[0] == (sleeps or ("state", TASK_RUNNING))


def waits() -> dict[str, Callable[[], Any]]:
    """Interruptible waits for something that does not come."""
    mutex, semaphore = Mutex(), Semaphore(0)
    mutex.lock()
    return {
        "mutex": mutex.lock_interruptible,
        "semaphore": semaphore.down_interruptible,
        "completion": Completion().wait_for_completion_interruptible,
        "wait queue": lambda: WaitQueueHead().wait_event_interruptible(lambda: False),
        "timed wait queue": lambda: WaitQueueHead().wait_event_interruptible_timeout(lambda: False, 50 * MS),
        "killable mutex": mutex.lock_killable,
        "killable semaphore": semaphore.down_killable,
        "killable completion": Completion().wait_for_completion_killable,
        "killable wait queue": lambda: WaitQueueHead().wait_event_killable(lambda: False),
    }


@pytest.mark.parametrize("before", [True, False])
def test_a_signal_ends_interruptible_waits_with_eintr(run, log, before):
    """Sent before the wait as well as during it."""

    def thread(name, wait):
        try:
            wait()
        except InterruptedError as error:
            log.append((name, error.errno, current().state, current().waiting_for))

    def is_over(name):
        return name in [entry[0] for entry in log]

    def init():
        names = []
        for name, wait in waits().items():
            names.append(name)
            task = kthread_create(accepting(thread), name, wait)
            if before:
                task.signals = {SIGKILL}
            wake_up_process(task)
            msleep(1)
            assert is_over(name) == before
            send_sig(SIGTERM, task)
            msleep(1)
            assert is_over(name) == (before or not name.startswith("killable"))
            send_sig(SIGKILL, task)
            msleep(1)
        assert [entry[0] for entry in log] == names
        assert {entry[1:] for entry in log} == {(errno.EINTR, TASK_RUNNING, None)}
        assert len(current_kernel().timers) == 0

    run(init)
    assert len(log) == 9


def test_a_wait_whose_condition_holds_does_not_care_for_signals(run, log):
    def thread():
        mutex = Mutex()
        send_sig(SIGKILL, current())
        mutex.lock_interruptible()
        mutex.unlock()
        Semaphore(1).down_interruptible()
        WaitQueueHead().wait_event_interruptible(lambda: True)
        done = Completion()
        done.complete()
        done.wait_for_completion_interruptible()
        log.append("done")

    def init():
        kthread_run(accepting(thread))
        msleep(1)

    run(init)
    assert log == ["done"]


# -- user processes


def test_sigkill_ends_a_process_that_sleeps(run, log):
    def main(sys, argv, envp):
        try:
            sys.nanosleep(1000 * MS)
        finally:
            log.append("unwound")

    def init():
        task = run_program(main)
        msleep(1)
        send_sig(SIGKILL, task)
        log.append(kernel_wait4(task.pid) == (task.pid, SIGKILL))
        log.append(current_kernel().clock.peek_ns() < 5 * MS)

    run(init)
    assert log == ["unwound", True, True]


def test_sigkill_ends_a_process_that_computes_at_its_next_system_call(run, log):
    def main(sys, argv, envp):
        while True:
            log.append("computes")
            sys.sched_yield()

    def init():
        task = run_program(main)
        yield_()
        yield_()
        send_sig(SIGKILL, task)
        log.append(kernel_wait4(task.pid)[1])

    run(init)
    assert log[-1] == SIGKILL


def test_sigkill_ends_a_process_that_has_not_run_yet(run, log):
    def main(sys, argv, envp):
        child = sys.clone(lambda sys: log.append("never"))
        sys.kill(child, SIGKILL)
        log.append(sys.wait4(child)[1])

    def init():
        kernel_wait4(run_program(main).pid)

    run(init)
    assert log == [SIGKILL]


@pytest.mark.parametrize("sig", [1, 2, 3, 6, SIGKILL, 10, 11, 13, 14, SIGTERM, 29, 31, 34, 64])
def test_a_signal_without_a_handler_is_the_end_of_a_process(run, log, sig):
    def main(sys, argv, envp):
        try:
            sys.nanosleep(1000 * MS)
        except OSError:
            log.append("not an error that a program could catch")
        finally:
            log.append("unwound")

    def init():
        task = run_program(main)
        msleep(1)
        send_sig(sig, task)
        code = kernel_wait4(task.pid)[1]
        log.append((code == sig, isinstance(code, TermSignal), current_kernel().clock.peek_ns() < 5 * MS))

    run(init)
    assert log == ["unwound", (True, True, True)]


@pytest.mark.parametrize("sig", sorted(IGNORED_BY_DEFAULT))
def test_some_signals_do_nothing_without_a_handler(run, sig):
    def main(sys, argv, envp):
        sys.nanosleep(10 * MS)
        return 3

    def init():
        task = run_program(main)
        msleep(1)
        send_sig(sig, task)
        return kernel_wait4(task.pid)[1], current_kernel().clock.peek_ns() > 10 * MS

    assert run(init) == (3, True)


@pytest.mark.parametrize("sig", sorted(STOPPING_BY_DEFAULT))
def test_there_is_no_job_control_and_who_wants_some_is_told(run, log, sig):
    def main(sys, argv, envp):
        with pytest.raises(OSError, match="there is no job control"):
            send_sig(sig, current())
        with pytest.raises(OSError, match="not supported") as caught:
            sys.kill(sys.getpid(), sig)
        log.append(caught.value.errno)
        if sig != SIGSTOP:
            sys.sigaction(sig, SIG_IGN)
            sys.kill(sys.getpid(), sig)

    run(lambda: kernel_wait4(run_program(main).pid))
    assert log == [errno.EOPNOTSUPP]


def test_a_fatal_signal_ends_a_killable_sleep(run, log):
    """It has become SIGKILL when it was sent (Linux: complete_signal())."""

    def sleep():
        try:
            Completion().wait_for_completion_killable()
        finally:
            log.append((current_kernel().signals.fatal_signal_pending(current()), signal_pending()))

    def main(sys, argv, envp):
        sys._call(NR_OURS)

    def init():
        current_kernel().syscalls.install(NR_OURS, "ours", sleep)
        task = run_program(main)
        msleep(1)
        send_sig(SIGTERM, task)
        return kernel_wait4(task.pid)[1]

    assert run(init) == SIGTERM, "the status is that of the signal that was sent"
    assert log == [(True, True)]


def test_a_handled_signal_does_not_end_a_killable_sleep(run, log):
    def sleep():
        completion.wait_for_completion_killable()

    def main(sys, argv, envp):
        sys.sigaction(SIGTERM, lambda sys, sig: log.append("handler"))
        sys._call(NR_OURS)

    completion = None

    def init():
        nonlocal completion
        completion = Completion()
        current_kernel().syscalls.install(NR_OURS, "ours", sleep)
        task = run_program(main)
        msleep(1)
        send_sig(SIGTERM, task)
        msleep(1)
        log.append("still asleep")
        completion.complete()
        return kernel_wait4(task.pid)[1]

    assert run(init) == 0
    assert log == ["still asleep", "handler"]


def test_an_exit_code_and_a_signal_of_the_same_number_are_told_apart(run):
    def init():
        mains = (lambda *_: SIGTERM, lambda sys, *_: sys.kill(sys.getpid(), SIGTERM))
        codes = [kernel_wait4(run_program(main).pid)[1] for main in mains]
        return codes, [type(code) for code in codes]

    assert run(init) == ([SIGTERM, SIGTERM], [int, TermSignal])


def test_init_gets_no_signal_that_it_has_no_handler_for(run, log):
    """Linux: SIGNAL_UNKILLABLE."""

    def child(sys):
        for sig in (SIGTERM, SIGKILL, SIGUSR1):
            sys.kill(1, sig)

    def main(sys, argv, envp):
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append(sig))
        sys.wait4(sys.clone(child))
        sys.sigaction(SIGUSR1, SIG_DFL)
        sys.wait4(sys.clone(child))
        return 7

    def init():
        current_kernel().register_program("/sbin/init", main)
        return kernel_execve("/sbin/init")

    assert run(init) == 7
    assert log == [SIGUSR1]


def test_no_signal_ends_a_thread_of_the_application(kernel):
    """Its host task is a kernel thread to signals, even in a call that sleeps."""
    tid = kernel.sys.gettid()
    for sig in (SIGTERM, SIGKILL):
        kernel.sys.kill(tid, sig)
        kernel.sys.nanosleep(MS)
    assert kernel.sys.gettid() == tid


def test_what_a_kernel_thread_was_sent_does_not_reach_the_program_it_becomes(run):
    def become(_):
        allow_signal(SIGTERM)
        send_sig(SIGTERM, current())
        return kernel_execve("/bin/program")

    def init():
        kernel = current_kernel()
        kernel.register_program("/bin/program", lambda sys, argv, envp: sys.nanosleep(MS) or 4)
        code = kernel_wait4(kernel_thread(become, None, SIGCHLD))[1]
        return code, kernel.signals.allowed, kernel.signals.threads

    assert run(init) == (4, {}, {})


def test_nothing_is_left_of_a_process_that_had_to_do_with_signals(run):
    def main(sys, argv, envp):
        sys.sigprocmask(SIG_BLOCK, {SIGTERM})
        sys.kill(sys.getpid(), SIGTERM)
        sys.clone_thread(lambda sys: sys.nanosleep(MS))
        sys.wait4(sys.clone(lambda sys: sys.kill(sys.getpid(), SIGTERM)))
        sys.nanosleep(2 * MS)

    def init():
        kernel_wait4(run_program(main).pid)
        return current_kernel().signals.threads

    assert run(init) == {}


def test_processes_send_signals_to_each_other(run, log):
    def child(sys):
        sys.nanosleep(1000 * MS)

    def main(sys, argv, envp):
        pid = sys.clone(child)
        sys.nanosleep(MS)
        sys.kill(pid, 0)
        sys.kill(pid, SIGKILL)
        log.append(sys.wait4(pid) == (pid, SIGKILL))
        for target, sig, expected in ((pid, SIGKILL, errno.ESRCH), (sys.getpid(), 99, errno.EINVAL)):
            try:
                sys.kill(target, sig)
            except OSError as error:
                log.append(error.errno == expected)

    def init():
        kernel_wait4(run_program(main).pid)

    run(init)
    assert log == [True, True, True]


def test_a_worker_ignores_signals(run, log):
    def init():
        work = Work(lambda work: log.append(schedule_timeout_interruptible(3 * MS)))
        schedule_work(work)
        msleep(1)
        send_sig(SIGKILL, work.worker.task)
        work.flush_work()

    run(init)
    assert log == [0]


def test_parity_of_signals(parity):
    def main(sys, argv, envp):
        sys.sigaction(SIGTERM, lambda sys, sig: sys.getpid())
        try:
            sys.nanosleep(1000 * MS)
        except InterruptedError:
            sys.nanosleep(1000 * MS)

    def init():
        task = run_program(main)
        for sig in (SIGTERM, SIGCHLD, SIGKILL):
            msleep(1)
            send_sig(sig, task)
        kernel_wait4(task.pid)

    text = parity(init)
    assert "signal_generate: sig=15 errno=0 code=0 comm=program pid=4 grp=0 res=0" in text
    assert "signal_generate: sig=17 errno=0 code=0 comm=program pid=4 grp=0 res=1" in text, "it is ignored"
    assert "signal_deliver: sig=15 errno=0 code=0 sa_handler=test_parity_of_signals.<locals>.main" in text
    assert "signal_deliver: sig=9 errno=0 code=0 sa_handler=0 sa_flags=0" in text
    assert "sys_exit: NR 35 = -4" in text
    assert text.count("sys_enter: NR 39 ()") == 1, "the handler's call"
