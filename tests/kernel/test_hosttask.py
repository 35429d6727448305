"""System calls of the application: host tasks, and idle without a task for it. Rules 48 to 63.

The same stories in the three configurations, although the call of a foreign OS thread runs on that thread in one of
them (it borrows its host task, LKL's way) and in a context of the host task's own in the others.
"""

from __future__ import annotations

import errno
import gc
import weakref

import pytest
from arch.foreign import ForeignThread, run_until

from lkl_green import Deadlock, FaultyHost, GreenletHost, HaltTimeout, RunReason, ThreadHost, lkl_start_kernel
from lkl_green.errors import KernelPanic
from lkl_green.kernel.task import TASK_OUTSIDE, state_letter
from lkl_green.kernel.unistd import (
    LINUX_REBOOT_CMD_RESTART,
    LINUX_REBOOT_MAGIC1,
    LINUX_REBOOT_MAGIC2,
    NR_execve,
    NR_exit,
    NR_getpid,
    NR_getppid,
    NR_gettid,
    NR_nanosleep,
    NR_reboot,
    NR_sched_yield,
)
from lkl_green.linux import Completion, current, kthread_run, msleep, yield_

NR_OURS = 500
REBOOT = (NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART)


@pytest.fixture(params=["virtual", "monotonic"])
def kernel(request, boot):
    """A kernel that stays up, under each clock."""
    return boot(clock=request.param)


@pytest.fixture
def foreign(kernel):
    """An OS thread of the application."""
    foreign = ForeignThread(kernel)
    yield foreign
    foreign.end()


@pytest.fixture
def others(kernel):
    """Three more."""
    others = [ForeignThread(kernel) for _ in range(3)]
    yield others
    for other in others:
        other.end()


class Application:
    """Calls of the owner's OS thread, in the words of a `ForeignThread`."""

    def __init__(self, kernel):
        self._kernel = kernel

    def call(self, fn, *args):
        return fn(*args)

    def syscall(self, nr, *params):
        return self._kernel.lkl_syscall(nr, *params)


@pytest.fixture(params=["owner", "foreign"])
def caller(request, kernel):
    """Either OS thread: the same is true for both."""
    return Application(kernel) if request.param == "owner" else request.getfixturevalue("foreign")


def host_tasks(kernel):
    return [task.comm for task in kernel.pids if task.comm.startswith("host")]


# -- lkl_syscall()


def test_rule_48_a_call_runs_as_the_callers_host_task_and_its_result_comes_back(kernel, caller, log):
    def ours(*params):
        log.append((current().comm, params))
        return 42

    kernel.syscalls.install(NR_OURS, "ours", ours)
    assert caller.syscall(NR_OURS, 1, "two") == 42
    assert log == [("host0", (1, "two"))]


def test_rule_48_reboot_returns_to_its_caller_and_halts_the_kernel(kernel, caller):
    assert caller.syscall(*REBOOT) == 0
    kernel.lkl_run()
    assert kernel.halted
    assert caller.syscall(NR_getpid) == -errno.ESHUTDOWN


def test_rule_49_a_thread_has_one_host_task_and_keeps_it(kernel, caller):
    tids = [caller.syscall(NR_gettid) for _ in range(3)]
    assert tids == [4, 4, 4]
    assert host_tasks(kernel) == ["host0"]


def test_rule_49_each_thread_has_its_own(kernel, foreign, others):
    tids = [thread.syscall(NR_gettid) for thread in [foreign, *others, foreign, *others]]
    tids.append(kernel.lkl_syscall(NR_gettid))
    assert tids == [4, 5, 6, 7, 4, 5, 6, 7, 8]
    assert host_tasks(kernel) == ["host0", "host1", "host2", "host3", "host4"]


def test_rule_50_a_host_task_is_a_thread_of_init(kernel, caller):
    assert caller.syscall(NR_getpid) == 1
    assert caller.syscall(NR_gettid) == 4
    task = kernel.pids.tasks[4]
    assert (task.comm, task.parent, task.tgid, task.exit_signal) == ("host0", kernel.init_task, 1, 0)


@pytest.mark.parametrize("operation", ["sem_alloc", "thread_create", "tls_set"])
@pytest.mark.parametrize("who", ["owner", "foreign"])
def test_rule_50_a_host_task_that_cannot_be_made_is_an_error_of_the_call(boot, configuration, operation, who):
    inner = GreenletHost() if configuration["host"] == "greenlet" else ThreadHost()
    kernel = boot(host=FaultyHost(inner, operation, 0))
    thread = Application(kernel) if who == "owner" else ForeignThread(kernel)
    kernel.lkl_run()
    before = kernel.host.live()
    kernel.host._fails_at[operation] = kernel.host.calls[operation] + 1
    fails = kernel.host.calls[operation]
    result = thread.syscall(NR_gettid)
    if kernel.host.calls[operation] > fails:
        assert result == -errno.ENOMEM
        assert kernel.host.live() == before
    assert thread.syscall(NR_gettid) > 3
    if who == "foreign":
        thread.end()


def test_rule_51_a_thread_may_be_a_process_of_its_own(kernel, foreign):
    foreign.call(kernel.new_thread_group_leader)
    pid = foreign.syscall(NR_getpid)
    assert (pid, foreign.syscall(NR_gettid), foreign.syscall(NR_getppid)) == (4, 4, 1)
    foreign.end()
    run_until(kernel, lambda: not host_tasks(kernel))
    assert len(kernel.pids) == 3, "nobody has to wait for it"


def test_rule_51_that_has_to_be_said_before_the_first_call(kernel, caller):
    caller.syscall(NR_getpid)
    with pytest.raises(OSError) as caught:
        caller.call(kernel.new_thread_group_leader)
    assert caught.value.errno == errno.EBUSY
    assert caller.syscall(NR_getpid) == 1


@pytest.mark.parametrize("nr", [-1, 450, 10**9])
def test_rule_52_an_unknown_number_is_enosys(kernel, caller, nr):
    assert caller.syscall(nr) == -errno.ENOSYS


def test_rule_53_the_host_task_of_a_thread_that_ends_goes_too(kernel, foreign):
    foreign.syscall(NR_getpid)
    task = kernel.pids.tasks[4]
    foreign.end()
    run_until(kernel, lambda: not host_tasks(kernel))
    assert (task.exit_code, len(kernel.pids)) == (0, 3)
    assert task not in (kernel.init_task.children or {})


def test_rule_53_many_threads_leave_nothing_behind(kernel):
    before = kernel.host.live()
    refs = []
    for _ in range(20):
        thread = ForeignThread(kernel)
        assert thread.syscall(NR_getpid) == 1
        refs.append(weakref.ref(next(task for task in kernel.pids if task.comm.startswith("host"))))
        thread.end()
        run_until(kernel, lambda: not host_tasks(kernel))
    assert kernel.host.live() == before
    gc.collect()
    assert sum(ref() is not None for ref in refs) <= 2


def test_rule_53_a_thread_may_end_after_the_kernel_has(kernel, foreign, others):
    for thread in (foreign, *others):
        thread.syscall(NR_getpid)
    kernel.lkl_sys_halt()
    foreign.end()
    assert kernel.lkl_is_running() is False


def test_rule_53_a_thread_may_end_without_ever_having_called(kernel):
    ForeignThread(kernel).end()
    thread = ForeignThread(kernel)
    thread.call(kernel.new_thread_group_leader)
    thread.end()
    kernel.lkl_run()
    assert host_tasks(kernel) == []


def test_rule_55_two_threads_in_calls_at_once_do_not_wake_each_other(kernel, foreign, others, log):
    """Without thread-local storage LKL's host threads share host0, and wrong ones are woken."""
    gates = [Completion(kernel, f"gate {number}") for number in range(4)]

    def ours(number):
        gates[number].wait_for_completion()
        log.append((number, current().comm))
        return number

    kernel.syscalls.install(NR_OURS, "ours", ours)
    threads = [foreign, *others]
    for number, thread in enumerate(threads):
        thread.start(kernel.lkl_syscall, NR_OURS, number)
        run_until(kernel, lambda number=number: len(host_tasks(kernel)) == number + 1)
    kernel.lkl_run()
    for number in (2, 0, 3, 1):
        gates[number].complete()
        assert threads[number].result() == number
    assert log == [(2, "host2"), (0, "host0"), (3, "host3"), (1, "host1")]


def test_rule_56_a_call_that_blocks_gives_the_kernel_to_others(kernel, foreign, others, log):
    """LKL's test syscall_thread: one thread can only go on when another has made its call."""
    full, empty = Completion(kernel, "full"), Completion(kernel, "empty")

    def read():
        full.wait_for_completion()
        log.append("read")
        empty.complete()
        return 1

    def write():
        log.append("write")
        full.complete()
        empty.wait_for_completion()
        log.append("written")
        return 2

    kernel.syscalls.install(NR_OURS, "read", read)
    kernel.syscalls.install(NR_OURS + 1, "write", write)
    foreign.start(kernel.lkl_syscall, NR_OURS)
    run_until(kernel, lambda: host_tasks(kernel))
    assert others[0].syscall(NR_OURS + 1) == 2
    assert foreign.result() == 1
    assert log == ["write", "read", "written"]


def test_rule_57_a_running_kernel_thread_is_not_preempted_by_a_call(boot, log):
    def init():
        foreign.start(kernel.lkl_syscall, NR_OURS)
        while not kernel.host_tasks.posts:
            pass  # the call has come, and this thread computes on
        log.append("init computed")
        msleep(1)
        return "done"

    kernel = boot(init, clock="monotonic")
    kernel.syscalls.install(NR_OURS, "ours", lambda: log.append("the call"))
    foreign = ForeignThread(kernel)
    assert kernel.run() == "done"
    assert foreign.result() == 0
    foreign.end()
    assert log == ["init computed", "the call"]


# -- misfortunes


def test_a_call_before_the_kernel_ever_ran_is_served(kernel, foreign):
    foreign.start(kernel.lkl_syscall, NR_gettid)
    run_until(kernel, lambda: not foreign.busy)
    assert foreign.result() == 4


def test_a_call_that_raises_is_the_callers_to_see_and_the_host_task_lives_on(kernel, caller):
    def ours(number):
        return 100 // number

    kernel.syscalls.install(NR_OURS, "ours", ours)
    with pytest.raises(ZeroDivisionError):
        caller.syscall(NR_OURS, 0)
    with pytest.raises(TypeError):
        caller.syscall(NR_OURS)
    assert caller.syscall(NR_OURS, 5) == 20
    assert host_tasks(kernel) == ["host0"]


def test_exit_ends_the_host_task_and_the_next_call_gets_a_new_one(kernel, caller):
    assert caller.syscall(NR_gettid) == 4
    assert caller.syscall(NR_exit, 0) < 0
    assert caller.syscall(NR_gettid) == 5
    assert host_tasks(kernel) == ["host1"]


def test_the_application_cannot_exec(kernel, caller):
    kernel.register_program("/bin/true", lambda sys, argv, envp: 0)
    assert caller.syscall(NR_execve, "/bin/true", (), None) == -errno.EINVAL
    assert caller.syscall(NR_gettid) == 4


def test_a_kernel_thread_that_calls_needs_no_host_task(boot, log):
    def init():
        log.append((kernel.lkl_syscall(NR_gettid), kernel.lkl_syscall(NR_getpid)))

    kernel = boot(init)
    kernel.run()
    assert log == [(1, 1)]
    assert host_tasks(kernel) == []


def test_a_call_that_never_returns_is_a_deadlock_and_the_next_call_is_not_taken_for_its_end(kernel):
    """The second call must not pass for the wake-up that the first one waits for."""
    gate = Completion(kernel, "the gate")

    def ours():
        gate.wait_for_completion()
        return 7

    kernel.syscalls.install(NR_OURS, "ours", ours)
    for _ in range(2):
        with pytest.raises(Deadlock, match="host0-4"):
            kernel.lkl_syscall(NR_OURS)
        assert gate.done == 0
    gate.complete()
    assert kernel.lkl_syscall(NR_gettid) == 4


@pytest.mark.parametrize("taken_in", [False, True], ids=["still in the box", "taken in"])
def test_a_call_that_the_halt_overtakes_is_told_so(kernel, foreign, taken_in):
    foreign.start(kernel.lkl_syscall, NR_getpid)
    for _ in range(10_000):
        if kernel.host_tasks.posts:
            break
        foreign._done.wait(0.001)
    if taken_in:
        kernel.host_tasks.take_posts()
    kernel.lkl_sys_halt()
    assert foreign.result() == -errno.ESHUTDOWN


@pytest.mark.parametrize("again", [False, True], ids=["first call", "later call"])
def test_a_call_that_is_queued_to_run_when_the_kernel_halts_is_told_so(boot, again):
    kernel = boot(clock="monotonic")
    foreign = ForeignThread(kernel)
    if again:
        foreign.syscall(NR_getpid)
    foreign.start(kernel.lkl_syscall, NR_getpid)
    for _ in range(10_000):
        if kernel.host_tasks.posts:
            break
        foreign._done.wait(0.001)
    kernel.host_tasks.take_posts()  # its task is runnable now, and has not run
    assert foreign.busy
    kernel.power_off()
    assert kernel.lkl_run().reason is RunReason.HALTED
    assert foreign.result() == -errno.ESHUTDOWN
    foreign.end()


def test_threads_that_sleep_yield_and_block_in_calls_are_all_told_of_the_halt(kernel, foreign, others):
    kernel.syscalls.install(NR_OURS, "ours", lambda: Completion(kernel).wait_for_completion())

    def yield_for_ever():
        while (result := kernel.lkl_syscall(NR_sched_yield)) == 0:
            pass
        return result

    foreign.start(kernel.lkl_syscall, NR_nanosleep, 10**15)
    others[0].start(kernel.lkl_syscall, NR_OURS)
    others[1].start(yield_for_ever)
    others[2].syscall(NR_getpid)
    run_until(kernel, lambda: len(host_tasks(kernel)) == 4)
    kernel.lkl_run(max_switches=3)
    kernel.lkl_sys_halt()
    for thread in (foreign, others[0], others[1]):
        assert thread.result() == -errno.ESHUTDOWN
    assert others[2].syscall(NR_getpid) == -errno.ESHUTDOWN


def test_an_interrupted_call_of_the_owner_does_not_confuse_the_next_one(boot, log):
    """KeyboardInterrupt takes the application out of its call; the call itself goes on in its host task."""
    kernel = boot()

    def ours():
        kernel.loop.interrupted(KeyboardInterrupt())
        msleep(1)
        log.append("the interrupted call ended")
        return 1

    kernel.syscalls.install(NR_OURS, "ours", ours)
    with pytest.raises(KeyboardInterrupt):
        kernel.lkl_syscall(NR_OURS)
    assert log == []
    assert kernel.lkl_syscall(NR_gettid) == 4
    assert log == ["the interrupted call ended"]


def test_a_panic_in_a_call_is_raised_in_the_owner_and_answered_at_the_halt(boot):
    kernel = boot(clock="monotonic")
    foreign = ForeignThread(kernel)

    def ours():
        kernel.panic("no way")
        yield_()
        return 0

    kernel.syscalls.install(NR_OURS, "ours", ours)
    foreign.start(kernel.lkl_syscall, NR_OURS)
    with pytest.raises(KernelPanic, match="no way"):
        run_until(kernel, lambda: False)
    kernel.lkl_sys_halt()
    assert foreign.result() == -errno.ESHUTDOWN
    foreign.end()


def test_one_thread_may_call_two_kernels(boot):
    one, two = boot(), boot()
    thread = ForeignThread(one)
    assert thread.syscall(NR_gettid) == 4
    thread.start(two.lkl_syscall, NR_gettid)
    run_until(two, lambda: not thread.busy)
    assert thread.result() == 4
    assert (host_tasks(one), host_tasks(two)) == (["host0"], ["host0"])
    thread.end()


def test_many_threads_call_at_once(kernel):
    threads = [ForeignThread(kernel) for _ in range(12)]

    def calls():
        tids = {kernel.lkl_syscall(NR_gettid) for _ in range(10)}
        tids.add(kernel.lkl_syscall(NR_sched_yield) or kernel.lkl_syscall(NR_gettid))
        return tids

    for thread in threads:
        thread.start(calls)
    results = [thread.result() for thread in threads]
    assert all(len(tids) == 1 for tids in results)
    assert set.union(*results) == set(range(4, 16))
    for thread in threads:
        thread.end()
    run_until(kernel, lambda: not host_tasks(kernel))


def test_waiting_outside_is_no_deadlock(boot):
    """A host task between two calls waits for the application, not for another task."""

    def init():
        Completion(name="never").wait_for_completion()

    kernel = boot(init)
    assert kernel.lkl_syscall(NR_gettid) == 4
    status = kernel.lkl_run()
    assert status.reason is RunReason.DEADLOCK
    assert "init-1" in status.report
    assert "host0" not in status.report


def test_a_call_from_two_greenlets_of_the_owner_uses_one_host_task(kernel):
    from greenlet import greenlet

    tids = [kernel.lkl_syscall(NR_gettid)]
    tids += [greenlet(kernel.lkl_syscall).switch(NR_gettid) for _ in range(3)]
    assert tids == [4] * 4


def test_the_trace_of_calls_is_the_same_in_all_configurations(parity):
    def init():
        kthread_run(lambda: msleep(3), name="worker")
        msleep(5)
        return 0

    assert "sched_switch" in parity(init)


# -- idle: rules 58 to 63. LKL's idle_host_task exists to own the CPU while it is given away in idle. Here the idle task
# is whoever called lkl_run(), and idle is its return: there is nobody to switch to, and no such task.


def test_rule_58_idle_looks_for_a_halt_then_for_interrupts_and_then_returns(boot, log):
    kernel = boot()
    irq = kernel.lkl_get_free_irq("test")
    kernel.irq.request_irq(irq, lambda irq: log.append("irq"), "test")
    kernel.lkl_run()
    kernel.lkl_trigger_irq(irq)
    assert kernel.lkl_run().reason is RunReason.IDLE
    assert log == ["irq"]
    kernel.power_off()
    assert kernel.lkl_run().reason is RunReason.HALTED


def test_rule_59_no_task_exists_only_to_release_the_cpu(boot):
    kernel = boot()
    assert kernel.lkl_run().reason is RunReason.IDLE
    assert [task.comm for task in kernel.pids] == ["init", "kthreadd", "ksoftirqd/0"]
    assert kernel.sched.current is kernel.sched.swapper
    assert not kernel.arch.runs_current()


def test_rule_60_going_idle_and_coming_back_cost_one_switch_each(boot):
    kernel = boot()
    kernel.lkl_syscall(NR_getpid)
    before = kernel.sched.nr_switches
    kernel.lkl_syscall(NR_getpid)
    assert kernel.sched.nr_switches - before == 2  # swapper -> host0 -> swapper


def test_rule_61_an_idle_kernel_does_not_spin(boot):
    kernel = boot(clock="monotonic")
    thread = ForeignThread(kernel)
    thread.syscall(NR_getpid)
    thread.end()
    run_until(kernel, lambda: not host_tasks(kernel))
    kernel.lkl_run()
    before = kernel.sched.nr_switches
    for _ in range(5):
        assert kernel.lkl_run().reason is RunReason.IDLE
    assert kernel.sched.nr_switches == before


def test_rule_62_the_kernel_never_sleeps_on_the_host_by_itself(boot, monkeypatch, log):
    """What Johannes Berg asked for: the application has full control of idle."""

    kernel = boot(lambda: msleep(10**6), clock="monotonic")
    monkeypatch.setattr(kernel.host, "idle_sleep", log.append)
    status = kernel.lkl_run()
    assert status.reason is RunReason.IDLE
    assert log == []
    kernel.pause(status)
    assert len(log) == 1


def test_rule_63_the_whole_loop_of_an_application_is_run_and_pause(boot, log):
    def init():
        for turn in range(3):
            log.append(turn)
            msleep(1)

    kernel = boot(init)
    while not kernel.halted:
        kernel.pause(kernel.lkl_run())
    assert log == [0, 1, 2]


def test_rule_37_a_host_task_outside_the_kernel_sleeps_in_every_configuration(kernel, caller):
    caller.syscall(NR_getpid)
    kernel.lkl_run()
    task = kernel.pids.tasks[4]
    assert task.state == TASK_OUTSIDE
    assert state_letter(task) == "D"
    assert kernel.host_tasks.outside(task)
    assert kernel.sched.policy.nr_running == 0


@pytest.mark.parametrize("what", ["calls", "ends"])
@pytest.mark.parametrize("known", [False, True], ids=["first call", "later call"])
def test_a_thread_that_calls_or_ends_while_the_kernel_halts(boot, what, known):
    """Its host task is being taken down, on another thread than its own; it must not get it back."""

    def init():
        try:
            msleep(10**6)
        finally:
            foreign.start(kernel.lkl_syscall, NR_getpid) if what == "calls" else foreign.end()
            while what == "calls" and not kernel.host_tasks.posts:
                pass
            yield_()

    kernel = boot(init, clock="monotonic")
    foreign = ForeignThread(kernel)
    kernel.lkl_run()
    if known:
        assert foreign.syscall(NR_gettid) == 4
    assert kernel.lkl_sys_halt() == 0
    if what == "calls":
        assert foreign.result() == -errno.ESHUTDOWN
    foreign.end()
    assert len(kernel.pids) == 0


def test_a_stray_wake_up_does_not_switch_to_a_thread_that_is_elsewhere(kernel, caller, log):
    """A waker that is late finds the task outside the kernel, where nobody stands who could run it."""
    kernel.syscalls.install(NR_OURS, "ours", lambda: log.append(current()))
    caller.syscall(NR_OURS)
    kernel.lkl_run()
    assert kernel.sched.wake_up_process(log[0]) is False
    assert kernel.lkl_run().reason is RunReason.IDLE
    assert caller.syscall(NR_gettid) == log[0].pid


def test_a_call_that_swallows_the_halt_ends_all_the_same(kernel, foreign):
    def ours():
        try:
            msleep(10**6)
        except BaseException:
            return 5

    kernel.syscalls.install(NR_OURS, "ours", ours)
    foreign.start(kernel.lkl_syscall, NR_OURS)
    run_until(kernel, lambda: host_tasks(kernel))
    kernel.lkl_run()
    assert kernel.lkl_sys_halt() == 0
    assert foreign.result() == 5
    assert len(kernel.pids) == 0


@pytest.mark.parametrize("name", ["direct", "hosted"])
def test_a_call_that_swallows_the_halt_for_ever_is_given_up_and_its_caller_told(name):
    """Where the call runs on the caller's own OS thread, that thread is lost with it."""

    def ours():
        while True:
            try:
                msleep(10**6)
            except BaseException:
                log.append("swallowed")

    log = []
    switch = {"direct": "direct", "hosted": "semaphore"}[name]
    kernel = lkl_start_kernel(None, loglevel=0, host=GreenletHost(console=log.append), switch=switch)
    kernel.syscalls.install(NR_OURS, "ours", ours)
    foreign = ForeignThread(kernel)
    foreign.start(kernel.lkl_syscall, NR_OURS)
    run_until(kernel, lambda: host_tasks(kernel))
    kernel.lkl_run()
    with pytest.raises(HaltTimeout, match="host0-4"):
        kernel.lkl_sys_halt()
    assert foreign.result() == -errno.ESHUTDOWN
    foreign.end()
    assert log.count("swallowed") > 5
