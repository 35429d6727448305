"""Ends of tasks: exit codes, zombies, reaping, orphans, and wait4()."""

from __future__ import annotations

import errno
import signal

import pytest
from programs import run_program, start

from lkl_green import Deadlock, KernelBug, KernelPanic
from lkl_green.kernel.task import EXIT_ZOMBIE
from lkl_green.kernel.unistd import WNOHANG
from lkl_green.linux import (
    CLONE_PARENT,
    SIGCHLD,
    SIGKILL,
    UMH_WAIT_PROC,
    Completion,
    Mutex,
    TermSignal,
    allow_signal,
    call_usermodehelper,
    current,
    current_kernel,
    do_exit,
    flush_signals,
    kernel_execve,
    kernel_thread,
    kernel_wait4,
    kthread_run,
    ktime_get,
    msleep,
    preempt_disable,
    schedule,
    send_sig,
    signal_pending,
)

MS = 1_000_000
SIGTERM = 15


def task_of(pid):
    return current_kernel().pids.tasks[pid]


def alive(pid):
    return pid in current_kernel().pids.tasks


def child(code, ms=0, flags=SIGCHLD):
    """A child that sleeps for a while and exits with `code`."""

    def fn(_):
        if ms:
            msleep(ms)
        do_exit(code)

    return kernel_thread(fn, flags=flags)


# -- exit codes


@pytest.mark.parametrize("code", [0, 1, 255, -1, None, "an object"])
def test_the_code_of_do_exit_is_what_wait4_sees(run, code):
    assert run(lambda: kernel_wait4(child(code))) == (4, code)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda sys: None, 0),
        (lambda sys: 3, 3),
        (lambda sys: True, 1),
        (lambda sys: sys.exit(4), 4),
        (lambda sys: sys.exit(), 0),
        (lambda sys: sys.kill(sys.getpid(), SIGKILL), SIGKILL),
    ],
    ids=["return None", "return 3", "return True", "exit(4)", "exit()", "kill itself"],
)
def test_how_a_user_program_ends_is_its_exit_code(run, end, code):
    assert run(lambda: run_program(end)) == code


WAYS_TO_EXIT = {
    "return": lambda sys, code: code,
    "exit": lambda sys, code: sys.exit(code),
    "exit_thread": lambda sys, code: sys.exit_thread(code),
}


@pytest.mark.parametrize("leave", WAYS_TO_EXIT.values(), ids=WAYS_TO_EXIT)
def test_of_the_exit_code_of_a_process_everybody_sees_the_low_byte(run, log, leave):
    def main(sys):
        log.append([sys.wait4(sys.clone(leave, code))[1] for code in (0, 255, 256, 300, -1)])
        leave(sys, 300)
        return 300

    def init():
        by_kernel_wait4 = run_program(main)
        current_kernel().register_program("/bin/helper", lambda sys, argv, envp: main(sys))
        return by_kernel_wait4, call_usermodehelper("/bin/helper", wait=UMH_WAIT_PROC)

    assert run(init) == (44, 44)
    assert log == [[0, 255, 0, 44, 255]] * 2


def test_the_exit_code_of_a_kernel_thread_is_what_it_said(run):
    def init():
        return [kernel_wait4(kernel_thread(do_exit, code, flags=SIGCHLD))[1] for code in (300, -errno.EINTR, "text")]

    assert run(init) == [300, -errno.EINTR, "text"]


def test_finally_runs_on_the_way_out_and_except_exception_does_not(run, log):
    def main(sys):
        try:
            sys.exit(5)
        except Exception:
            log.append("caught")
        finally:
            log.append("finally")

    assert run(lambda: run_program(main)) == 5
    assert log == ["finally"]


def test_a_program_that_returns_no_number_kills_its_process_and_nothing_else(run):
    assert run(lambda: run_program(lambda sys: "done")) == signal.SIGABRT


def test_an_exception_kills_the_process_and_nothing_else(run):
    def main(sys):
        raise ValueError("on purpose")

    def init():
        return run_program(main), "prog[4]: killed by ValueError: on purpose" in current_kernel().printk.text()

    assert run(init) == (signal.SIGABRT, True)


def test_a_bug_of_the_kernel_in_a_system_call_is_an_oops(run):
    def main(sys):
        raise KernelBug("BUG: on purpose")

    def init():
        return run_program(main), "Oops: prog-4: KernelBug" in current_kernel().printk.text()

    result = run(init, on_oops="kill")
    assert result == (signal.SIGSEGV, True)
    assert isinstance(result[0], TermSignal)
    with pytest.raises(KernelPanic, match="KernelBug in prog-4"):
        run(init)


def test_whoever_exits_with_preemption_disabled_is_warned_of_and_repaired(run, log):
    def atomic(_):
        preempt_disable()
        do_exit(0)

    def init():
        kernel_wait4(kernel_thread(atomic, flags=SIGCHLD))
        log.append(current_kernel().printk.tainted)
        return "exits with preemption or interrupts disabled" in current_kernel().printk.text()

    assert run(init) is True
    assert log == [1]


def test_whoever_exits_with_a_mutex_held_is_warned_of(run, log):
    def holder(mutex):
        mutex.lock()
        do_exit(0)

    def init():
        kernel_wait4(kernel_thread(holder, Mutex(name="m"), flags=SIGCHLD))
        log.append(current_kernel().printk.tainted)
        return "1 mutexes held" in current_kernel().printk.text()

    assert run(init) is True
    assert log == [1]


# -- zombies and autoreaping


def test_a_child_forked_with_sigchld_is_a_zombie_until_it_is_collected(run, log):
    def init():
        pid = child(3)
        msleep(1)
        log.append((task_of(pid).exit_state == EXIT_ZOMBIE, task_of(pid).exit_code))
        log.append((kernel_wait4(pid), alive(pid), len(current().children)))

    run(init)
    assert log[0] == (True, 3)
    assert log[1][:2] == ((4, 3), False)


def test_a_child_without_sigchld_is_reaped_at_once_and_nobody_can_wait_for_it(run, log):
    def init():
        pid = child(3, flags=0)
        with pytest.raises(ChildProcessError):
            kernel_wait4(pid)
        msleep(1)
        log.append(alive(pid))

    run(init)
    assert log == [False]


def test_the_pid_of_a_zombie_is_taken(run, log):
    def init():
        current_kernel().pids.limit = 5
        pid = child(3)
        msleep(1)
        with pytest.raises(OSError, match="no free pid"):
            child(4)
        kernel_wait4(pid)
        log.append((pid, child(5)))

    run(init)
    assert log == [(4, 4)]


def test_a_zombie_has_no_context_left(boot, log):
    """Only its task remains: what the host gave for its thread is given back before anybody collects it."""

    def init():
        before = current_kernel().host.live()
        pids = [child(0) for _ in range(3)]
        msleep(1)
        log.append([task_of(pid).exit_state == EXIT_ZOMBIE for pid in pids])
        if current_kernel().sched.releases_threads:
            assert current_kernel().host.live() == before
        for pid in pids:
            kernel_wait4(pid)

    boot(init).run()
    assert log == [[True] * 3]


def test_zombies_that_nobody_collected_do_not_come_to_life_at_the_halt(run, log):
    """The halt wakes every sleeping task, in order to end it; a zombie is not one of them."""

    def parent():
        child(3)
        child(4)
        try:
            msleep(1000)
        finally:
            log.append("parent ends")

    def init():
        task = kthread_run(parent, name="parent")
        msleep(1)
        log.append([zombie.exit_state == EXIT_ZOMBIE for zombie in task.children])
        return 5

    assert run(init) == 5
    assert log == [[True, True], "parent ends"]


def test_a_halt_among_zombies_traces_equally_everywhere(parity):
    def parent():
        child(3)
        child(4, ms=1)
        msleep(1000)

    def init():
        kthread_run(parent, name="parent")
        msleep(5)

    text = parity(init)
    assert text.count("sched_process_exit: comm=parent") == 3


# -- wait4


def test_wait4_sleeps_until_the_child_exits(run):
    def init():
        before = ktime_get()
        result = kernel_wait4(child(3, ms=7))
        return result, ktime_get() - before >= 7 * MS

    assert run(init) == ((4, 3), True)


def test_wait4_for_a_pid_takes_that_child_though_others_ended_before(run, log):
    def init():
        early, late = child("early"), child("late", ms=5)
        log.append(kernel_wait4(late))
        log.append(kernel_wait4(early))

    run(init)
    assert log == [(5, "late"), (4, "early")]


def test_wait4_for_any_takes_whoever_has_ended(run, log):
    def init():
        for code, ms in (("slow", 9), ("fast", 1), ("middle", 5)):
            child(code, ms)
        for _ in range(3):
            log.append(kernel_wait4())

    run(init)
    assert log == [(5, "fast"), (6, "middle"), (4, "slow")]


def test_wait4_takes_zombies_in_the_order_of_their_birth(run, log):
    """As Linux does, which goes through the list of children."""

    def init():
        for code, ms in (("slow", 9), ("fast", 1), ("middle", 5)):
            child(code, ms)
        msleep(20)
        for _ in range(3):
            log.append(kernel_wait4())

    run(init)
    assert log == [(4, "slow"), (5, "fast"), (6, "middle")]


@pytest.mark.parametrize("pid", [-1, 4, 0, 99, 1, -7])
@pytest.mark.parametrize("options", [0, WNOHANG])
def test_wait4_without_such_a_child_is_echild(run, log, pid, options):
    def init():
        with pytest.raises(ChildProcessError) as caught:
            kernel_wait4(pid, options)
        log.append(caught.value.errno)

    run(init)
    assert log == [errno.ECHILD]


def test_wait4_takes_each_child_once(run, log):
    def init():
        pid = child(0)
        log.append(kernel_wait4(pid))
        with pytest.raises(ChildProcessError):
            kernel_wait4(pid)
        with pytest.raises(ChildProcessError):
            kernel_wait4()

    run(init)
    assert log == [(4, 0)]


def test_wait4_does_not_take_grandchildren_or_children_of_others(run, log):
    def parent():
        log.append(child("grandchild"))
        msleep(5)

    def init():
        kthread_run(parent, name="parent")
        msleep(1)
        with pytest.raises(ChildProcessError):
            kernel_wait4(log[0])

    run(init)
    assert log == [5]


def test_a_child_made_with_clone_parent_is_the_grandparents_to_collect(run, log):
    def middle(_):
        kernel_thread(lambda _: do_exit("sibling"), flags=CLONE_PARENT | SIGCHLD)
        try:
            kernel_wait4()
        except ChildProcessError:
            do_exit("has no child")

    def init():
        kernel_thread(middle, flags=SIGCHLD)
        log.extend(sorted(kernel_wait4() for _ in range(2)))

    run(init)
    assert log == [(4, "has no child"), (5, "sibling")]


def test_wnohang_does_not_wait(run, log):
    def init():
        pid = child(3, ms=5)
        log.append(kernel_wait4(pid, WNOHANG))
        log.append(kernel_wait4(-1, WNOHANG))
        msleep(10)
        log.append(kernel_wait4(-1, WNOHANG))

    run(init)
    assert log == [(0, 0), (0, 0), (4, 3)]


def test_waiting_for_a_child_that_never_ends_is_a_deadlock_that_says_so(run):
    def forever(_):
        Completion(name="never").wait_for_completion()

    with pytest.raises(Deadlock, match="wait_chldexit of init-1"):
        run(lambda: kernel_wait4(kernel_thread(forever, flags=SIGCHLD)))


def test_a_signal_ends_wait4_with_eintr_and_the_child_is_still_there(run, log):
    def waiter():
        allow_signal(SIGTERM)
        pid = child("later", ms=10)
        try:
            kernel_wait4(pid)
        except InterruptedError as error:
            log.append((error.errno, signal_pending()))
        flush_signals()
        log.append(kernel_wait4(pid))

    def init():
        task = kthread_run(waiter, name="waiter")
        msleep(1)
        send_sig(SIGTERM, task)
        msleep(20)

    run(init)
    assert log == [(errno.EINTR, True), (5, "later")]


def test_a_kernel_thread_that_allows_no_signal_waits_on(run, log):
    def init():
        pid = child("later", ms=10)
        kthread_run(send_sig, SIGKILL, current(), name="killer")
        log.append(kernel_wait4(pid))

    run(init)
    assert log == [(4, "later")]


def test_a_user_process_can_wait_again_after_a_signal(run, log):
    """The signal is used up on the way back to user mode, or the second wait4() would not begin."""

    def main(sys):
        sys.sigaction(SIGTERM, lambda sys, sig: log.append(sig))
        pid = sys.clone(lambda sys: sys.nanosleep(10 * MS))
        for _ in range(3):
            try:
                log.append(sys.wait4(pid))
                break
            except InterruptedError:
                log.append("interrupted")

    def init():
        pid = start(main)
        msleep(1)
        send_sig(SIGTERM, task_of(pid))
        kernel_wait4(pid)

    run(init)
    assert log == [SIGTERM, "interrupted", (5, 0)]


def test_a_collected_child_beats_a_pending_signal(run, log):
    """wait4() looks before it sleeps: there is nothing to interrupt."""

    def waiter():
        allow_signal(SIGTERM)
        pid = child("done")
        schedule()
        send_sig(SIGTERM, current())
        log.append((kernel_wait4(pid), signal_pending()))

    def init():
        kthread_run(waiter, name="waiter")
        msleep(1)

    run(init)
    assert log == [((5, "done"), True)]


# -- orphans


def test_orphans_become_children_of_init(run, log):
    def parent(sys):
        sys.clone(orphan)
        sys.sched_yield()

    def orphan(sys):
        log.append(sys.getppid())
        sys.nanosleep(5 * MS)
        log.append(sys.getppid())

    def init():
        run_program(parent)
        msleep(10)

    run(init)
    assert log == [4, 1]


def test_init_collects_an_orphan_as_its_own(run, log):
    def orphan(sys):
        sys.nanosleep(5 * MS)
        return 9

    def init():
        log.append(run_program(lambda sys: sys.clone(orphan) and 1))
        log.append(kernel_wait4())

    run(init)
    assert log == [1, (5, 9)]


def test_an_orphan_of_an_init_that_does_not_wait_is_reaped_on_the_spot(run, log):
    def parent(_):
        child("orphan", ms=5)
        do_exit(0)

    def init():
        kernel_thread(parent)
        msleep(1)
        log.append((alive(5), task_of(5).parent.pid))
        msleep(10)
        log.append(alive(5))

    run(init)
    assert log == [(True, 1), False]


def test_a_zombie_whose_parent_dies_is_reaped_by_an_init_that_does_not_wait(run, log):
    def parent(_):
        child("zombie")
        msleep(5)
        do_exit(0)

    def init():
        kernel_thread(parent)
        msleep(1)
        log.append(task_of(5).exit_state == EXIT_ZOMBIE)
        msleep(10)
        log.append(alive(5))

    run(init)
    assert log == [True, False]


def test_a_zombie_whose_parent_dies_wakes_an_init_that_waits(run, log):
    def parent(_):
        child("zombie")
        msleep(5)
        do_exit("parent")

    def init():
        kernel_thread(parent, flags=SIGCHLD)
        log.extend(sorted(kernel_wait4() for _ in range(2)))

    run(init)
    assert log == [(4, "parent"), (5, "zombie")]


def test_kernel_threads_of_a_dead_parent_go_to_init_too(run, log):
    def parent(_):
        kernel_thread(grandchild)
        do_exit(0)

    def grandchild(_):
        msleep(5)
        log.append(current().parent.comm)
        do_exit(0)

    def init():
        kernel_thread(parent)
        msleep(10)

    run(init)
    assert log == ["init"]


def test_an_init_that_is_a_user_program_reaps_what_comes_to_it(run, log):
    def daemon(sys):
        sys.nanosleep(5 * MS)
        return 8

    def service(sys):
        sys.clone(daemon)
        return 2

    def main(sys, argv, envp):
        sys.clone(service)
        while True:
            try:
                log.append(sys.wait4())
            except ChildProcessError:
                return len(log)

    def init():
        current_kernel().register_program("/sbin/init", main)
        return kernel_execve("/sbin/init")

    assert run(init) == 2
    assert log == [(4, 2), (5, 8)]


# -- being killed


def test_sigkill_ends_a_sleeping_process_and_wakes_its_parent(run, log):
    def main(sys):
        try:
            sys.nanosleep(1000 * MS)
        finally:
            log.append("finally")

    def init():
        pid = start(main)
        msleep(1)
        send_sig(SIGKILL, task_of(pid))
        log.append((kernel_wait4(pid), ktime_get() < 100 * MS))

    run(init)
    assert log == ["finally", ((4, SIGKILL), True)]


def test_a_process_that_is_killed_before_its_first_step_runs_nothing(run, log):
    def main(sys):
        pid = sys.clone(lambda sys: log.append("ran"))
        send_sig(SIGKILL, task_of(pid))
        log.append(sys.wait4(pid))

    run(lambda: run_program(main))
    assert log == [(5, SIGKILL)]


def test_a_process_that_swallows_its_end_is_ended_at_its_next_system_call(run, log):
    def main(sys):
        for number in range(3):
            try:
                sys.nanosleep(10 * MS)
            except BaseException as error:
                log.append((number, type(error).__name__))
        log.append("returns")

    def init():
        pid = start(main)
        msleep(1)
        send_sig(SIGKILL, task_of(pid))
        log.append(kernel_wait4(pid)[0])

    run(init)
    assert log == [(0, "TaskExit"), (1, "TaskExit"), (2, "TaskExit"), "returns", 4]


# -- the same everywhere


def test_families_trace_equally_in_all_configurations(parity):
    def parent(sys, depth):
        for number in range(depth):
            sys.clone(parent, number)
        sys.nanosleep(depth * MS)
        if depth % 2:
            sys.wait4()
        return depth

    def init():
        total = run_program(lambda sys: parent(sys, 3))
        while True:
            try:
                total += kernel_wait4()[1]
            except ChildProcessError:
                return total

    text = parity(init)
    assert text.count("sched_process_exit") >= 8
