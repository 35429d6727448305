"""How a task's host thread is taken away, and what halting does about tasks that are left: rules 42 to 47."""

from __future__ import annotations

import pytest

from lkl_green.arch.base import TIF_HOST_THREAD
from lkl_green.host.ops import LiveObjects
from lkl_green.kernel.task import TASK_DEAD
from lkl_green.kernel.unistd import NR_getpid
from lkl_green.linux import (
    Completion,
    current,
    do_exit,
    kernel_thread,
    kthread_create,
    kthread_run,
    kthread_stop,
    msleep,
    wake_up_process,
    yield_,
)

from .foreign import ForeignThread
from .spy import KINDS, boot_spied, names_of


@pytest.fixture(params=KINDS)
def boot(request):
    kernels = []

    def boot(init=None, *args, **options):
        kernel = boot_spied(request.param, init, *args, **options)
        kernels.append(kernel)
        return kernel

    yield boot
    for kernel in kernels:
        kernel.lkl_sys_halt()
        assert kernel.host.live() == LiveObjects()


def watch_a_death(boot):
    """Let a thread end while somebody watches; what the host was asked to do from then on, and who is who."""
    names = {}

    def victim(arg):
        names.update(names_of(kernel))
        names[current().tid] = names[current().sched_sem] = "victim"
        kernel.host.listening = True
        do_exit(0)

    def init():
        yield_()
        kernel_thread(victim)
        yield_()
        kernel.host.listening = False

    kernel = boot(init)
    kernel.run()
    return [
        (names[tid], operation, names.get(argument))
        for tid, operation, argument in kernel.host.calls_made
        if not operation.startswith("mutex")
    ]


def test_rule_42_a_dead_task_is_marked_woken_joined_and_freed(boot):
    told = watch_a_death(boot)
    assert [call for call in told if call[0] == "init"] == [
        ("init", "sem_up", "victim"),
        ("init", "thread_join", "victim"),
        ("init", "sem_free", "victim"),
    ]


def test_rule_42_of_a_host_task_only_the_semaphore_is_freed():
    kernel = boot_spied("threads", clock="monotonic")
    foreign = ForeignThread(kernel)
    foreign.syscall(NR_getpid)
    task = kernel.pids.tasks[4]
    assert task.thread_flags & TIF_HOST_THREAD
    sem = task.sched_sem
    kernel.host.listening = True
    kernel.arch.release_thread(task)
    kernel.host.listening = False
    assert [call[1:] for call in kernel.host.calls_made] == [("sem_free", sem)]
    kernel.arch._alloc_thread_info(task)  # put it back, so that the kernel can halt
    kernel.lkl_sys_halt()
    foreign.end()
    assert kernel.host.live() == LiveObjects()


def test_rule_43_the_dying_thread_runs_no_kernel_code_once_it_has_switched_away(boot):
    told = watch_a_death(boot)
    assert [call for call in told if call[0] == "victim"] == [
        ("victim", "sem_up", "init"),
        ("victim", "sem_down", "victim"),
        ("victim", "thread_exit", None),
    ]


def test_rule_43_a_dead_task_is_never_run_again_whoever_wakes_it(boot, log):
    def victim():
        log.append("ran")

    def init():
        task = kthread_run(victim, name="victim")
        while task.state != TASK_DEAD:
            yield_()
        log.append(wake_up_process(task))
        yield_()

    boot(init).run()
    assert log == ["ran", False]


def test_rule_44_a_task_is_freed_by_another_context_than_its_own(boot):
    told = watch_a_death(boot)
    freeing = [who for who, operation, what in told if operation == "sem_free" and what == "victim"]
    assert freeing == ["init"]


def test_rule_45_the_killer_waits_with_the_cpu_in_its_hands_and_the_victim_needs_none(boot, log):
    def init():
        host = kernel.host
        yield_()
        task = kthread_run(lambda: None, name="victim")
        join = type(host).thread_join

        def watched(host, tid):
            cpu = kernel.arch.cpu
            me = cpu.owner == host.thread_self() == kernel.sched.current.tid
            result = join(host, tid)
            log.append((tid == task_tid, me, cpu.owner == host.thread_self(), cpu.count))
            return result

        task_tid = task.tid
        host.thread_join = watched.__get__(host)
        msleep(1)
        del host.thread_join

    kernel = boot(init)
    kernel.run()
    assert log == [(True, True, True, 1)]


def test_rule_46_halting_takes_every_task_down_and_then_swapper_s_semaphore(boot, log):
    def sleeper(name):
        try:
            Completion().wait_for_completion()
        finally:
            log.append(name)

    def init():
        for name in "ab":
            kthread_run(sleeper, name, name="%s")
        msleep(1)

    kernel = boot(init)
    swapper_sem = kernel.sched.swapper.sched_sem
    kernel.host.listening = True
    kernel.run()
    kernel.host.listening = False
    assert log == ["a", "b"]
    freed = [argument for _, operation, argument in kernel.host.calls_made if operation == "sem_free"]
    assert freed[-1] is swapper_sem
    assert len(kernel.pids) == 0
    assert kernel.host.live() == LiveObjects()


def test_a_task_that_never_ran_is_killed_without_running_its_function(boot, log):
    """LKL's thread_bootstrap does not look at `dead` after its first sem_down (reference 5.6)."""

    def init():
        stopped = kthread_create(log.append, "stopped", name="stopped")
        kthread_create(log.append, "left behind", name="left")
        log.append(kthread_stop(stopped))

    boot(init).run()
    assert log == [-4]
