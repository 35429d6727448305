"""Birth of tasks: kernel_thread(), kernel_execve(), clone and execve: rules 75 to 83 (after Al Viro's design)."""

from __future__ import annotations

import errno
import inspect
import signal

import pytest
from programs import PROG, run_program, start

from lkl_green import KernelBug, KernelPanic, RunReason
from lkl_green.errors import BadKernelThread
from lkl_green.kernel.exec import user_mode
from lkl_green.kernel.fork import current_pt_regs
from lkl_green.kernel.syscall import NR_clone, NR_execve
from lkl_green.kernel.task import DEFAULT_PRIO, FORK_PREEMPT_COUNT, PF_KTHREAD, TASK_NEW
from lkl_green.linux import (
    CLONE_PARENT,
    CLONE_VFORK,
    SCHED_FIFO,
    SIGCHLD,
    SIGKILL,
    Completion,
    current,
    current_kernel,
    do_exit,
    kernel_execve,
    kernel_thread,
    kernel_wait4,
    kthread_run,
    kthread_stop,
    ktime_get,
    msleep,
    panic,
    sched_setscheduler,
    schedule,
    send_sig,
)

NR_OURS = 500
MS = 1_000_000


def task_of(pid):
    return current_kernel().pids.tasks[pid]


# -- rule 75: who may have kernel threads


def test_rule_75_a_kernel_thread_starts_a_kernel_thread_that_calls_fn_with_arg(run, log):
    def child(arg):
        log.append((arg, current().pid, current().parent.pid, bool(current().flags & PF_KTHREAD)))
        do_exit(0)

    def init():
        pid = kernel_thread(child, "the argument")
        log.append("forked")
        schedule()
        return pid

    assert run(init) == 4
    assert log == ["forked", ("the argument", 4, 1, True)]


def test_rule_75_a_user_process_cannot_start_a_kernel_thread(run, log):
    def main(sys):
        with pytest.raises(OSError, match="is a user process: it cannot have kernel threads") as caught:
            kernel_thread(log.append)
        log.append((caught.value.errno, len(current_kernel().pids)))

    run(lambda: run_program(main))
    assert log == [(errno.EPERM, 4)]


def test_rule_75_a_user_process_stays_one_through_fork_and_exec(run, log):
    def note(sys):
        log.append(bool(current().flags & PF_KTHREAD))

    def main(sys):
        note(sys)
        sys.wait4(sys.clone(note))
        sys.execve("/bin/note")

    def init():
        current_kernel().register_program("/bin/note", lambda sys, argv, envp: note(sys))
        run_program(main)

    run(init)
    assert log == [False, False, False]


# -- rule 76: how fn may end


def test_rule_76_fn_may_end_in_do_exit(run):
    def init():
        return kernel_wait4(kernel_thread(lambda _: do_exit(3), flags=SIGCHLD))

    assert run(init) == (4, 3)


def test_rule_76_fn_may_never_return(kernel):
    """kthreadd is such a thread, and it serves to the end."""
    assert kernel.lkl_run().reason is RunReason.IDLE
    assert kernel.kthreads.kthreadd in kernel.pids.tasks.values()


def test_rule_76_fn_may_end_in_panic(run):
    def init():
        kernel_thread(lambda _: panic("nothing left to run"))
        schedule()
        schedule()

    with pytest.raises(KernelPanic, match="nothing left to run"):
        run(init)


def test_rule_76_fn_returns_0_after_kernel_execve_and_proceeds_to_user_mode(run, log):
    def to_user(_):
        result = kernel_execve("/bin/prog")
        log.append(("still in the kernel", result))
        return result

    def init():
        current_kernel().register_program("/bin/prog", lambda sys, argv, envp: log.append("user mode") or 7)
        log.append(kernel_wait4(kernel_thread(to_user, flags=SIGCHLD)))

    run(init)
    assert log == [("still in the kernel", 0), "user mode", (4, 7)]


@pytest.mark.parametrize("value", [0, None, 1, -errno.ENOENT])
def test_rule_76_returning_without_exec_is_a_bug_with_a_name(run, value):
    def wrong(_):
        return value

    def init():
        kernel_thread(wrong)
        msleep(1)

    with pytest.raises(KernelPanic) as caught:
        run(init)
    bug = caught.value.__cause__
    assert isinstance(bug, BadKernelThread)
    assert f"wrong() returned {value!r} without a successful kernel_execve()" in str(bug)


def test_rule_76_returning_anything_but_0_after_exec_is_a_bug(run, log):
    def wrong(_):
        kernel_execve("/bin/prog")
        return 1

    def init():
        current_kernel().register_program("/bin/prog", lambda sys, argv, envp: log.append("never"))
        code = kernel_wait4(kernel_thread(wrong, flags=SIGCHLD))[1]
        return code, "returned 1 after kernel_execve()" in current_kernel().printk.text()

    assert run(init, on_oops="kill") == (signal.SIGSEGV, True)
    assert log == []


# -- rules 77 and 83: where a newborn begins


def test_rule_77_schedule_tail_runs_before_fn(run, log):
    """A newborn starts with preemption disabled; schedule_tail() is what enables it."""

    def child(_):
        log.append(("fn", current().preempt_count))
        schedule()
        do_exit(0)

    def init():
        sched = current_kernel().sched
        log.append(("forked", task_of(kernel_thread(child)).preempt_count))
        schedule()
        return sched.current is current()

    assert run(init) is True
    assert log == [("forked", FORK_PREEMPT_COUNT), ("fn", 0)]


def test_rule_77_schedule_tail_frees_the_task_that_died_before(run, log):
    def dies(_):
        do_exit(0)

    def init():
        kernel = current_kernel()
        freed, free = [], kernel.sched.on_dead
        kernel.sched.on_dead = lambda task: freed.append(task.pid) or free(task)
        kernel_thread(dies)
        kernel_thread(lambda _: log.append(list(freed)) or do_exit(0))
        schedule()
        return kernel.sched.releases_threads

    releases_threads = run(init)  # else a context serves one task after another
    assert log == [[4] if releases_threads else []]


def test_rule_83_a_newborn_never_returns_from_schedule(run, log):
    """Its stack begins at ret_from_fork(), which calls fn: there is no schedule() in it to return from."""

    def names():
        return [frame.function for frame in inspect.stack(0)]

    def child(_):
        names_at_birth = names()
        schedule()
        log.append((names_at_birth[:3], "schedule" in names_at_birth, names() == names_at_birth))
        do_exit(0)

    def init():
        kernel_thread(child)
        msleep(1)

    run(init)
    assert log == [(["names", "child", "ret_from_fork"], False, True)]


def test_rule_83_birth_in_the_trace(parity):
    def child(_):
        do_exit(0)

    def init():
        kernel_thread(child)
        schedule()

    text = parity(init)
    events = [line.split(": ", 1)[1] for line in text.splitlines() if "pid=4" in line]
    assert [event.split(":")[0] for event in events] == [
        "sched_process_fork",
        "sched_wakeup_new",
        "sched_switch",
        "sched_process_exit",
        "sched_switch",
    ]
    assert "child_pid=4" in events[0]
    assert "next_comm=init next_pid=4" in events[2]


# -- rule 78: copy_thread()


class Untouchable:
    """Whoever looks at it fails."""

    def _fail(self, *args):
        raise AssertionError("looked at")

    __bool__ = __eq__ = __len__ = __iter__ = __call__ = __repr__ = __str__ = __int__ = _fail
    __hash__ = None


def test_rule_78_fn_and_arg_are_passed_blindly(run, log):
    arg = Untouchable()

    def init():
        kernel_thread(lambda got: log.append(got is arg) or do_exit(0), arg)
        schedule()

    run(init)
    assert log == [True]


def test_rule_78_the_registers_of_a_new_kernel_thread_are_cleared(run, log):
    def init():
        child = task_of(kernel_thread(lambda _: do_exit(0)))
        regs = current_pt_regs(child)
        log.append((user_mode(regs), regs.pc, regs.args, regs.path))

    run(init)
    assert log == [(False, None, (), "")]


def test_rule_78_a_user_child_gets_a_copy_of_the_registers_and_a_place_to_start(run, log):
    def child(sys, arg):
        regs = current_pt_regs(current())
        log.append((regs.path, regs.pc is child, regs.args, arg))

    def main(sys):
        mine = current_pt_regs(current())
        sys.wait4(sys.clone(child, "arg"))
        log.append((mine is current().regs, mine.path, mine.pc is child))

    run(lambda: run_program(main))
    assert log == [(PROG, True, ("arg",), "arg"), (True, PROG, False)]


def test_rule_78_arg_is_not_kept_alive_by_the_task(run, log):
    def child(arg):
        log.append(current().arg)
        do_exit(0)

    def init():
        log.append(task_of(kernel_thread(child, "arg")).arg)
        schedule()

    run(init)
    assert log == ["arg", None]


# -- rule 79: kernel_execve()


def test_rule_79_success_is_0_and_only_the_registers_have_changed(run, log):
    def to_user(_):
        log.append(user_mode(current_pt_regs(current())))
        result = kernel_execve("/usr/bin/a-program-with-a-long-name", ["x", "y"], {"HOME": "/"})
        regs = current_pt_regs(current())
        log.append((result, user_mode(regs), regs.path, current().comm, bool(current().flags & PF_KTHREAD)))
        return result

    def main(sys, argv, envp):
        log.append((argv, envp))

    def init():
        current_kernel().register_program("/usr/bin/a-program-with-a-long-name", main)
        kernel_wait4(kernel_thread(to_user, flags=SIGCHLD))

    run(init)
    path = "/usr/bin/a-program-with-a-long-name"
    assert log == [False, (0, True, path, "a-program-with-", False), (["x", "y"], {"HOME": "/"})]


def test_rule_79_failure_is_an_errno_and_the_thread_stays_what_it_was(run, log):
    def to_user(_):
        try:
            kernel_execve("/bin/missing")
        except FileNotFoundError as error:
            log.append((error.errno, error.filename, current().comm, bool(current().flags & PF_KTHREAD)))
            log.append(user_mode(current_pt_regs(current())))
        do_exit(127)

    def init():
        log.append(kernel_wait4(kernel_thread(to_user, flags=SIGCHLD)))

    run(init)
    assert log == [(errno.ENOENT, "/bin/missing", "init", True), False, (4, 127)]


def test_rule_79_after_a_failure_another_program_may_be_tried(run):
    """As init tries /sbin/init, /etc/init, /bin/init and /bin/sh."""

    def to_user(_):
        for path in ("/sbin/init", "/etc/init", "/bin/sh"):
            try:
                return kernel_execve(path)
            except FileNotFoundError:
                continue
        return panic("No working init found")

    def init():
        current_kernel().register_program("/bin/sh", lambda sys, argv, envp: len(argv))
        return kernel_wait4(kernel_thread(to_user, flags=SIGCHLD))

    assert run(init) == (4, 1)


def test_rule_79_argv_is_copied_and_without_one_it_is_the_path(run, log):
    argv = ["a"]

    def main(sys, argv, envp):
        log.append(list(argv))
        argv.append("changed")

    def init():
        current_kernel().register_program("/p", main)
        kernel_wait4(kernel_thread(lambda _: kernel_execve("/p", argv), flags=SIGCHLD))
        kernel_wait4(kernel_thread(lambda _: kernel_execve("/p"), flags=SIGCHLD))

    run(init)
    assert (log, argv) == ([["a"], ["/p"]], ["a"])


# -- rule 80: nothing else makes a user process; idle tasks


def test_rule_80_kernel_execve_is_for_kernel_threads(run, log):
    def main(sys):
        with pytest.raises(OSError, match="is a user process already") as caught:
            kernel_execve(PROG)
        log.append(caught.value.errno)

    run(lambda: run_program(main))
    assert log == [errno.EINVAL]


def test_rule_80_a_kthread_ends_where_its_function_does_and_cannot_exec(run, log):
    """Linux's kthread() exits after its function, so that the program would be loaded and never run."""

    def work():
        with pytest.raises(OSError, match="is a kthread") as caught:
            kernel_execve(PROG)
        log.append((caught.value.errno, current().comm))

    def init():
        current_kernel().register_program(PROG, log.append)
        kthread_run(work, name="worker")
        msleep(1)

    run(init)
    assert log == [(errno.EINVAL, "worker")]


def test_rule_80_kernel_threads_never_clone_or_execve(run, log):
    def init():
        kernel = current_kernel()
        with pytest.raises(KernelBug, match="kernel threads never do fork"):
            kernel.lkl_syscall(NR_clone, SIGCHLD, print, ())
        log.append(kernel.lkl_syscall(NR_execve, PROG, [], {}))
        log.append((bool(current().flags & PF_KTHREAD), len(kernel.pids)))

    run(init)
    assert log == [-errno.EINVAL, (True, 3)]


def test_rule_80_a_future_idle_task_is_never_scheduled(run, log):
    def init():
        kernel = current_kernel()
        idle = kernel.fork.fork_idle()
        msleep(1)
        log.append(
            (idle.pid, idle.comm, idle.state, idle in kernel.pids.tasks.values(), user_mode(current_pt_regs(idle)))
        )

    run(init)
    assert log == [(0, "swapper", TASK_NEW, False, False)]


# -- rule 81: the public interface


def test_rule_81_anybody_may_ask_kthreadd_for_a_kernel_thread(run, log):
    """A user process may not call kernel_thread(), but a system call of it may use kthread_run()."""

    def work():
        log.append((current().comm, current().parent.comm, bool(current().flags & PF_KTHREAD)))
        return 5

    def main(sys):
        log.append(sys._call(NR_OURS))

    def init():
        def ours():
            helper = kthread_run(work, name="helper")
            schedule()
            return kthread_stop(helper)

        current_kernel().syscalls.install(NR_OURS, "ours", ours)
        run_program(main)

    run(init)
    assert log == [("helper", "kthreadd", True), 5]


def test_rule_81_what_the_asking_task_is_does_not_rub_off(run, log):
    """The low-level way inherits from whoever calls it; kthreadd's children inherit from kthreadd."""

    def note(_=None):
        log.append((current().comm, current().policy, current().prio))
        do_exit(0)

    def init():
        sched_setscheduler(current(), SCHED_FIFO, 7)
        kernel_thread(note)
        kthread_run(note, name="kthread")
        msleep(1)

    run(init)
    assert log == [("init", SCHED_FIFO, 92), ("kthread", 0, DEFAULT_PRIO)]


# -- rule 82: looking at registers


def test_rule_82_current_pt_regs_works_in_any_kernel_thread_and_in_any_system_call(run, log):
    def ours():
        regs = current_pt_regs(current())
        log.append((regs.path, user_mode(regs)))

    def init():
        kernel = current_kernel()
        kernel.syscalls.install(NR_OURS, "ours", ours)
        kernel.lkl_syscall(NR_OURS)
        run_program(lambda sys: sys._call(NR_OURS))

    run(init)
    assert log == [("", False), (PROG, True)]


def test_rule_82_the_registers_of_a_sleeping_process_show_what_it_runs(run, log):
    def init():
        pid = start(lambda sys: sys.nanosleep(10 * MS))
        msleep(1)
        regs = task_of(pid).regs
        log.append((regs.path, regs.args, user_mode(regs)))

    run(init)
    assert log == [(PROG, ([PROG], {}), True)]


# -- fork's own errors and flags


def test_without_a_free_pid_fork_fails_with_eagain(run, log):
    def init():
        current_kernel().pids.limit = 5
        kernel_thread(lambda _: do_exit(0))
        with pytest.raises(OSError, match="no free pid") as caught:
            kernel_thread(lambda _: do_exit(0))
        log.append(caught.value.errno)
        schedule()
        log.append(kernel_thread(lambda _: do_exit(0)))

    run(init)
    assert log == [errno.EAGAIN, 4]


def test_clone_parent_makes_a_sibling(run, log):
    def child(_):
        kernel_thread(lambda _: log.append(current().parent.pid) or do_exit(0), flags=CLONE_PARENT)
        do_exit(0)

    def init():
        kernel_thread(child)
        msleep(1)

    run(init)
    assert log == [1]


def test_a_vfork_parent_in_the_kernel_waits_for_the_exit_of_its_child(run, log):
    def child(_):
        msleep(5)
        log.append("child")
        do_exit(0)

    def init():
        kernel_thread(child, flags=CLONE_VFORK)
        log.append("parent")

    run(init)
    assert log == ["child", "parent"]


# -- clone, vfork, threads and execve in a running process


def test_clone_starts_a_child_in_the_same_program(run, log):
    def child(sys, word):
        log.append((word, sys.getpid(), sys.gettid(), sys.getppid()))
        return 9

    def main(sys):
        pid = sys.clone(child, "hello")
        log.append((sys.getpid(), pid))
        log.append(sys.wait4())

    run(lambda: run_program(main))
    assert log == [(4, 5), ("hello", 5, 5, 4), (5, 9)]


@pytest.mark.parametrize("end", ["exit", "execve", "return"])
def test_vfork_lets_the_parent_go_on_when_the_child_execs_or_exits(run, log, end):
    def child(sys):
        log.append("child")
        sys.nanosleep(5 * MS)
        log.append("child leaves")
        if end == "execve":
            sys.execve("/bin/long")
        elif end == "exit":
            sys.exit(1)

    def long(sys, argv, envp):
        sys.nanosleep(5 * MS)
        log.append("long program")

    def main(sys):
        pid = sys.vfork(child)
        log.append("parent")
        sys.wait4(pid)

    def init():
        current_kernel().register_program("/bin/long", long)
        run_program(main)

    run(init)
    assert log == ["child", "child leaves", "parent", "long program"][: 4 if end == "execve" else 3]


def test_a_failed_execve_does_not_release_the_vfork_parent(run, log):
    def child(sys):
        with pytest.raises(FileNotFoundError):
            sys.execve("/bin/missing")
        sys.sched_yield()
        log.append("child goes on")

    def main(sys):
        sys.vfork(child)
        log.append("parent")

    run(lambda: run_program(main))
    assert log == ["child goes on", "parent"]


def test_a_vfork_parent_that_is_killed_does_not_wait_for_the_child(run, log):
    def child(sys):
        sys.nanosleep(1000 * MS)
        log.append("child")

    def init():
        pid = start(lambda sys: sys.vfork(child))
        msleep(1)
        send_sig(SIGKILL, task_of(pid))
        log.append((kernel_wait4(pid), ktime_get() < 100 * MS))
        msleep(2000)

    run(init)
    assert log == [((4, SIGKILL), True), "child"]


def test_a_thread_shares_getpid_and_has_a_tid_of_its_own(run, log):
    done = []

    def thread(sys, word):
        log.append((word, sys.getpid(), sys.gettid(), sys.getppid()))
        done[0].complete()

    def main(sys):
        done.append(Completion())
        tid = sys.clone_thread(thread, "thread")
        done[0].wait_for_completion()
        log.append(("leader", sys.getpid(), sys.gettid(), tid, sys.getppid()))

    run(lambda: run_program(main))
    assert log == [("thread", 4, 5, 1), ("leader", 4, 4, 5, 1)]


def test_a_thread_is_no_child_to_wait_for(run, log):
    def main(sys):
        tid = sys.clone_thread(lambda sys: 3)
        with pytest.raises(ChildProcessError):
            sys.wait4(tid)
        with pytest.raises(ChildProcessError):
            sys.wait4()
        sys.sched_yield()
        log.append(tid in current_kernel().pids.tasks)

    run(lambda: run_program(main))
    assert log == [False]


def test_execve_replaces_the_program_and_keeps_the_process(run, log):
    def second(sys, argv, envp):
        log.append(("second", sys.getpid(), argv, envp, current().comm))
        return 6

    def main(sys):
        log.append(("first", sys.getpid()))
        try:
            sys.execve("/bin/second", ["2nd", "arg"], {"K": "V"})
        except Exception:
            log.append("a program cannot catch its own end")
        finally:
            log.append("the frames of the old program are left")

    def init():
        current_kernel().register_program("/bin/second", second)
        log.append(run_program(main))

    run(init)
    assert log == [
        ("first", 4),
        "the frames of the old program are left",
        ("second", 4, ["2nd", "arg"], {"K": "V"}, "second"),
        6,
    ]


def test_execve_of_what_is_missing_raises_and_the_program_goes_on(run, log):
    def main(sys):
        with pytest.raises(FileNotFoundError) as caught:
            sys.execve("/bin/missing")
        log.append((caught.value.errno, current().comm))
        return 4

    assert run(lambda: run_program(main)) == 4
    assert log == [(errno.ENOENT, "prog")]


def test_many_execs_in_a_row_do_not_deepen_the_stack(run):
    def again(sys, argv, envp):
        left = int(argv[0])
        if not left:
            return len(inspect.stack(0))
        return sys.execve("/again", [str(left - 1)])

    def init():
        current_kernel().register_program("/again", again)
        once = kernel_wait4(kernel_thread(lambda _: kernel_execve("/again", ["1"]), flags=SIGCHLD))[1]
        often = kernel_wait4(kernel_thread(lambda _: kernel_execve("/again", ["300"]), flags=SIGCHLD))[1]
        return once == often

    assert run(init) is True


def test_a_program_is_registered_under_an_absolute_path(kernel):
    with pytest.raises(ValueError, match="absolute"):
        kernel.register_program("sh", print)


def test_init_may_become_a_user_program_whose_exit_code_is_the_result(run, log):
    def main(sys, argv, envp):
        log.append((sys.getpid(), sys.getppid(), current().comm))
        return 7

    def init():
        current_kernel().register_program("/sbin/init", main)
        return kernel_execve("/sbin/init")

    assert run(init) == 7
    assert log == [(1, 0, "init")]


def test_rule_76_holds_for_init_too(run):
    def init():
        current_kernel().register_program("/sbin/init", lambda sys, argv, envp: 7)
        kernel_execve("/sbin/init")
        return 1

    with pytest.raises(KernelPanic) as caught:
        run(init)
    assert isinstance(caught.value.__cause__, BadKernelThread)


def test_a_program_runs_the_same_in_all_configurations(parity):
    def child(sys, number):
        sys.nanosleep(number * MS)
        return number

    def other(sys, argv, envp):
        for _ in range(3):
            sys.sched_yield()
        return len(argv)

    def main(sys):
        sys.clone(child, 3)
        sys.clone(child, 1)
        sys.vfork(lambda sys: sys.execve("/bin/other", ["a", "b"]))
        return sum(sys.wait4()[1] for _ in range(3))

    def init():
        current_kernel().register_program("/bin/other", other)
        return run_program(main)

    text = parity(init)
    assert text.count("sched_process_exec: filename=/bin/other pid=7 old_pid=7") == 1
    assert text.count("sched_process_exit") >= 5


def test_an_exception_in_a_user_program_kills_its_process_only(run, log):
    def careless(sys, argv, envp):
        try:
            raise ValueError("a bug of the program's")
        finally:
            log.append("unwound")

    def spawn(_arg):
        return kernel_execve("/bin/careless")

    def init():
        kernel = current_kernel()
        kernel.register_program("/bin/careless", careless)
        child = kernel.fork.kernel_thread(spawn, flags=SIGCHLD)
        log.append(kernel_wait4(child.pid)[1])
        log.append("ValueError: a bug of the program's" in kernel.printk.text())

    run(init)
    assert log == ["unwound", signal.SIGABRT, True]


def test_an_exception_in_init_as_a_user_program_is_a_panic(run):
    def careless(sys, argv, envp):
        raise ValueError("a bug of the program's")

    def init():
        current_kernel().register_program("/sbin/init", careless)
        return kernel_execve("/sbin/init")

    with pytest.raises(KernelPanic, match="ValueError in init"):
        run(init)
