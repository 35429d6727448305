"""User programs started by the kernel: call_usermodehelper() in its three modes, and its errors."""

from __future__ import annotations

import errno
import signal

import pytest

from lkl_green import KernelBug, KernelPanic
from lkl_green.errors import SchedulingWhileAtomic
from lkl_green.linux import (
    SIGTERM,
    UMH_NO_WAIT,
    UMH_WAIT_EXEC,
    UMH_WAIT_PROC,
    Task,
    TermSignal,
    Timer,
    call_usermodehelper,
    current,
    current_kernel,
    kernel_wait4,
    kthread_run,
    ktime_get,
    mod_timer,
    msleep,
    schedule,
)

MS = 1_000_000
MODES = [UMH_NO_WAIT, UMH_WAIT_EXEC, UMH_WAIT_PROC]
NR_OURS = 500


def register(main, path="/sbin/helper"):
    current_kernel().register_program(path, main)
    return path


def comms():
    return [task.comm for task in current_kernel().pids]


def slow(log):
    """A program that takes a while."""

    def main(sys, argv, envp):
        log.append("program begins")
        sys.nanosleep(5 * MS)
        log.append("program ends")
        return 3

    return main


# -- the three modes


def test_no_wait_returns_before_the_program_has_begun(run, log):
    def init():
        log.append(call_usermodehelper(register(slow(log)), wait=UMH_NO_WAIT))
        msleep(20)

    run(init)
    assert log == [0, "program begins", "program ends"]


def test_wait_exec_returns_when_the_program_has_been_found(run, log):
    def init():
        log.append((call_usermodehelper(register(slow(log)), wait=UMH_WAIT_EXEC), "helper" in comms()))
        log.append(ktime_get() < 5 * MS)
        msleep(20)

    run(init)
    assert log == ["program begins", (0, True), True, "program ends"]


def test_wait_proc_returns_the_exit_code(run, log):
    def init():
        log.append(call_usermodehelper(register(slow(log)), wait=UMH_WAIT_PROC))

    run(init)
    assert log == ["program begins", "program ends", 3]


def test_an_exit_code_and_the_death_by_the_signal_of_that_number_are_told_apart(run):
    def init():
        exits = register(lambda sys, argv, envp: SIGTERM)
        code = call_usermodehelper(exits, wait=UMH_WAIT_PROC)
        dies = register(lambda sys, argv, envp: sys.kill(sys.getpid(), SIGTERM))
        return code, call_usermodehelper(dies, wait=UMH_WAIT_PROC)

    result = run(init)
    assert result == (SIGTERM, SIGTERM)
    assert [isinstance(code, TermSignal) for code in result] == [False, True]


def test_waiting_for_the_exec_is_what_one_gets_without_asking(run, log):
    def init():
        with pytest.raises(FileNotFoundError):
            call_usermodehelper("/sbin/missing")
        log.append(call_usermodehelper(register(slow(log))))
        msleep(20)

    run(init)
    assert log == ["program begins", 0, "program ends"]


# -- what the program gets


def test_the_program_gets_copies_of_its_arguments_and_environment(run, log):
    def main(sys, argv, envp):
        log.append((list(argv), dict(envp)))
        argv.clear()
        envp.clear()

    def init():
        argv, envp = ["modprobe", "-q"], {"HOME": "/"}
        call_usermodehelper(register(main), argv, envp, wait=UMH_WAIT_PROC)
        log.append((argv, envp))

    run(init)
    assert log == [(["modprobe", "-q"], {"HOME": "/"})] * 2


@pytest.mark.parametrize("mode", MODES)
def test_what_is_changed_after_the_call_does_not_reach_the_program(run, log, mode):
    def init():
        argv, envp = ["modprobe"], {"HOME": "/"}
        call_usermodehelper(register(lambda sys, argv, envp: log.append((argv, envp))), argv, envp, wait=mode)
        argv.append("too late")
        envp["TOO"] = "late"
        msleep(1)

    run(init)
    assert log == [(["modprobe"], {"HOME": "/"})]


def test_without_arguments_there_is_the_path(run, log):
    def init():
        call_usermodehelper(register(lambda sys, argv, envp: log.append((argv, envp))), wait=UMH_WAIT_PROC)

    run(init)
    assert log == [(["/sbin/helper"], {})]


def test_the_program_is_a_process_of_its_own_and_not_a_child_of_the_caller(run, log):
    def main(sys, argv, envp):
        log.append((sys.getpid() == current().pid, current().comm, current().parent.comm))

    def init():
        call_usermodehelper(register(main), wait=UMH_WAIT_PROC)
        with pytest.raises(ChildProcessError):
            kernel_wait4()
        log.append("nothing to wait for")

    run(init)
    assert log == [(True, "helper", "kworker/u:umh"), "nothing to wait for"]


def test_a_user_process_may_cause_a_helper_to_run(run, log):
    """As a request for a module does: the process in the system call cannot have kernel threads, but may ask."""

    def helper(sys, argv, envp):
        log.append("helper")
        return 4

    def main(sys, argv, envp):
        log.append("program")
        return sys._call(NR_OURS)

    def init():
        path = register(helper)
        current_kernel().syscalls.install(NR_OURS, "ours", lambda: call_usermodehelper(path, wait=UMH_WAIT_PROC))
        return call_usermodehelper(register(main, "/bin/main"), wait=UMH_WAIT_PROC)

    assert run(init) == 4
    assert log == ["program", "helper"]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_left_behind(run, log, mode):
    def init():
        call_usermodehelper(register(lambda sys, argv, envp: log.append("ran")), wait=mode)
        msleep(1)
        return comms()

    assert run(init) == ["init", "kthreadd", "ksoftirqd/0"]
    assert log == ["ran"]


@pytest.mark.parametrize("mode", MODES)
def test_an_init_that_waits_for_its_children_does_not_get_helpers(run, log, mode):
    def init():
        with pytest.raises(ChildProcessError):
            kernel_wait4()  # from now on, orphans that are zombies are kept for it
        call_usermodehelper(register(lambda sys, argv, envp: log.append("ran")), wait=mode)
        msleep(1)
        with pytest.raises(ChildProcessError):
            kernel_wait4()
        return comms()

    assert run(init) == ["init", "kthreadd", "ksoftirqd/0"]
    assert log == ["ran"]


def test_two_helpers_run_side_by_side(run, log):
    def main(sys, argv, envp):
        for _ in range(2):
            log.append(argv[0])
            sys.nanosleep(MS)

    def caller(path, name):
        call_usermodehelper(path, [name], wait=UMH_WAIT_PROC)
        log.append(f"{name} is done")

    def init():
        path = register(main)
        for name in ("a", "b"):
            kthread_run(caller, path, name, name=name)
        msleep(10)

    run(init)
    assert log == ["a", "b", "a", "b", "a is done", "b is done"]


# -- errors


@pytest.mark.parametrize("mode", [UMH_WAIT_EXEC, UMH_WAIT_PROC])
def test_a_program_that_is_missing_is_enoent_for_who_waits(run, log, mode):
    def init():
        with pytest.raises(FileNotFoundError, match="could not be started") as caught:
            call_usermodehelper("/sbin/missing", wait=mode)
        log.append((caught.value.errno, caught.value.filename))
        msleep(1)
        log.append(comms())

    run(init)
    assert log == [(errno.ENOENT, "/sbin/missing"), ["init", "kthreadd", "ksoftirqd/0"]]


def test_who_does_not_wait_hears_nothing_of_a_missing_program(run, log):
    def init():
        log.append(call_usermodehelper("/sbin/missing", wait=UMH_NO_WAIT))
        msleep(1)
        log.append((comms(), current_kernel().printk.tainted))

    run(init)
    assert log == [0, (["init", "kthreadd", "ksoftirqd/0"], 0)]


@pytest.mark.parametrize("mode", MODES)
def test_no_pid_for_the_kernels_thread_is_the_callers_error(run, log, mode):
    def init():
        current_kernel().pids.limit = 4
        with pytest.raises(OSError, match="no free pid") as caught:
            call_usermodehelper(register(slow(log)), wait=mode)
        log.append(caught.value.errno)

    run(init)
    assert log == [errno.EAGAIN]


@pytest.mark.parametrize("mode", [UMH_WAIT_EXEC, UMH_WAIT_PROC])
def test_no_pid_for_the_program_is_the_callers_error_if_it_waits(run, log, mode):
    def init():
        current_kernel().pids.limit = 5
        with pytest.raises(OSError, match="could not be started") as caught:
            call_usermodehelper(register(slow(log)), wait=mode)
        log.append(caught.value.errno)

    run(init)
    assert log == [errno.EAGAIN]


def test_no_pid_for_the_program_harms_nobody_who_does_not_wait(run, log):
    def init():
        current_kernel().pids.limit = 5
        log.append(call_usermodehelper(register(slow(log)), wait=UMH_NO_WAIT))
        msleep(1)
        log.append(len(current_kernel().pids))

    run(init)
    assert log == [0, 3]


@pytest.mark.parametrize("wait", [3, -1, 7, None])
def test_an_unknown_mode_is_einval_and_starts_nothing(run, log, wait):
    def init():
        with pytest.raises(OSError, match="use UMH_NO_WAIT") as caught:
            call_usermodehelper(register(slow(log)), wait=wait)
        log.append(caught.value.errno)
        msleep(1)

    run(init)
    assert log == [errno.EINVAL]


@pytest.mark.parametrize("mistake", [{"argv": 5}, {"envp": 5}])
def test_a_mistake_in_the_arguments_is_raised_in_the_caller(run, log, mistake):
    def init():
        with pytest.raises(TypeError):
            call_usermodehelper(register(slow(log)), wait=UMH_NO_WAIT, **mistake)
        msleep(1)
        log.append(len(current_kernel().pids))

    run(init)
    assert log == [3]


def test_waiting_for_a_helper_is_sleeping_and_forbidden_in_a_timer(run):
    def init():
        path = register(lambda sys, argv, envp: 0)
        mod_timer(Timer(lambda timer: call_usermodehelper(path)), ktime_get() + MS)
        msleep(10)

    with pytest.raises(KernelPanic) as caught:
        run(init)
    assert isinstance(caught.value.__cause__, SchedulingWhileAtomic)


def test_the_exit_code_of_a_program_that_fails_reaches_the_caller(run):
    def main(sys, argv, envp):
        raise ValueError("on purpose")

    def init():
        return call_usermodehelper(register(main), wait=UMH_WAIT_PROC)

    assert run(init) == signal.SIGABRT


# -- a helper that does not come to its exec


def call_and_take_down(log, mode, is_victim):
    """A kthread calls; as soon as there is a task that `is_victim`, it is taken down."""
    kernel = current_kernel()
    path = register(lambda sys, argv, envp: log.append("ran"))

    def caller():
        try:
            log.append(call_usermodehelper(path, wait=mode))
        except OSError as error:
            log.append(error.errno)

    kthread_run(caller, name="caller")
    for _ in range(10):
        schedule()
        victims = [task for task in kernel.pids if is_victim(task)]
        if victims:
            break
    kernel.exits.take_down(victims[0])
    msleep(1)


@pytest.mark.parametrize("mode", [UMH_WAIT_EXEC, UMH_WAIT_PROC])
def test_the_caller_hears_of_a_thread_that_is_taken_down_before_it_has_run(run, log, mode):
    def init():
        call_and_take_down(log, mode, lambda task: task.comm == "kworker/u:umh" and task.kthread is None)
        return comms()

    assert run(init) == ["init", "kthreadd", "ksoftirqd/0"]
    assert log == [errno.ECHILD]


def test_the_caller_hears_of_a_helper_that_is_taken_down_while_it_waits_for_the_program(run, log):
    def init():
        call_and_take_down(log, UMH_WAIT_PROC, lambda task: task.comm == "kworker/u:umh" and task.wait_chldexit)

    run(init)
    assert errno.ECHILD in log


@pytest.mark.parametrize("mode", [UMH_WAIT_EXEC, UMH_WAIT_PROC])
def test_the_caller_hears_of_an_exec_that_fails_for_another_reason(run, log, mode):
    def init():
        kernel = current_kernel()

        def failing(*_):
            raise KernelBug("BUG: on purpose")

        kernel.exec._do_execve = failing
        with pytest.raises(OSError, match="could not be started") as caught:
            call_usermodehelper("/sbin/helper", wait=mode)
        return caught.value.errno

    assert run(init, on_oops="kill") == errno.ECHILD


def test_vfork_lets_the_parent_go_on_when_the_child_is_taken_down_before_it_has_run(run, log):
    def main(sys, argv, envp):
        log.append(sys.vfork(lambda sys: log.append("ran")) > 0)

    def init():
        kernel = current_kernel()
        call_usermodehelper(register(main), wait=UMH_NO_WAIT)
        children: list[Task] = []
        while not children:
            schedule()
            children = [task for task in kernel.pids if task.vfork_done is not None]
        kernel.exits.take_down(children[0])
        msleep(1)

    run(init)
    assert log == [True]


# -- the same everywhere


@pytest.mark.parametrize("mode", MODES)
def test_helpers_trace_equally_in_all_configurations(parity, mode):
    def main(sys, argv, envp):
        sys.nanosleep(MS)
        sys.sched_yield()
        return 2

    def init():
        path = register(main)
        for _ in range(2):
            call_usermodehelper(path, wait=mode)
            schedule()
        msleep(10)

    assert parity(init).count("sched_process_exec: filename=/sbin/helper") == 2
