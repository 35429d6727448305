"""Switching with LKL's protocol: rules 26 to 41, on both hosts. What the model without it does is in test_direct.py."""

from __future__ import annotations

import errno

import pytest
from greenlet import greenlet
from host.stories import in_os_thread

from lkl_green import RunReason
from lkl_green.arch.base import TIF_HOST_THREAD, TIF_SCHED_JB
from lkl_green.errors import KernelBug
from lkl_green.host.ops import LiveObjects
from lkl_green.kernel.sched import Scheduler
from lkl_green.kernel.task import FORK_PREEMPT_COUNT, TASK_OUTSIDE, state_letter
from lkl_green.kernel.unistd import NR_getpid, NR_gettid
from lkl_green.linux import (
    Completion,
    current,
    do_exit,
    kernel_thread,
    kthread_create,
    kthread_run,
    local_irq_restore,
    local_irq_save,
    msleep,
    preempt_disable,
    preempt_enable,
    wake_up_process,
    yield_,
)

from .foreign import ForeignThread, run_until
from .spy import KINDS, boot_spied, names_of

NR_OURS = 500


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def boot(kind):
    kernels = []

    def boot(init=None, *args, **options):
        kernel = boot_spied(kind, init, *args, **options)
        kernels.append(kernel)
        return kernel

    yield boot
    for kernel in kernels:
        kernel.lkl_sys_halt()
        assert kernel.host.live() == LiveObjects()


@pytest.fixture
def threads_kernel():
    """A kernel on OS threads, whose host tasks are borrowed by foreign OS threads."""
    kernel = boot_spied("threads", clock="monotonic")
    yield kernel
    kernel.lkl_sys_halt()
    assert kernel.host.live() == LiveObjects()


@pytest.fixture
def foreign(threads_kernel):
    """An OS thread of the application."""
    foreign = ForeignThread(threads_kernel)
    yield foreign
    foreign.end()


def test_rule_26_a_new_host_thread_first_sleeps_on_a_semaphore_of_count_0(boot, log):
    def init():
        host = kernel.host
        host.calls_made.clear()
        host.listening = True
        task = kthread_create(lambda: log.append("ran"), name="newborn")
        names = names_of(kernel)
        wake_up_process(task)
        yield_()
        host.listening = False
        log.append([call for call in host.told(names) if call[0] == "newborn"][:1])
        log.append([argument for _, operation, argument in host.calls_made if operation == "sem_alloc"])

    kernel = boot(init)
    kernel.run()
    assert log == ["ran", [("newborn", "sem_down", "newborn")], [0]]


def test_rule_27_the_steps_of_a_switch_and_their_order(boot, log):
    def other():
        yield_()

    def init():
        task = kthread_run(other, name="other")
        names.update(names_of(kernel))
        host = kernel.host
        host.listening = True
        yield_()  # init -> other -> init
        host.listening = False
        log.append(kernel.sched.last is task)

    names = {}
    kernel = boot(init)
    names[kernel.arch.cpu.lock] = "cpu.lock"
    kernel.run()
    calls = [(names[tid], operation, names[argument]) for tid, operation, argument in kernel.host.calls_made]
    assert calls[:4] == [
        ("init", "mutex_lock", "cpu.lock"),  # change_owner(other)
        ("init", "mutex_unlock", "cpu.lock"),
        ("init", "sem_up", "other"),
        ("init", "sem_down", "init"),
    ]
    assert log == [True]


def test_rule_27_a_switch_to_a_task_without_a_host_thread_is_a_bug(boot, log):
    def init():
        task = kthread_create(lambda: None, name="lost")
        tid, task.tid = task.tid, 0
        last = kernel.sched.last
        kernel.sched.last = current()
        try:
            task.switch_to()
        except KernelBug as error:
            log.append(str(error))
        kernel.sched.last, task.tid = last, tid

    kernel = boot(init)
    kernel.run()
    assert "which has no host thread" in log[0]
    assert len(log) == 1


def test_rule_28_after_waking_next_the_host_thread_of_prev_does_nothing_but_sleep(boot):
    def worker(turns):
        for _ in range(turns):
            yield_()

    def init():
        tasks = [kthread_create(worker, number, name="worker/%d") for number in (5, 6, 7)]
        for task in tasks:
            wake_up_process(task)
        kernel.host.listening = True
        for _ in range(5):
            yield_()
        kernel.host.listening = False

    kernel = boot(init)
    kernel.run()
    last_of = {}
    for tid, operation, _ in kernel.host.calls_made:
        if last_of.get(tid) == "sem_up":
            assert operation == "sem_down"
        last_of[tid] = operation
    assert sum(operation == "sem_up" for _, operation, _ in kernel.host.calls_made) > 15


def test_rule_29_a_switch_returns_the_task_that_ran_before_not_the_one_it_left(boot, log):
    def b():
        log.append(("b", kernel.sched.last.comm))
        yield_()

    def c():
        log.append(("c", kernel.sched.last.comm))
        yield_()

    def init():
        tasks = [kthread_create(b, name="b"), kthread_create(c, name="c")]
        for task in tasks:
            wake_up_process(task)
        yield_()
        log.append(("init", kernel.sched.last.comm))
        yield_()

    kernel = boot(init)
    kernel.run()
    assert log == [("b", "init"), ("c", "b"), ("init", "c")]


def test_rule_29_swapper_learns_who_really_ran_before(boot):
    kernel = boot()
    assert kernel.lkl_run().reason is RunReason.IDLE
    # swapper -> init -> kthreadd -> ksoftirqd -> swapper
    assert kernel.sched.last.comm == "ksoftirqd/0"


def test_rule_30_whoever_is_resumed_reads_what_the_one_who_left_wrote(boot, log):
    def worker(name):
        for _ in range(6):
            log.append((name, kernel.sched.last.comm))
            yield_()

    def init():
        for task in [kthread_create(worker, f"worker/{number}", name="%s") for number in range(5)]:
            wake_up_process(task)
        msleep(1)

    kernel = boot(init)
    kernel.run()
    names = [name for name, _ in log]
    assert len(names) == 30
    assert [before for _, before in log[1:]] == names[:-1]


def test_rule_31_a_newborn_finishes_the_switch_before_it_runs_its_function(boot, log, monkeypatch):
    schedule_tail = Scheduler.schedule_tail

    def noted(sched):
        log.append((sched.current.comm, "schedule_tail", sched.current.preempt_count))
        schedule_tail(sched)

    def newborn(arg):
        log.append((current().comm, arg, current().preempt_count))
        do_exit(0)

    def init():
        yield_()  # the others are born
        monkeypatch.setattr(Scheduler, "schedule_tail", noted)
        kernel_thread(newborn, "fn")
        yield_()
        monkeypatch.undo()
        log.append("the kernel reaped it")

    boot(init).run()
    assert log == [("init", "schedule_tail", FORK_PREEMPT_COUNT), ("init", "fn", 0), "the kernel reaped it"]


def test_rule_31_a_newborn_buries_the_dead_one_it_was_switched_to_from(boot, log):
    def second(arg):
        log.append(kernel.host.live().threads)
        do_exit(0)

    def first(arg):
        kernel_thread(second)
        log.append(kernel.host.live().threads)
        do_exit(0)

    def init():
        kernel_thread(first)
        msleep(1)

    kernel = boot(init)
    kernel.run()
    assert log == [5, 4]  # init, kthreadd, ksoftirqd, first, second


def test_rule_32_schedule_tail_runs_once_in_a_newborn_and_once_when_a_host_thread_comes_back(
    threads_kernel, foreign, log, monkeypatch
):
    schedule_tail = Scheduler.schedule_tail
    monkeypatch.setattr(
        Scheduler, "schedule_tail", lambda sched: (log.append(sched.current.comm), schedule_tail(sched))
    )
    kernel = threads_kernel
    kernel.lkl_run()
    for _ in range(3):
        foreign.syscall(NR_getpid)
    assert log == ["init", "kthreadd", "ksoftirqd/0", "host0", "host0", "host0"]


def test_rule_33_a_host_task_gets_a_semaphore_and_no_host_thread(threads_kernel, foreign):
    kernel = threads_kernel
    kernel.lkl_run()
    kernel.host.listening = True
    assert foreign.syscall(NR_getpid) == 1
    kernel.host.listening = False
    operations = [operation for _, operation, _ in kernel.host.calls_made]
    assert operations.count("sem_alloc") == 1
    assert operations.count("thread_create") == 0


@pytest.mark.parametrize("operation", ["sem_alloc", "thread_create"])
def test_rule_33_either_failing_is_enomem_for_the_one_who_forks(boot, log, operation):
    def init():
        kernel.host._fails_at[operation] = kernel.host.calls[operation] + 1
        before = kernel.host.live()
        try:
            kernel_thread(lambda arg: do_exit(0))
        except OSError as error:
            log.append(error.errno)
        assert kernel.host.live() == before
        log.append(len(kernel.pids))

    kernel = boot(init)
    kernel.run()
    assert log == [errno.ENOMEM, 3]


def test_rule_34_a_child_inherits_no_thread_flags_and_begins_with_preemption_off(threads_kernel, foreign, log):
    """LKL copies all flags of the parent (reference 5.12): the child of a host task would be taken for one."""
    kernel = threads_kernel

    def child(arg):
        log.append((current().thread_flags, current().tid != kernel.pids.tasks[4].tid))
        do_exit(0)

    def spawn():
        assert current().thread_flags & TIF_HOST_THREAD
        child_pid = kernel_thread(child)
        log.append(kernel.pids.tasks[child_pid].preempt_count)
        return child_pid

    kernel.syscalls.install(NR_OURS, "ours", spawn)
    assert foreign.syscall(NR_OURS) > 4
    kernel.lkl_run()
    assert log == [FORK_PREEMPT_COUNT, (0, True)]


def test_rule_35_a_host_task_learns_anew_which_thread_it_runs_on_and_is_current_there(threads_kernel, foreign, log):
    kernel = threads_kernel

    def look():
        task = current()
        log.append((task.comm, task.tid == kernel.host.thread_self() == kernel.arch.cpu.owner))
        return 0

    kernel.syscalls.install(NR_OURS, "ours", look)

    def calls():
        kernel.lkl_syscall(NR_OURS)
        kernel.pids.tasks[4].tid = 0  # it must not be believed
        return kernel.lkl_syscall(NR_OURS)

    assert foreign.call(calls) == 0
    assert log == [("host0", True), ("host0", True)]


def test_rule_36_a_host_thread_leaves_the_kernel_by_a_jump_out_of_schedule(threads_kernel, foreign):
    kernel = threads_kernel
    kernel.lkl_run()

    def call():
        me = kernel.host.thread_self()
        kernel.host.listening = True
        kernel.lkl_syscall(NR_getpid)
        kernel.host.listening = False
        return me

    me = foreign.call(call)
    mine = [
        operation for tid, operation, _ in kernel.host.calls_made if tid == me and not operation.startswith("mutex")
    ]
    assert mine == ["sem_down", "jmp_buf_set", "sem_up", "jmp_buf_longjmp"]


def test_rule_36_who_left_by_the_jump_does_not_own_the_cpu(threads_kernel, foreign):
    kernel = threads_kernel

    def call():
        kernel.lkl_syscall(NR_getpid)
        return kernel.host.thread_self()

    assert foreign.call(call) != kernel.arch.cpu.owner
    assert kernel.arch.cpu.owner == 0


def test_rule_36_only_a_host_task_may_leave_by_the_jump(boot, log):
    def init():
        with pytest.raises(KernelBug, match="not a host task"):
            kernel.arch.thread_sched_jb()
        log.append("refused")

    kernel = boot(init)
    kernel.run()
    assert log == ["refused"]


def test_rule_37_a_host_task_outside_the_kernel_sleeps_uninterruptibly_and_is_on_no_queue(threads_kernel, foreign):
    kernel = threads_kernel
    foreign.syscall(NR_getpid)
    task = kernel.pids.tasks[4]
    assert task.state == TASK_OUTSIDE
    assert state_letter(task) == "D"
    assert kernel.sched.policy.nr_running == 0
    assert kernel.host_tasks.outside(task)


def test_rule_38_the_flag_for_the_jump_is_used_up_by_one_switch(threads_kernel, foreign, log):
    kernel = threads_kernel
    done = Completion(kernel)

    def block():
        log.append(bool(current().thread_flags & TIF_SCHED_JB))
        done.wait_for_completion()  # an ordinary sleep on the same thread, which must come back here
        log.append(bool(current().thread_flags & TIF_SCHED_JB))
        return 7

    kernel.syscalls.install(NR_OURS, "ours", block)
    assert foreign.syscall(NR_getpid) == 1
    foreign.start(kernel.lkl_syscall, NR_OURS)
    run_until(kernel, lambda: log)
    kernel.lkl_run()
    done.complete()
    assert foreign.result() == 7
    assert log == [False, False]


def test_rule_39_the_task_of_a_host_thread_that_ended_exits_and_the_thread_does_not_wait_for_it(
    threads_kernel, foreign
):
    kernel = threads_kernel
    foreign.syscall(NR_getpid)
    foreign.end()
    task = kernel.pids.tasks[4]
    kernel.lkl_run()
    assert 4 not in kernel.pids.tasks
    assert task.exit_code == 0


def test_rule_40_preemption_and_interrupts_are_disabled_per_task(boot, log):
    def other():
        log.append(("other", current().preempt_count, current().irqs_disabled))

    def init():
        kthread_run(other, name="other")
        flags = local_irq_save()
        yield_()
        log.append(("init", current().preempt_count, current().irqs_disabled))
        local_irq_restore(flags)
        preempt_disable()
        log.append(("init", current().preempt_count, current().irqs_disabled))
        preempt_enable()

    boot(init).run()
    assert log == [("other", 0, False), ("init", 0, True), ("init", 1, False)]


def test_rule_41_the_task_that_ran_before_is_known_to_the_one_that_is_resumed(boot, log):
    def generation(left):
        born.append(current())
        if left:
            kernel_thread(generation, left - 1)
        do_exit(0)

    born = []

    def init():
        yield_()
        kernel_thread(generation, 3)
        yield_()
        log.append(kernel.sched.last)
        msleep(1)

    kernel = boot(init)
    kernel.run()
    assert log == [born[0]]


def test_a_foreign_call_is_served_by_the_task_of_its_thread_on_every_host(boot):
    kernel = boot(clock="monotonic")
    one, other = ForeignThread(kernel), ForeignThread(kernel)
    first = [one.syscall(NR_gettid), one.syscall(NR_gettid)]
    second = other.syscall(NR_gettid)
    one.end()
    other.end()
    assert first == [4, 4]
    assert second == 5
    assert in_os_thread(kernel.arch.runs_current) is False


def test_the_application_may_boot_run_call_and_halt_from_another_greenlet_each_time(boot, log):
    def init():
        for turn in range(3):
            log.append(turn)
            msleep(1)
        Completion().wait_for_completion()

    def in_a_greenlet(fn):
        box = []
        context = greenlet(lambda: box.append(fn()))
        context.switch()
        assert context.dead
        return box[0]

    kernel = in_a_greenlet(lambda: boot(init, open_ended=True))
    while len(log) < 3:
        in_a_greenlet(lambda: kernel.pause(kernel.lkl_run()))
    assert [in_a_greenlet(lambda: kernel.lkl_syscall(NR_gettid)) for _ in range(2)] == [4, 4]
    assert in_a_greenlet(kernel.lkl_sys_halt) == 0
