"""Processes of several threads: what reaches all of them, what reaches one, and when the process has ended."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import run_program, start

from lkl_green import KernelPanic, lkl_start_kernel
from lkl_green.compare.parity import CONFIGURATIONS, Configuration
from lkl_green.kernel.fork import CLONE_THREAD
from lkl_green.kernel.signum import (
    SIG_BLOCK,
    SIG_SETMASK,
    SIG_UNBLOCK,
    SIGCHLD,
    SIGKILL,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    TermSignal,
)
from lkl_green.kernel.unistd import WNOHANG, NR_clone
from lkl_green.linux import Completion, current, current_kernel, do_exit, kernel_execve, kernel_wait4, msleep, send_sig

MS = 1_000_000
LONG = 1000 * MS


def task_of(pid):
    return current_kernel().pids.tasks[pid]


def sleeping(log: list[Any]):
    """A thread that sleeps for good and says that it was unwound."""

    def thread(sys, name=None):
        try:
            sys.nanosleep(LONG)
        finally:
            log.append(name)

    return thread


def pids():
    return sorted(current_kernel().pids.tasks)


# -- the end of all


@pytest.mark.parametrize("who", ["leader", "thread"])
@pytest.mark.parametrize("sig", [SIGTERM, SIGKILL])
def test_a_fatal_signal_kills_every_thread(run, log, who, sig):
    def main(sys):
        for name in ("first", "second"):
            sys.clone_thread(sleeping(log), name)
        sleeping(log)(sys, "leader")

    def init():
        pid = start(main)
        msleep(1)
        send_sig(sig, task_of(pid if who == "leader" else pid + 1))
        assert kernel_wait4(pid) == (pid, TermSignal(sig))
        return pids()

    assert run(init) == [1, 2, 3]
    assert sorted(log) == ["first", "leader", "second"]


@pytest.mark.parametrize("by", ["leader", "thread"])
def test_exit_ends_every_thread_with_one_code(run, log, by):
    def thread(sys):
        if by == "thread":
            sys.nanosleep(MS)
            sys.exit(5)
        sleeping(log)(sys, "thread")

    def main(sys):
        sys.clone_thread(thread)
        sys.sched_yield()
        if by == "leader":
            sys.exit(5)
        sleeping(log)(sys, "leader")

    def init():
        return run_program(main), pids()

    assert run(init) == (5, [1, 2, 3])
    assert log == ["thread" if by == "leader" else "leader"]


def test_returning_from_the_program_ends_its_threads_and_returning_from_a_thread_only_itself(run, log):
    def main(sys):
        sys.clone_thread(lambda sys: 3)
        sys.clone_thread(sleeping(log), "thread")
        sys.nanosleep(MS)
        log.append("the leader goes on")
        return 4

    assert run(lambda: run_program(main)) == 4
    assert log == ["the leader goes on", "thread"]


def test_an_exception_in_a_thread_kills_the_process(run, log):
    def thread(sys):
        raise ValueError("on purpose")

    def main(sys):
        sys.clone_thread(thread)
        sleeping(log)(sys, "leader")

    assert repr(run(lambda: run_program(main))) == "TermSignal(6)"
    assert log == ["leader"]


def test_who_swallows_the_end_has_the_processes_exit_code_all_the_same(run):
    def main(sys):
        sys.clone_thread(lambda sys: sys.nanosleep(MS) or sys.exit(6))
        try:
            sys.nanosleep(LONG)
        except BaseException:
            return 0

    assert run(lambda: run_program(main)) == 6


def test_the_first_end_counts(run):
    def main(sys):
        def thread(sys):
            try:
                sys.nanosleep(LONG)
            finally:
                sys.exit(9)

        sys.clone_thread(thread)
        sys.sched_yield()
        sys.exit(8)

    assert run(lambda: run_program(main)) == 8


def test_a_dying_process_makes_no_more_threads(run, log):
    def main(sys):
        try:
            sys.nanosleep(LONG)
        finally:
            log.append("unwinding")
            sys.clone_thread(lambda sys: log.append("never"))
            log.append("never")

    def init():
        pid = start(main)
        msleep(1)
        send_sig(SIGTERM, task_of(pid))
        return kernel_wait4(pid)[1]

    assert run(init) == TermSignal(SIGTERM)
    assert log == ["unwinding"]


# -- a leader that ends first


def test_a_process_ends_with_its_last_thread(run, log):
    """The leader is a zombie that nobody can collect until then; its exit code is the process's."""

    def main(sys):
        sys.clone_thread(lambda sys: sys.nanosleep(5 * MS) or 3)
        sys.exit_thread(7)

    def init():
        pid = start(main)
        msleep(1)
        log.append(kernel_wait4(pid, WNOHANG))
        log.append(kernel_wait4(pid) == (pid, 7))
        return current_kernel().clock.peek_ns() >= 5 * MS, pids()

    assert run(init) == (True, [1, 2, 3])
    assert log == [(0, 0), True]


def test_a_signal_for_a_process_whose_leader_has_ended_reaches_the_others(run, log):
    def thread(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append((sig, sys.gettid() - sys.getpid())))
        sys.pause()
        sleeping(log)(sys, "thread")

    def main(sys):
        sys.clone_thread(thread)
        sys.exit_thread(7)

    def init():
        pid = start(main)
        sys = current_kernel().sys
        for sig in (SIGUSR1, SIGTERM):
            msleep(1)
            sys.kill(pid, sig)
        return kernel_wait4(pid)[1]

    assert run(init) == TermSignal(SIGTERM)
    assert log == [(SIGUSR1, 1), "thread"]


def test_each_thread_waits_for_the_children_of_all(run, log):
    """Two wait, also for each other's; each child is collected once."""

    def thread(sys):
        sys.clone(lambda sys: sys.nanosleep(MS) or 2)
        log.append(sys.wait4()[1])

    def main(sys):
        sys.clone_thread(thread)
        sys.clone(lambda sys: sys.nanosleep(2 * MS) or 3)
        log.append(sys.wait4()[1])
        sys.nanosleep(5 * MS)
        with pytest.raises(ChildProcessError):
            sys.wait4()

    assert run(lambda: run_program(main)) == 0
    assert sorted(log) == [2, 3]


def test_children_stay_with_the_process(run, log):
    """Another thread gets those of one that ends, also when it waits already."""

    def child(sys):
        sys.nanosleep(2 * MS)
        return 3

    def thread(sys):
        sys.clone(child)
        sys.nanosleep(MS)

    def main(sys):
        other = sys.clone(lambda sys: sys.nanosleep(3 * MS))
        sys.clone_thread(thread)
        log.extend([sys.wait4()[1], sys.wait4() == (other, 0)])

    run(lambda: run_program(main))
    assert log == [3, True]


def test_halting_takes_a_process_of_several_threads_down(run, log):
    def main(sys):
        sys.clone_thread(sleeping(log), "thread")
        sys.clone_thread(sleeping(log), "other")
        sys.exit_thread(0)

    def init():
        start(main)
        msleep(1)

    run(init)
    assert sorted(log) == ["other", "thread"]


def test_a_thread_leaves_no_zombie_whatever_signal_was_asked_for(run, log):
    def main(sys):
        sys._call(NR_clone, CLONE_THREAD | SIGCHLD, lambda sys: None, ())
        sys.nanosleep(MS)
        log.append(pids())

    assert run(lambda: run_program(main)) == 0
    assert log == [[1, 2, 3, 4]]


def test_a_pid_is_not_given_again_while_threads_of_its_process_live(run):
    def main(sys):
        sys.clone_thread(lambda sys: sys.nanosleep(5 * MS))
        sys.exit_thread(0)

    def init():
        current_kernel().pids.limit = 8
        pid = start(main, flags=0)  # nobody waits for it
        msleep(1)
        new = [start(lambda sys: 0, path="/bin/other") for _ in range(2)]
        for _ in new:
            kernel_wait4()
        alive = pid in pids()
        msleep(10)
        return pid, alive, pid in new, pids()

    assert run(init) == (4, True, False, [1, 2, 3])


# -- init as a process of several threads


def as_init(main):
    """Pid 1 becomes the program."""

    def init():
        current_kernel().register_program("/sbin/init", lambda sys, argv, envp: main(sys))
        return kernel_execve("/sbin/init")

    return init


def test_the_kernel_runs_until_inits_last_thread_has_ended(run, log):
    """Orphans are collected by the thread that is left."""

    def orphan(sys):
        sys.nanosleep(2 * MS)
        return 5

    def thread(sys):
        sys.nanosleep(MS)
        sys.clone(lambda sys: sys.clone(orphan) * 0)
        log.extend(sorted([sys.wait4()[1], sys.wait4()[1]]))
        log.append(sys.getpid())

    def main(sys):
        sys.clone_thread(thread)
        sys.exit_thread(3)

    assert run(as_init(main)) == 3
    assert log == [0, 5, 1]


def test_a_thread_of_init_may_execute_the_next_init(run, log):
    def second(sys, argv, envp):
        log.append((sys.getpid(), sys.gettid(), current() is current_kernel().init_task))
        sys.clone(lambda sys: sys.clone(lambda sys: 6) * 0 + 5)
        log.append(sorted([sys.wait4()[1], sys.wait4()[1]]))
        return 7

    def main(sys):
        current_kernel().register_program("/sbin/next", second)
        sys.clone_thread(lambda sys: sys.execve("/sbin/next"))
        sys.nanosleep(LONG)

    assert run(as_init(main)) == 7
    assert log == [(1, 1, True), [5, 6]]


def test_no_thread_of_init_dies_of_a_signal_that_another_one_blocks(run, log):
    def thread(sys):
        sys.nanosleep(2 * MS)
        log.append("thread")

    def init(sys, argv, envp):
        sys.clone_thread(thread)
        sys.sigprocmask(SIG_BLOCK, {SIGTERM})
        sys.nanosleep(MS)
        sys.kill(1, SIGTERM)
        sys.nanosleep(2 * MS)
        log.append(sys.sigpending())

    def boot():
        current_kernel().register_program("/bin/init", init)
        return kernel_execve("/bin/init")

    run(boot)
    assert log == ["thread", set()]


def test_any_thread_of_init_ends_the_kernel(run, log):
    def main(sys):
        sys.clone_thread(lambda sys: sys.exit(8))
        sleeping(log)(sys, "leader")

    assert run(as_init(main)) == 8


def test_an_exception_in_a_thread_of_init_is_an_oops(run):
    def thread(sys):
        raise ValueError("on purpose")

    def main(sys):
        sys.clone_thread(thread)
        sys.nanosleep(LONG)

    with pytest.raises(KernelPanic, match="ValueError"):
        run(as_init(main))


# -- signals for one of several


def test_a_signal_for_the_process_goes_to_a_thread_that_does_not_block_it(run, log):
    def thread(sys):
        sys.sigprocmask(SIG_UNBLOCK, {SIGUSR1})
        sys.nanosleep(2 * MS)

    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append(sys.gettid() - sys.getpid()))
        sys.sigprocmask(SIG_BLOCK, {SIGUSR1})
        for _ in range(2):
            sys.clone_thread(thread)
        sys.nanosleep(MS)
        sys.kill(sys.getpid(), SIGUSR1)
        sys.kill(sys.getpid(), SIGUSR1)
        sys.nanosleep(5 * MS)

    run(lambda: run_program(main))
    assert log == [1], "one of them got it, the first"


def test_what_the_leader_blocks_and_the_process_ignores_ends_no_call_of_another_thread(run, log):
    def thread(sys):
        sys.nanosleep(2 * MS)
        log.append("slept")

    def main(sys):
        sys.clone_thread(thread)
        sys.sigprocmask(SIG_BLOCK, {SIGCHLD})
        sys.nanosleep(MS)
        sys.kill(sys.getpid(), SIGCHLD)
        sys.nanosleep(2 * MS)

    assert run(lambda: run_program(main)) == 0
    assert log == ["slept"]


def test_blocked_by_all_it_waits_for_the_first_that_unblocks_it(run, log):
    def thread(sys):
        sys.nanosleep(2 * MS)
        log.append(sys.sigpending())
        sys.sigprocmask(SIG_SETMASK)

    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append(sys.gettid() - sys.getpid()))
        sys.sigprocmask(SIG_BLOCK, {SIGUSR1})
        sys.clone_thread(thread)
        sys.kill(sys.getpid(), SIGUSR1)
        sys.nanosleep(5 * MS)
        log.append(sys.sigpending())

    run(lambda: run_program(main))
    assert log == [{SIGUSR1}, 1, set()]


def test_a_thread_that_ends_leaves_the_processes_signal_to_another(run, log):
    """It was assigned to the thread, which is killed by nobody but ends before it returns to user mode."""

    def ours():
        done.wait_for_completion()
        do_exit(0)

    def thread(sys):
        sys.sigprocmask(SIG_SETMASK)
        sys._call(500)

    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append(sys.gettid() == sys.getpid()))
        sys.sigprocmask(SIG_BLOCK, {SIGUSR1})
        sys.clone_thread(thread)
        sys.nanosleep(MS)
        sys.kill(sys.getpid(), SIGUSR1)
        sys.sigprocmask(SIG_SETMASK)
        done.complete()
        with pytest.raises(InterruptedError):
            sys.nanosleep(MS)

    done: Any = None

    def init():
        nonlocal done
        done = Completion()
        current_kernel().syscalls.install(500, "ours", ours)
        return run_program(main)

    assert run(init) == 0
    assert log == [True]


def test_tgkill_reaches_one_thread_only(run, log):
    def thread(sys, tid):
        sys.pause()

    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append(sys.gettid()))
        tids = [sys.clone_thread(thread, None) for _ in range(3)]
        sys.nanosleep(MS)
        sys.tgkill(sys.getpid(), tids[1], SIGUSR1)
        sys.nanosleep(MS)
        log.append([tid in pids() for tid in tids])
        log.append(tids[1])

    run(lambda: run_program(main))
    assert log[0] == log[2]
    assert log[1] == [True, False, True]


# -- execve


@pytest.mark.parametrize("who", ["leader", "thread"])
def test_execve_ends_the_other_threads_and_keeps_the_pid(run, log, who):
    def second(sys, argv, envp):
        task = current()
        log.append((sys.getpid(), sys.gettid(), task.parent.pid, task.comm))
        return 6

    def execs(sys):
        sys.nanosleep(MS)
        sys.execve("/bin/second")

    def main(sys):
        sys.clone_thread(sleeping(log), "other")
        if who == "leader":
            execs(sys)
        sys.clone_thread(execs)
        sleeping(log)(sys, "leader")

    def init():
        current_kernel().register_program("/bin/second", second)
        pid = start(main)
        assert kernel_wait4(pid) == (pid, 6)
        return pid, pids(), current_kernel().signals.threads

    pid, left, states = run(init)
    ended = ["leader", "other"] if who == "thread" else ["other"]
    assert (sorted(log[:-1]), log[-1]) == (ended, (pid, pid, 1, "second"))
    assert (left, states) == ([1, 2, 3], {})


def test_children_and_files_survive_the_execve_of_another_thread(run, log):
    def second(sys, argv, envp):
        log.append(sys.wait4()[1])
        log.append(sys.read(0, 10))

    def main(sys):
        _, w = sys.pipe2()
        sys.write(w, b"data")
        sys.clone(lambda sys: sys.nanosleep(3 * MS) or 5)
        sys.clone_thread(lambda sys: sys.execve("/bin/second"))
        sys.nanosleep(LONG)

    def init():
        current_kernel().register_program("/bin/second", second)
        return run_program(main)

    assert run(init) == 0
    assert log == [5, b"data"]


def test_of_two_threads_that_execve_one_wins(run, log):
    def second(sys, argv, envp):
        log.append(argv[0])

    def main(sys):
        for name in ("a", "b"):
            sys.clone_thread(lambda sys, name: sys.execve("/bin/second", [name]), name)
        sys.nanosleep(LONG)

    def init():
        current_kernel().register_program("/bin/second", second)
        return run_program(main), pids()

    assert run(init) == (0, [1, 2, 3])
    assert log == ["a"]


def test_a_thread_that_dies_of_an_execve_cannot_execve_on_its_way_out(run, log):
    def thread(sys):
        try:
            sys.nanosleep(LONG)
        finally:
            sys.execve("/bin/second", ["thread"])

    def main(sys):
        sys.clone_thread(thread)
        sys.nanosleep(MS)
        sys.execve("/bin/second", ["leader"])

    def init():
        current_kernel().register_program("/bin/second", lambda sys, argv, envp: log.append(argv[0]))
        return run_program(main)

    assert run(init) == 0
    assert log == ["leader"]


def test_a_process_that_is_killed_while_it_waits_for_its_threads_does_not_exec(run, log):
    def stubborn(sys):
        sys._call(500)

    def main(sys):
        sys.clone_thread(stubborn)
        sys.nanosleep(MS)
        sys.execve("/bin/second")

    def init():
        done = Completion()
        kernel = current_kernel()
        kernel.syscalls.install(500, "ours", done.wait_for_completion)
        kernel.register_program("/bin/second", lambda *_: log.append("never"))
        pid = start(main)
        msleep(2)
        send_sig(SIGTERM, task_of(pid))
        msleep(1)
        log.append(pid in pids())
        done.complete()
        return kernel_wait4(pid)[1]

    assert run(init) == TermSignal(SIGTERM)
    assert log == [True]


# -- the model, and the same everywhere


class GroupModel:
    """Threads of one process, each with a mask, and the signals that none of them has taken."""

    def __init__(self, number: int) -> None:
        self.blocked: list[set[int] | None] = [set() for _ in range(number)]  # None: it has ended
        self.pending: set[int] = set()
        self.taken: list[tuple[int, int]] = []

    def step(self, thread: int, what: str, signals: set[int]) -> None:
        mask = self.blocked[thread]
        if mask is None:
            return
        match what:
            case "block":
                mask |= signals
            case "unblock":
                mask -= signals
            case "kill":
                self.pending |= signals
            case "exit" if sum(mask is not None for mask in self.blocked) > 1:
                self.blocked[thread] = None
        # Who is first to unblock a signal gets it; what is unblocked already goes to the leader, or the oldest.
        for sig in sorted(self.pending):
            wanting = [number for number, mask in enumerate(self.blocked) if mask is not None and sig not in mask]
            if wanting:
                self.taken.append((wanting[0], sig))
                self.pending.discard(sig)


group_steps = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["block", "unblock", "kill", "kill", "exit"]),
    st.sets(st.sampled_from((SIGUSR1, SIGUSR2)), min_size=1),
)


@pytest.mark.parametrize("where", CONFIGURATIONS, ids=lambda where: where.name)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(story=st.lists(group_steps, max_size=15))
def test_each_signal_is_taken_by_one_thread_as_in_the_model(where: Configuration, story: list[Any]) -> None:
    """Threads take turns; each turn is one step of the story, and ends when every signal is dealt with."""
    model, taken = GroupModel(3), []

    def thread(sys: Any, number: int, tids: dict[int, int]) -> None:
        tids[sys.gettid()] = number
        for turn, (who, what, signals) in enumerate(story):
            sleep_until(sys, turn + 1)
            if who != number or model.blocked[number] is None:
                continue
            model.step(number, what, signals)
            match what:
                case "kill":
                    for sig in sorted(signals):
                        sys.kill(sys.getpid(), sig)
                case "exit":
                    if model.blocked[number] is None:
                        sys.exit_thread()
                case _:
                    sys.sigprocmask(SIG_BLOCK if what == "block" else SIG_UNBLOCK, signals)
        sleep_until(sys, len(story) + 2)

    def main(sys: Any) -> None:
        tids: dict[int, int] = {}
        for sig in (SIGUSR1, SIGUSR2):
            sys.sigaction(sig, lambda sys, sig: taken.append((tids[sys.gettid()], sig)))
        for number in (1, 2):
            sys.clone_thread(thread, number, tids)
        thread(sys, 0, tids)
        sys.exit_thread(0)

    options = {"host": where.host, "switch": where.switch, "clock": "virtual", "loglevel": 0}
    with lkl_start_kernel(lambda: run_program(main), **options) as kernel:
        assert kernel.run() == 0, kernel.printk.text()
        assert kernel.signals.threads == {}
    assert sorted(taken) == sorted(model.taken)


def sleep_until(sys: Any, ms: int) -> None:
    """Sleep, however many signals come."""
    while (left := ms * MS - sys.clock_gettime()) > 0:
        with suppress(InterruptedError):
            sys.nanosleep(left)


def test_parity_of_thread_groups(parity):
    def second(sys, argv, envp):
        sys.clone_thread(lambda sys: sys.pause())
        sys.clone_thread(lambda sys: sys.nanosleep(MS) or sys.exit(9))
        sys.exit_thread(1)

    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: sys.gettid())
        sys.clone_thread(lambda sys: sys.pause())
        sys.clone_thread(lambda sys: sys.nanosleep(MS) or sys.execve("/bin/second"))
        sys.kill(sys.getpid(), SIGUSR1)
        sys.pause()

    def init():
        current_kernel().register_program("/bin/second", second)
        assert run_program(main) == 9

    assert "sched_process_exec: filename=/bin/second pid=4 old_pid=6" in parity(init)
