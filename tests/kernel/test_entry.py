"""Handlers: when they run, in which order, with which mask, and what becomes of the call that they interrupt."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest
from programs import run_program, start

from lkl_green.kernel.signum import (
    SA_NODEFER,
    SA_RESETHAND,
    SA_RESTART,
    SIG_BLOCK,
    SIG_DFL,
    SIG_SETMASK,
    SIG_UNBLOCK,
    SIGALRM,
    SIGCHLD,
    SIGHUP,
    SIGKILL,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    TermSignal,
)
from lkl_green.linux import EPOLLIN, current_kernel, kernel_wait4, msleep, send_sig

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1_000_000


def task_of(pid):
    return current_kernel().pids.tasks[pid]


def signalled(main: Callable[[Any], Any], *signals: int) -> Any:
    """Run a program and send it signals, a millisecond apart; its exit code."""
    pid = start(main)
    for sig in signals:
        msleep(1)
        send_sig(sig, task_of(pid))
    return kernel_wait4(pid)[1]


def noting(log: list[Any]) -> Callable[[Any, int], None]:
    """A handler that writes the signal down."""
    return lambda sys, sig: log.append(sig)


# -- when


def test_a_handler_runs_when_the_process_returns_from_the_kernel(run, log):
    def main(sys):
        sys.sigaction(SIGUSR1, noting(log))
        log.append("before")
        sys.kill(sys.getpid(), SIGUSR1)
        log.append("after")

    run(lambda: run_program(main))
    assert log == ["before", SIGUSR1, "after"]


def test_a_process_that_computes_gets_it_at_its_next_call(run, log):
    def main(sys):
        sys.sigaction(SIGUSR1, noting(log))
        for step in range(3):
            sys.sched_yield()
            log.append(step)

    def init():
        pid = start(main)
        kernel = current_kernel()
        while not log:
            kernel.sys.sched_yield()
        send_sig(SIGUSR1, task_of(pid))
        kernel_wait4(pid)

    run(init)
    assert log == [0, SIGUSR1, 1, 2]


def test_a_handler_makes_system_calls_of_its_own(run, log):
    def handler(sys, sig):
        log.append((sys.getpid(), sys.write(w, b"from the handler")))
        sys.nanosleep(MS)

    def main(sys):
        nonlocal w
        r, w = sys.pipe2()
        sys.sigaction(SIGUSR1, handler)
        sys.kill(sys.getpid(), SIGUSR1)
        log.append(sys.read(r, 100))

    w = -1
    run(lambda: run_program(main))
    assert log == [(4, 16), b"from the handler"]


def test_an_inherited_handler_gets_the_sys_of_the_child(run, log):
    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append(sys.getpid()))
        child = sys.clone(lambda sys: sys.nanosleep(MS))
        sys.kill(child, SIGUSR1)
        sys.wait4(child)
        return child

    assert [run(lambda: run_program(main))] == log


def test_a_child_that_never_ran_handles_its_signal_before_anything_else(run, log):
    def main(sys):
        sys.sigaction(SIGUSR1, noting(log))
        child = sys.clone(lambda sys: log.append("child"))
        sys.kill(child, SIGUSR1)
        sys.wait4(child)

    run(lambda: run_program(main))
    assert log == [SIGUSR1, "child"]


# -- what a handler may do besides returning


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda sys, sig: sys.exit(5), 5),
        (lambda sys, sig: sys.execve("/bin/other"), 6),
        (lambda sys, sig: sys.kill(sys.getpid(), SIGKILL), TermSignal(SIGKILL)),
    ],
    ids=["exit", "execve", "kill"],
)
def test_a_handler_may_be_the_end_of_its_program(run, log, end, code):
    def main(sys):
        sys.sigaction(SIGUSR1, end)
        sys.kill(sys.getpid(), SIGUSR1)
        log.append("never")

    def init():
        current_kernel().register_program("/bin/other", lambda sys, argv, envp: 6)
        return run_program(main)

    assert run(init) == code
    assert log == []


def test_a_program_that_a_handler_executes_begins_with_the_handlers_mask(run, log):
    """As in Linux, where the mask is what every new program inherits."""

    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: sys.execve("/bin/other"), mask={SIGHUP})
        sys.kill(sys.getpid(), SIGUSR1)

    def init():
        other = current_kernel().register_program
        other("/bin/other", lambda sys, argv, envp: log.append(sys.sigprocmask(SIG_BLOCK)))
        return run_program(main)

    assert run(init) == 0
    assert log == [{SIGUSR1, SIGHUP}]


def test_an_exception_of_a_handler_comes_out_of_the_interrupted_call_and_the_mask_comes_back(run, log):
    class Alarm(Exception):
        pass

    def handler(sys, sig):
        log.append(sys.sigprocmask(SIG_BLOCK))
        raise Alarm

    def main(sys):
        sys.sigprocmask(SIG_BLOCK, {SIGHUP})
        sys.sigaction(SIGALRM, handler, mask={SIGUSR1})
        for _ in range(2):
            with pytest.raises(Alarm):
                sys.nanosleep(1000 * MS)
            log.append(sys.sigprocmask(SIG_BLOCK))

    run(lambda: signalled(main, SIGALRM, SIGALRM))
    assert log == [{SIGHUP, SIGALRM, SIGUSR1}, {SIGHUP}] * 2


def test_an_exception_that_nobody_catches_kills_the_process(run):
    def handler(sys, sig):
        raise ValueError("in a handler")

    def main(sys):
        sys.sigaction(SIGUSR1, handler)
        sys.kill(sys.getpid(), SIGUSR1)

    def init():
        return repr(run_program(main)), "ValueError: in a handler" in current_kernel().printk.text()

    assert run(init) == ("TermSignal(6)", True)


# -- masks


def test_a_signal_waits_until_its_handler_is_done_unless_it_says_otherwise(run, log):
    def handler(sys, sig):
        log.append("begin")
        if log.count("begin") == 1:
            sys.kill(sys.getpid(), sig)
        log.append("end")

    def main(sys):
        for flags in (0, SA_NODEFER):
            log.clear()
            sys.sigaction(SIGUSR1, handler, flags)
            sys.kill(sys.getpid(), SIGUSR1)
            stories.append(list(log))

    stories: list[list[str]] = []
    run(lambda: run_program(main))
    assert stories == [["begin", "end", "begin", "end"], ["begin", "begin", "end", "end"]]


def test_what_the_action_says_is_blocked_while_the_handler_runs(run, log):
    def handler(sys, sig):
        sys.kill(sys.getpid(), SIGUSR2)
        log.append(sys.sigpending())

    def main(sys):
        sys.sigaction(SIGUSR2, noting(log))
        sys.sigaction(SIGUSR1, handler, mask={SIGUSR2, SIGKILL})
        sys.kill(sys.getpid(), SIGUSR1)
        log.append(sys.sigprocmask(SIG_BLOCK))

    run(lambda: run_program(main))
    assert log == [{SIGUSR2}, SIGUSR2, set()]


def test_of_several_signals_the_last_one_set_up_runs_first(run, log):
    """Linux builds a frame for each, lowest number first, and returns to the topmost."""

    def main(sys):
        signals = (SIGUSR1, SIGHUP, SIGUSR2)
        for sig in signals:
            sys.sigaction(sig, noting(log))
        sys.sigprocmask(SIG_BLOCK, signals)
        for sig in signals:
            sys.kill(sys.getpid(), sig)
        sys.sigprocmask(SIG_UNBLOCK, signals)
        log.append(sys.sigprocmask(SIG_BLOCK))

    run(lambda: run_program(main))
    assert log == [SIGUSR2, SIGUSR1, SIGHUP, set()]


def test_a_mask_keeps_frames_apart(run, log):
    """The first handler blocks the second signal, which so comes after it."""

    def main(sys):
        sys.sigaction(SIGHUP, noting(log), mask={SIGUSR1})
        sys.sigaction(SIGUSR1, noting(log))
        sys.sigprocmask(SIG_BLOCK, {SIGHUP, SIGUSR1})
        sys.kill(sys.getpid(), SIGUSR1)
        sys.kill(sys.getpid(), SIGHUP)
        sys.sigprocmask(SIG_SETMASK)

    run(lambda: run_program(main))
    assert log == [SIGHUP, SIGUSR1]


def test_a_fatal_signal_beside_a_handled_one_lets_no_handler_run(run, log):
    def main(sys):
        sys.sigaction(SIGUSR1, noting(log))
        sys.sigprocmask(SIG_BLOCK, {SIGUSR1, SIGTERM})
        sys.kill(sys.getpid(), SIGUSR1)
        sys.kill(sys.getpid(), SIGTERM)
        sys.sigprocmask(SIG_SETMASK)

    assert run(lambda: run_program(main)) == TermSignal(SIGTERM)
    assert log == []


def test_a_handler_that_resets_itself_runs_once(run, log):
    def main(sys):
        sys.sigaction(SIGUSR1, noting(log), SA_RESETHAND)
        for _ in range(2):
            sys.kill(sys.getpid(), SIGUSR1)

    assert run(lambda: run_program(main)) == TermSignal(SIGUSR1)
    assert log == [SIGUSR1]


# -- the interrupted call


def test_an_interrupted_call_fails_after_its_handler_has_run(run, log):
    def main(sys):
        r, _ = sys.pipe2()
        sys.sigaction(SIGUSR1, noting(log))
        with pytest.raises(InterruptedError):
            sys.read(r, 1)
        log.append("read")

    run(lambda: signalled(main, SIGUSR1))
    assert log == [SIGUSR1, "read"]


def restartable() -> dict[str, Callable[[Any], Any]]:
    """Calls that wait until somebody sends b"x" or exits, in a process that has the descriptors of `ends()`."""
    return {
        "read": lambda sys: sys.read(0, 1),
        "wait4": lambda sys: sys.wait4(),
    }


@pytest.mark.parametrize("name", restartable())
def test_with_sa_restart_it_is_started_again_and_never_fails(run, log, name):
    def child(sys, w):
        sys.nanosleep(5 * MS)
        sys.write(w, b"x")

    def main(sys):
        _, w = sys.pipe2()
        sys.clone(child, w)
        sys.sigaction(SIGUSR1, noting(log), SA_RESTART)
        log.append(restartable()[name](sys))

    run(lambda: signalled(main, SIGUSR1, SIGUSR1))
    assert log == [SIGUSR1, SIGUSR1, {"read": b"x", "wait4": (5, 0)}[name]]


def test_a_write_that_took_something_says_so_instead(run, log):
    def main(sys):
        sys.pipe2()
        sys.sigaction(SIGUSR1, noting(log), SA_RESTART)
        log.append(sys.write(1, bytes(70_000)))

    run(lambda: signalled(main, SIGUSR1))
    assert log == [SIGUSR1, 65536]


@pytest.mark.parametrize(
    "call",
    [
        lambda sys: sys.nanosleep(1000 * MS),
        lambda sys: sys.poll([(0, EPOLLIN)]),
        lambda sys: sys.epoll_wait(sys.epoll_create1()),
    ],
    ids=["nanosleep", "poll", "epoll_wait"],
)
def test_calls_that_sleep_for_a_time_or_for_descriptors_are_never_started_again(run, log, call):
    def main(sys):
        sys.pipe2()
        sys.sigaction(SIGUSR1, noting(log), SA_RESTART)
        with pytest.raises(InterruptedError) as caught:
            call(sys)
        log.append(caught.value.errno)

    run(lambda: signalled(main, SIGUSR1))
    assert log == [SIGUSR1, errno.EINTR]


def test_the_first_of_several_handlers_decides_whether_the_call_is_started_again(run, log):
    def main(sys):
        sys.pipe2()
        sys.sigaction(SIGHUP, noting(log), 0, mask={SIGUSR1})
        sys.sigaction(SIGUSR1, noting(log), SA_RESTART)
        with pytest.raises(InterruptedError):
            sys.read(0, 1)
        log.append("EINTR")

    def init():
        pid = start(main)
        msleep(1)
        send_sig(SIGUSR1, task_of(pid))
        send_sig(SIGHUP, task_of(pid))
        kernel_wait4(pid)

    run(init)
    assert log == [SIGHUP, SIGUSR1, "EINTR"]


def test_a_signal_that_is_forgotten_while_it_ends_a_call_leaves_no_trace(run, log):
    """Another thread resets it to a default that does nothing: the call is started again, as if it had not come."""

    def thread(sys, leader):
        sys.nanosleep(MS)
        sys.tgkill(leader, leader, SIGCHLD)
        sys.sigaction(SIGCHLD, SIG_DFL)
        sys.write(1, b"data")

    def main(sys):
        sys.pipe2()
        sys.sigaction(SIGCHLD, noting(log))
        sys.clone_thread(thread, sys.getpid())
        log.append(sys.read(0, 10))

    run(lambda: run_program(main))
    assert log == [b"data"]


def test_parity_of_handlers(parity):
    def handler(sys, sig):
        sys.nanosleep(MS // 5)
        sys.write(1, b"x")

    def main(sys):
        sys.pipe2()
        sys.sigaction(SIGUSR1, handler, SA_RESTART)
        sys.sigaction(SIGUSR2, handler)
        sys.sigaction(SIGHUP, lambda sys, sig: sys.exit(7))
        for _ in range(3):
            try:
                sys.read(0, 10)
            except InterruptedError:
                sys.getppid()
        while True:
            sys.pause()

    def init():
        assert signalled(main, SIGUSR1, SIGUSR2, SIGUSR1, SIGUSR2, SIGHUP) == 7

    text = parity(init)
    assert text.count("sys_enter: NR 0 ") == 4, "one of the three reads was started again"
