"""System calls, raw and through `sys`, from the application, kernel threads and user programs."""

from __future__ import annotations

import errno
import os

import pytest
from programs import run_program, start

from lkl_green import KernelBug, RunReason
from lkl_green.kernel.kernel import VERSION
from lkl_green.kernel.unistd import (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    LINUX_REBOOT_CMD_HALT,
    LINUX_REBOOT_CMD_POWER_OFF,
    LINUX_REBOOT_CMD_RESTART,
    LINUX_REBOOT_MAGIC1,
    LINUX_REBOOT_MAGIC2,
    NR_clock_gettime,
    NR_exit,
    NR_getpid,
    NR_getppid,
    NR_gettid,
    NR_kill,
    NR_nanosleep,
    NR_reboot,
    NR_sched_yield,
    NR_uname,
    NR_wait4,
    Utsname,
)
from lkl_green.linux import (
    SIGCHLD,
    SIGKILL,
    TASK_RUNNING,
    current,
    current_kernel,
    do_exit,
    kernel_thread,
    kernel_wait4,
    kthread_run,
    ktime_get,
    msleep,
    request_irq,
    schedule,
    send_sig,
)

NR_OURS = 500
NR_NONE = 9999
MS = 1_000_000
SIGTERM = 15
REBOOT = (NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2)


def from_application(boot, story):
    """Let `story(raw, sys)` make its calls as the application."""
    kernel = boot()
    return story(kernel.lkl_syscall, kernel.sys)


def from_kernel_thread(boot, story):
    """The same in a kernel thread."""

    def init():
        kernel = current_kernel()
        return story(kernel.lkl_syscall, kernel.sys)

    return boot(init).run()


def from_user_program(boot, story):
    """The same in a user program; its raw calls are those that its `sys` makes."""
    results = []

    def main(sys):
        results.append(story(sys._raw, sys))

    boot(lambda: run_program(main)).run()
    return results[0]


CALLERS = {"application": from_application, "kernel thread": from_kernel_thread, "user program": from_user_program}


@pytest.fixture(params=CALLERS)
def call(request, boot):
    """call(story): the result of `story(raw, sys)`, whose calls come from each of the three sides."""
    return lambda story: CALLERS[request.param](boot, story)


# -- the table


def test_a_raw_call_gives_an_int_and_never_raises(call):
    def story(raw, sys):
        return raw(NR_sched_yield), raw(NR_nanosleep, -1), raw(NR_kill, 77, SIGKILL), raw(NR_clock_gettime, 5)

    assert call(story) == (0, -errno.EINVAL, -errno.ESRCH, -errno.EINVAL)


def test_sys_raises_what_the_raw_call_returns(call):
    def story(raw, sys):
        errors = []
        for attempt in (lambda: sys.nanosleep(-1), lambda: sys.kill(77, SIGKILL), lambda: sys.clock_gettime(5)):
            with pytest.raises(OSError) as caught:
                attempt()
            errors.append((type(caught.value), caught.value.errno))
        return errors

    assert call(story) == [(OSError, errno.EINVAL), (ProcessLookupError, errno.ESRCH), (OSError, errno.EINVAL)]


@pytest.mark.parametrize("nr", [NR_NONE, -1, 499, 1 << 40])
def test_an_unknown_number_is_enosys(call, nr):
    def story(raw, sys):
        return raw(nr), raw(nr, "with", "parameters")

    assert call(story) == (-errno.ENOSYS, -errno.ENOSYS)


@pytest.mark.parametrize("trace", [False, True])
def test_a_call_may_be_installed_and_returns_an_int_or_nothing(boot, log, trace):
    def ours(*params):
        log.append(params)
        return 11 if params else None

    kernel = boot(trace=trace)
    kernel.syscalls.install(NR_OURS, "ours", ours)
    assert kernel.lkl_syscall(NR_OURS) == 0
    assert kernel.lkl_syscall(NR_OURS, 1, "two", None, 4, 5, 6) == 11
    assert log == [(), (1, "two", None, 4, 5, 6)]


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize(
    ("error", "result"),
    [
        (OSError(errno.ENODEV, "no device"), -errno.ENODEV),
        (FileNotFoundError(errno.ENOENT, "no file"), -errno.ENOENT),
        (OSError("without an errno"), -errno.EIO),
    ],
)
def test_an_oserror_in_a_call_is_its_negative_errno(boot, trace, error, result):
    def ours():
        raise error

    kernel = boot(trace=trace)
    kernel.syscalls.install(NR_OURS, "ours", ours)
    assert kernel.lkl_syscall(NR_OURS) == result


@pytest.mark.parametrize("trace", [False, True])
def test_a_keyerror_in_a_call_is_not_taken_for_an_unknown_number(boot, trace):
    def ours():
        return {}["missing"]

    kernel = boot(trace=trace)
    kernel.syscalls.install(NR_OURS, "ours", ours)
    with pytest.raises(KeyError, match="missing"):
        kernel.lkl_syscall(NR_OURS)


def test_calls_are_traced_with_number_parameters_and_result(boot):
    kernel = boot(trace=True)
    kernel.lkl_syscall(NR_kill, 77, SIGKILL)
    kernel.lkl_syscall(NR_uname, Utsname())
    records = [(record.event, *record.fields) for record in kernel.trace_stop() if record.event.startswith("sys_")]
    assert records == [
        ("sys_enter", NR_kill, "0x4d, 0x9"),
        ("sys_exit", NR_kill, -errno.ESRCH),
        ("sys_enter", NR_uname, "Utsname"),
        ("sys_exit", NR_uname, 0),
    ]


# -- who one is


def test_the_application_is_a_thread_of_init(kernel):
    sys = kernel.sys
    assert (sys.getpid(), sys.gettid(), sys.getppid()) == (1, 4, 0)
    assert kernel.lkl_syscall(NR_gettid) == 4


def test_a_kernel_thread_is_itself(run, log):
    def look(_=None):
        sys = current_kernel().sys
        log.append((sys.getpid(), sys.gettid(), sys.getppid(), current().pid))

    def init():
        look()
        kernel_thread(lambda _: look() or do_exit(0))
        schedule()
        kthread_run(look, name="kthread")
        schedule()

    run(init)
    assert log == [(1, 1, 0, 1), (4, 4, 1, 4), (5, 5, 2, 5)]


def test_a_user_program_is_the_process_that_was_started(run, log):
    def main(sys):
        log.append((sys.getpid(), sys.gettid(), sys.getppid()))
        log.append((sys._raw(NR_getpid), sys._raw(NR_gettid), sys._raw(NR_getppid)))

    run(lambda: run_program(main))
    assert log == [(4, 4, 1)] * 2


def test_uname(call, configuration):
    def story(raw, sys):
        buffer = Utsname()
        assert raw(NR_uname, buffer) == 0
        name = sys.uname()
        assert repr(buffer) == repr(name)
        return name.sysname, name.nodename, name.release, name.machine, name.version

    assert call(story)[:4] == ("Linux", "lkl0", VERSION, "lkl_green")
    assert call(story)[4].startswith("#1 ")


def test_uname_knows_the_kernels_name(boot):
    assert boot(name="other").sys.uname().nodename == "other"


# -- time


def test_nanosleep_and_clock_gettime(call):
    def story(raw, sys):
        before = sys.clock_gettime()
        sys.nanosleep(5 * MS)
        between = raw(NR_clock_gettime, CLOCK_MONOTONIC)
        raw(NR_nanosleep, 7 * MS)
        after = sys.clock_gettime(CLOCK_REALTIME)
        return between - before, after - between

    first, second = call(story)
    assert 5 * MS <= first < 6 * MS
    assert 7 * MS <= second < 8 * MS


def test_clock_gettime_is_the_kernels_clock(run):
    def init():
        before = ktime_get()
        return before <= current_kernel().sys.clock_gettime() <= ktime_get()

    assert run(init) is True


def test_a_sleep_of_nothing_is_a_sleep(call):
    assert call(lambda raw, sys: (raw(NR_nanosleep, 0), sys.nanosleep(0))) == (0, None)


def test_a_signal_ends_a_sleep_with_eintr_once(run, log):
    def main(sys):
        sys.sigaction(SIGTERM, lambda sys, sig: None)
        log.append(sys._raw(NR_nanosleep, 1000 * MS))
        log.append((ktime_get() < 10 * MS, sys._raw(NR_nanosleep, MS)))

    def init():
        pid = start(main)
        msleep(1)
        send_sig(SIGTERM, current_kernel().pids.tasks[pid])
        kernel_wait4(pid)

    run(init)
    assert log == [-errno.EINTR, (True, 0)]


def test_a_signal_is_an_interruptederror_through_sys(run, log):
    def main(sys):
        sys.sigaction(SIGTERM, lambda sys, sig: None)
        with pytest.raises(InterruptedError):
            sys.nanosleep(1000 * MS)
        log.append("interrupted")

    def init():
        pid = start(main)
        msleep(1)
        current_kernel().sys.kill(pid, SIGTERM)
        kernel_wait4(pid)

    run(init)
    assert log == ["interrupted"]


def test_sched_yield_lets_others_run(run, log):
    def program(name):
        def main(sys):
            for _ in range(3):
                log.append(name)
                sys.sched_yield()

        return main

    def init():
        pids = [start(program(name), path=f"/bin/{name}") for name in ("a", "b")]
        for pid in pids:
            kernel_wait4(pid)

    run(init)
    assert log == ["a", "b"] * 3


def test_the_applications_sched_yield_runs_what_is_runnable(kernel, log):
    kernel.lkl_run()
    irq = kernel.lkl_get_free_irq("dev")
    kernel.irq.request_irq(irq, log.append, "dev")
    kernel.lkl_trigger_irq(irq)
    assert kernel.lkl_syscall(NR_sched_yield) == 0
    assert log == [irq]


def test_every_call_of_a_user_program_is_a_scheduling_point(run, log):
    """The instruction enters the kernel, which delivers interrupts on the way back."""

    def main(sys):
        kernel = current_kernel()
        irq = kernel.lkl_get_free_irq("dev")
        request_irq(irq, lambda irq: log.append("handler"), "dev")
        kernel.lkl_trigger_irq(irq)
        log.append("before")
        sys.getpid()
        log.append("after")

    run(lambda: run_program(main))
    assert log == ["before", "handler", "after"]


# -- signals


@pytest.mark.parametrize("sig", [-1, 65, 1000])
def test_kill_with_a_bad_signal_is_einval(call, sig):
    assert call(lambda raw, sys: (raw(NR_kill, 1, sig), raw(NR_kill, 77, sig))) == (-errno.EINVAL, -errno.ESRCH)


def test_kill_ends_the_victim_wherever_the_call_comes_from(boot, log):
    def main(sys):
        try:
            sys.nanosleep(1000 * MS)
        finally:
            log.append("victim ends")

    def init():
        pid = start(main)
        log.append(kernel_wait4(pid))

    kernel = boot(init)
    kernel.lkl_run()
    assert kernel.lkl_syscall(NR_kill, 4, SIGKILL) == 0
    kernel.run()
    assert log == ["victim ends", (4, SIGKILL)]


def test_kill_0_only_asks(call):
    assert call(lambda raw, sys: (raw(NR_kill, 1, 0), raw(NR_kill, 77, 0))) == (0, -errno.ESRCH)


def test_kill_0_interrupts_nobody(run, log):
    def main(sys):
        log.append(sys.kill(sys.getppid(), 0))
        log.append(sys.kill(sys.getpid(), 0))
        sys.nanosleep(MS)
        log.append("not interrupted")

    run(lambda: run_program(main))
    assert log == [None, None, "not interrupted"]


def test_kernel_threads_ignore_signals(run, log):
    def sleeper():
        log.append("sleeps")
        log.append(current_kernel().lkl_syscall(NR_nanosleep, 5 * MS))

    def init():
        task = kthread_run(sleeper, name="sleeper")
        schedule()
        log.append(current_kernel().lkl_syscall(NR_kill, task.pid, SIGKILL))
        msleep(10)

    run(init)
    assert log == ["sleeps", 0, 0]


# -- ends


@pytest.mark.parametrize("command", [LINUX_REBOOT_CMD_RESTART, LINUX_REBOOT_CMD_HALT, LINUX_REBOOT_CMD_POWER_OFF])
def test_reboot_from_the_application_halts(kernel, command):
    assert kernel.lkl_syscall(*REBOOT, command) == 0
    assert kernel.lkl_run().reason is RunReason.HALTED
    assert kernel.lkl_syscall(NR_getpid) == -errno.ESHUTDOWN


def test_reboot_through_sys_powers_off(kernel):
    assert kernel.sys.reboot() is None
    assert kernel.lkl_run().reason is RunReason.HALTED
    with pytest.raises(OSError) as caught:
        kernel.sys.getpid()
    assert caught.value.errno == errno.ESHUTDOWN


@pytest.mark.parametrize("who", ["kernel thread", "user program"])
def test_reboot_from_inside_ends_everybody_at_the_next_scheduling_point(run, log, who):
    def reboot(sys):
        try:
            sys.reboot()
            log.append("returns")
            msleep(1)
            log.append("never")
        finally:
            log.append("finally")

    def init():
        if who == "user program":
            run_program(reboot)
        else:
            reboot(current_kernel().sys)

    run(init)
    assert log == (["returns", "finally"] if who == "kernel thread" else ["finally"])


@pytest.mark.parametrize(
    "params",
    [
        (0, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART),
        (LINUX_REBOOT_MAGIC1, 0, LINUX_REBOOT_CMD_RESTART),
        (LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, 0),
    ],
)
def test_reboot_with_wrong_numbers_is_einval_and_halts_nothing(call, params):
    def story(raw, sys):
        return raw(NR_reboot, *params), sys.nanosleep(MS), sys.getpid() > 0

    assert call(story) == (-errno.EINVAL, None, True)


def test_exit_from_the_application_ends_its_host_task_only(kernel):
    assert kernel.lkl_syscall(NR_gettid) == 4
    kernel.lkl_syscall(NR_exit, 3)
    assert kernel.lkl_syscall(NR_gettid) == 5


def test_exit_ends_a_kernel_thread(run):
    def child(_):
        current_kernel().lkl_syscall(NR_exit, 6)

    assert run(lambda: kernel_wait4(kernel_thread(child, flags=SIGCHLD))) == (4, 6)


def test_wait4_raw_gives_the_pid_and_puts_a_status_word_where_it_was_told(run, log):
    """Linux's word: what `os` of Python makes of it is right."""

    def main(sys):
        status = [None]
        for end in (lambda sys: 5, lambda sys: sys.kill(sys.getpid(), SIGTERM)):
            pid = sys.clone(end)
            log.append((sys._raw(NR_wait4, pid, status, 0) == pid, status[0]))
        log.append(sys._raw(NR_wait4, pid, status, 0))

    run(lambda: run_program(main))
    assert log == [(True, 0x500), (True, SIGTERM), -errno.ECHILD]
    assert os.waitstatus_to_exitcode(0x500) == 5
    assert os.waitstatus_to_exitcode(SIGTERM) == -SIGTERM


def test_the_application_has_no_children_to_wait_for(kernel):
    assert kernel.lkl_syscall(NR_wait4, -1, [0], 0) == -errno.ECHILD


# -- misuse


def test_a_program_cannot_use_the_sys_of_another(run, log):
    def main(sys):
        def thief(own):
            with pytest.raises(KernelBug, match="each process uses the `sys` it was given"):
                sys.getpid()
            log.append(own.getpid())

        sys.wait4(sys.clone(thief))

    run(lambda: run_program(main))
    assert log == [5]


def test_a_call_in_an_interrupt_handler_is_a_bug_and_not_the_interrupted_tasks_call(run, log):
    def init():
        kernel = current_kernel()

        def handler(irq):
            with pytest.raises(KernelBug, match="in an interrupt handler"):
                kernel.lkl_syscall(NR_getpid)
            log.append("refused")

        irq = kernel.lkl_get_free_irq("dev")
        request_irq(irq, handler, "dev")
        kernel.lkl_trigger_irq(irq)
        schedule()
        return current().state == TASK_RUNNING

    assert run(init) is True
    assert log == ["refused"]


# -- the same everywhere


def test_calls_trace_equally_in_all_configurations(parity):
    def main(sys):
        sys.uname()
        sys.clock_gettime()
        sys._raw(NR_NONE, 1)
        sys.nanosleep(MS)
        sys.wait4(sys.clone(lambda sys: sys.sched_yield()))

    def init():
        sys = current_kernel().sys
        sys.gettid()
        run_program(main)
        sys.nanosleep(MS)
        sys.reboot()

    text = parity(init)
    assert f"sys_enter: NR {NR_NONE} (0x1)" in text
    assert f"sys_exit: NR {NR_NONE} = -38" in text
