"""The LKL CPU on both hosts, with made-up hooks: rules 1 to 25.

The host threads meet in the order a test wants, because a test waits until a thread is *seen* to wait: for the lock
of the CPU, or asleep on its semaphore.
"""

from __future__ import annotations

import errno

import pytest
from host.stories import HOSTS, breathe, finish, in_host_thread, queue_up, settle, start

import lkl_green
import lkl_green.linux
from lkl_green.arch.base import TIF_HOST_THREAD
from lkl_green.arch.lkl_cpu import (
    LKL_CPU_IN_SHUTDOWN,
    LKL_CPU_IN_USE,
    LKL_CPU_LOCKED,
    LKL_CPU_MAX_THREAD,
    MAX_THREADS,
    LklCpu,
)
from lkl_green.errors import HostMisuse, KernelBug, UnbalancedPut
from lkl_green.host.faulty import FaultyHost
from lkl_green.host.ops import LiveObjects


class Hooks:
    """A kernel that answers what the test wants, and writes down what it is asked to do."""

    def __init__(self, log):
        self.log = log
        self.irqs_are_disabled = False
        self.interrupt = False
        self.flags = 0
        self.alone = True
        self.while_put_holds_the_lock = lambda: None
        self.on_run_irqs = lambda: None

    def irqs_disabled(self):
        return self.irqs_are_disabled

    def in_interrupt(self):
        return self.interrupt

    def run_irqs(self):
        self.log.append("run_irqs")
        self.on_run_irqs()

    def current_thread_flags(self):
        self.while_put_holds_the_lock()
        return self.flags

    def single_task_running(self):
        return self.alone

    def thread_sched_jb(self):
        self.log.append("thread_sched_jb")


@pytest.fixture(params=sorted(HOSTS))
def host(request):
    host = HOSTS[request.param](lambda text: None)
    host.host_init()
    yield host
    host.host_cleanup()
    assert host.live() == LiveObjects()


@pytest.fixture
def log():
    return []


@pytest.fixture
def hooks(log):
    return Hooks(log)


@pytest.fixture
def cpu(host, hooks):
    cpu = LklCpu(host, hooks)
    cpu.init()
    yield cpu
    if cpu.lock is not None:
        shut_down(cpu)


def shut_down(cpu):
    cpu.shutdown()
    cpu.idle_shutdown()
    cpu.wait_shutdown()


def is_locked(host, cpu):
    """Whether the calling thread holds the lock of the CPU (taking it again is an error then)."""
    try:
        host.mutex_lock(cpu.lock)
    except HostMisuse:
        return True
    host.mutex_unlock(cpu.lock)
    return False


def sleeper(host, cpu, fn, *args):
    """Start a host thread that sleeps until it gets the CPU; return once it sleeps."""
    before = cpu.sleepers
    tid = start(host, fn, *args)
    settle(host, lambda: cpu.sleepers == before + 1)
    return tid


def get_and_put(cpu, log, name):
    log.append((name, cpu.get()))
    cpu.put()


# -- the way in


def test_rule_1_who_comes_after_the_shutdown_is_refused_without_touching_the_lock(host, cpu):
    cpu.shutdown()
    host.mutex_lock(cpu.lock)  # taking it once more would be an error, and from another thread a hang
    assert cpu._try_get_lock(1) == LKL_CPU_IN_SHUTDOWN
    assert cpu.shutdown_gate == MAX_THREADS + 1  # counted before it was looked at
    cpu._try_get_unlock(LKL_CPU_IN_SHUTDOWN, 1)
    assert in_host_thread(host, cpu.get) == LKL_CPU_IN_SHUTDOWN
    host.mutex_unlock(cpu.lock)


def test_rule_2_who_finds_the_gate_closed_behind_the_lock_is_refused_with_the_lock_held(host, cpu, log):
    host.mutex_lock(cpu.lock)

    def late():
        result = cpu._try_get_lock(1)
        log.append((result, is_locked(host, cpu), cpu.count))
        cpu._try_get_unlock(result, 1)

    tid = queue_up(host, cpu.lock, late)
    cpu.shutdown()
    host.mutex_unlock(cpu.lock)
    finish(host, tid)
    assert log == [(LKL_CPU_MAX_THREAD, True, 0)]


def test_rule_3_a_busy_cpu_is_reported_with_the_lock_held_and_nothing_changed(host, cpu):
    cpu.get()
    owner = cpu.owner

    def other():
        result = cpu._try_get_lock(1)
        seen = (result, is_locked(host, cpu), cpu.owner, cpu.count, cpu.sleepers)
        cpu._try_get_unlock(result, 1)
        return seen

    assert in_host_thread(host, other) == (LKL_CPU_IN_USE, True, owner, 1, 0)
    cpu.put()


def test_rule_4_a_free_cpu_is_taken_and_its_owner_may_take_it_again(host, cpu):
    assert cpu._try_get_lock(1) == LKL_CPU_LOCKED
    assert is_locked(host, cpu)
    assert (cpu.owner, cpu.count) == (host.thread_self(), 1)
    cpu._try_get_unlock(LKL_CPU_LOCKED, 1)
    assert cpu.get() == LKL_CPU_LOCKED
    assert (cpu.owner, cpu.count) == (host.thread_self(), 2)
    cpu.put()
    cpu.put()


@pytest.mark.parametrize("result", [LKL_CPU_MAX_THREAD, LKL_CPU_IN_USE, LKL_CPU_LOCKED])
def test_rule_5_leaving_unlocks_unless_the_lock_was_never_taken_and_always_leaves_the_gate(host, cpu, result):
    cpu._gate_add(2)
    host.mutex_lock(cpu.lock)
    cpu._try_get_unlock(LKL_CPU_IN_SHUTDOWN, 1)
    assert is_locked(host, cpu)
    assert cpu.shutdown_gate == 1
    cpu._try_get_unlock(result, 1)
    assert not is_locked(host, cpu)
    assert cpu.shutdown_gate == 0


def test_rule_6_get_sleeps_while_the_cpu_is_busy_and_never_returns_empty_handed(host, cpu, log):
    cpu.get()
    tid = sleeper(host, cpu, get_and_put, cpu, log, "waiter")
    assert log == []
    cpu.put()
    finish(host, tid)
    assert log == [("waiter", LKL_CPU_LOCKED)]


def test_rule_7_who_was_refused_has_left_the_gate_and_must_not_put(host, cpu):
    cpu.shutdown()
    assert cpu.get() == LKL_CPU_IN_SHUTDOWN
    assert cpu.shutdown_gate == MAX_THREADS
    with pytest.raises(UnbalancedPut):
        cpu.put()


def test_rule_8_a_waiter_holds_one_reference_to_the_gate_however_often_it_wakes(host, cpu, log):
    cpu.get()
    tids = [sleeper(host, cpu, get_and_put, cpu, log, "waiter") for _ in range(2)]
    assert cpu.shutdown_gate == 2
    wake_in_vain(host, cpu)
    assert cpu.shutdown_gate == 2
    cpu.put()
    finish(host, *tids)
    assert cpu.shutdown_gate == 0


def wake_in_vain(host, cpu):
    """Wake one sleeper of a busy CPU, as a put would whose CPU somebody else takes at once."""
    asleep = cpu.sleepers
    host.mutex_lock(cpu.lock)
    cpu.sleepers -= 1
    host.sem_up(cpu.sem)
    host.mutex_unlock(cpu.lock)
    settle(host, lambda: cpu.sleepers == asleep)


def test_rule_9_a_third_thread_may_take_the_cpu_before_the_one_that_was_woken(host, cpu, hooks, log):
    cpu.get()
    waiter = sleeper(host, cpu, get_and_put, cpu, log, "waiter")
    third = []

    def barge_in():
        if not third:
            third.append(queue_up(host, cpu.lock, get_and_put, cpu, log, "third"))

    hooks.while_put_holds_the_lock = barge_in
    cpu.put()
    finish(host, waiter, *third)
    assert log == [("third", LKL_CPU_LOCKED), ("waiter", LKL_CPU_LOCKED)]


# -- the way out


def test_rule_10_a_put_by_anybody_but_the_owner_is_a_bug_with_a_name(host, cpu):
    with pytest.raises(UnbalancedPut, match="owned by nobody"):
        cpu.put()
    cpu.get()
    with pytest.raises(UnbalancedPut, match="each put needs a get by the same thread"):
        in_host_thread(host, cpu.put)
    assert (cpu.owner, cpu.count) == (host.thread_self(), 1)
    cpu.count = 0
    with pytest.raises(UnbalancedPut, match="count 0"):
        cpu.put()
    cpu.count = 1
    cpu.put()


def test_rule_11_a_put_runs_pending_interrupts_until_none_is_left_and_also_when_nested(host, cpu, hooks, log):
    cpu.get()
    cpu.get()
    cpu.irqs_pending = True

    def another_one_comes():
        assert not is_locked(host, cpu)
        if len(log) == 1:
            cpu.irqs_pending = True

    hooks.on_run_irqs = another_one_comes
    cpu.put()
    assert (log, cpu.irqs_pending, cpu.count) == (["run_irqs", "run_irqs"], False, 1)
    cpu.put()
    assert log == ["run_irqs", "run_irqs"]


def test_rule_11_interrupts_that_are_disabled_stay_pending(cpu, hooks, log):
    cpu.get()
    cpu.irqs_pending = hooks.irqs_are_disabled = True
    cpu.put()
    assert (log, cpu.irqs_pending) == ([], True)


def test_rule_12_runnable_kernel_threads_go_before_waiting_host_threads(host, cpu, hooks, log):
    cpu.get()
    waiter = sleeper(host, cpu, get_and_put, cpu, log, "waiter")
    hooks.flags, hooks.alone = TIF_HOST_THREAD, False
    cpu.put()
    breathe(host)
    # Whom the switch would have given the CPU to is the new owner; the waiter was not asked.
    assert (log, cpu.count, cpu.sleepers) == (["thread_sched_jb"], 1, 1)
    assert not is_locked(host, cpu)
    hooks.flags = 0
    cpu.put()
    finish(host, waiter)
    assert log == ["thread_sched_jb", ("waiter", LKL_CPU_LOCKED)]


def test_rule_12_a_host_task_that_put_in_an_interrupt_with_others_runnable_is_a_bug(host, cpu, hooks, log):
    cpu.get()
    hooks.flags, hooks.alone, hooks.interrupt = TIF_HOST_THREAD, False, True
    with pytest.raises(KernelBug, match="interrupt handler"):
        cpu.put()
    assert log == []
    assert not is_locked(host, cpu)
    hooks.interrupt, hooks.alone = False, True
    cpu.put()


def test_rule_13_a_nested_put_keeps_the_cpu_and_wakes_nobody(host, cpu, log):
    cpu.get()
    cpu.get()
    waiter = sleeper(host, cpu, get_and_put, cpu, log, "waiter")
    cpu.put()
    breathe(host)
    assert (cpu.owner, cpu.count, cpu.sleepers, log) == (host.thread_self(), 1, 1, [])
    cpu.put()
    finish(host, waiter)


def test_rule_14_the_last_put_wakes_exactly_one_waiter(host, cpu, log):
    cpu.get()
    gate = host.sem_alloc(0)

    def hold(name):
        cpu.get()
        log.append(name)
        host.sem_down(gate)
        cpu.put()

    tids = [sleeper(host, cpu, hold, name) for name in "abc"]
    for count in (1, 2, 3):
        if count == 1:
            cpu.put()
        else:
            host.sem_up(gate)
        settle(host, lambda count=count: len(log) == count)
        breathe(host)
        assert (len(log), cpu.sleepers) == (count, 3 - count)
    host.sem_up(gate)
    finish(host, *tids)
    assert log == ["a", "b", "c"]
    assert (cpu.owner, cpu.count) == (0, 0)
    host.sem_free(gate)


def test_rule_15_a_switch_with_the_cpu_taken_twice_is_a_bug(host, cpu):
    cpu.get()
    cpu.get()
    with pytest.raises(KernelBug, match="held 2 times"):
        cpu.change_owner(77)
    assert cpu.owner == host.thread_self()
    cpu.put()
    cpu.put()


def test_rule_16_changing_the_owner_changes_nothing_else_and_wakes_nobody(host, cpu, log):
    cpu.get()
    waiter = sleeper(host, cpu, get_and_put, cpu, log, "waiter")
    me = host.thread_self()
    cpu.change_owner(77)
    breathe(host)
    assert (cpu.owner, cpu.count, cpu.sleepers, log) == (77, 1, 1, [])
    cpu.change_owner(me)
    cpu.put()
    finish(host, waiter)


def test_rule_17_who_raises_an_interrupt_gets_the_cpu_or_leaves_a_mark_or_is_dropped(host, cpu, hooks, log):
    assert cpu.try_run_irq() == LKL_CPU_LOCKED
    assert (cpu.owner, cpu.irqs_pending) == (host.thread_self(), False)
    assert in_host_thread(host, cpu.try_run_irq) == LKL_CPU_IN_USE
    assert (cpu.irqs_pending, cpu.sleepers, cpu.shutdown_gate) == (True, 0, 0)
    cpu.put()
    assert log == ["run_irqs"]
    cpu.shutdown()
    assert in_host_thread(host, cpu.try_run_irq) == LKL_CPU_IN_SHUTDOWN
    assert (cpu.irqs_pending, cpu.shutdown_gate) == (False, MAX_THREADS)


# -- the end


def test_rule_18_shutdown_closes_the_gate_and_doing_it_twice_changes_nothing(host, cpu):
    cpu.shutdown()
    cpu.shutdown()
    assert cpu.shutdown_gate == MAX_THREADS
    assert cpu.lock is not None
    cpu.idle_shutdown()  # LKL would spin here for ever
    cpu.wait_shutdown()


def test_rule_19_the_idle_task_sends_every_sleeper_away(host, cpu, log):
    cpu.get()
    tids = [sleeper(host, cpu, lambda: log.append(cpu.get())) for _ in range(3)]
    cpu.shutdown()
    cpu.idle_shutdown()
    finish(host, *tids)
    assert (cpu.sleepers, len(log)) == (0, 3)
    cpu.wait_shutdown()


def test_rule_20_the_cpu_is_freed_only_when_everybody_has_left_the_gate(host, cpu, log):
    host.mutex_lock(cpu.lock)
    late = queue_up(host, cpu.lock, lambda: log.append(cpu.get()))
    cpu.shutdown()
    host.mutex_unlock(cpu.lock)
    cpu.idle_shutdown()
    log.append("drained")
    cpu.wait_shutdown()
    log.append("freed")
    finish(host, late)
    assert log == [LKL_CPU_MAX_THREAD, "drained", "freed"]
    assert (cpu.lock, cpu.sem, cpu.shutdown_sem) == (None, None, None)


def test_rule_21_a_sleeper_that_is_sent_away_is_told_of_the_shutdown(host, cpu, log):
    cpu.get()
    tid = sleeper(host, cpu, lambda: log.append(cpu.get()))
    shut_down(cpu)
    finish(host, tid)
    assert log == [LKL_CPU_IN_SHUTDOWN]


def test_rule_22_one_caller_waits_for_the_shutdown_and_frees_the_rest(host, cpu, log):
    tid = start(host, lambda: (cpu.wait_shutdown(), log.append("freed")))
    breathe(host)
    assert log == []
    cpu.shutdown()
    cpu.idle_shutdown()
    finish(host, tid)
    assert log == ["freed"]
    assert host.live() == LiveObjects()
    with pytest.raises(KernelBug, match="only one caller"):
        cpu.wait_shutdown()


@pytest.mark.parametrize(("operation", "n"), [("mutex_alloc", 1), ("sem_alloc", 1), ("sem_alloc", 2)])
def test_rule_23_a_partial_allocation_is_undone(host, hooks, operation, n):
    cpu = LklCpu(FaultyHost(host, operation, n), hooks)
    with pytest.raises(OSError) as caught:
        cpu.init()
    assert caught.value.errno == errno.ENOMEM
    assert host.live() == LiveObjects()
    assert cpu.get() == LKL_CPU_IN_SHUTDOWN


def test_rule_23_the_cpu_can_be_opened_again_after_a_shutdown(host, cpu, hooks, log):
    cpu.get()
    cpu.irqs_pending = hooks.irqs_are_disabled = True
    cpu.put()
    shut_down(cpu)
    assert cpu.get() == LKL_CPU_IN_SHUTDOWN
    cpu.init()
    assert (cpu.shutdown_gate, cpu.count, cpu.owner, cpu.sleepers, cpu.irqs_pending) == (0, 0, 0, 0, False)
    assert cpu.get() == LKL_CPU_LOCKED
    cpu.put()
    with pytest.raises(UnbalancedPut):
        cpu.put()


def test_rule_23_a_put_after_the_shutdown_is_an_error_and_touches_nothing(cpu):
    shut_down(cpu)
    with pytest.raises(UnbalancedPut, match="halted"):
        cpu.put()


def test_rule_24_the_results_have_names():
    named = {
        "LKL_CPU_IN_SHUTDOWN": -2,
        "LKL_CPU_MAX_THREAD": -1,
        "LKL_CPU_IN_USE": 0,
        "LKL_CPU_LOCKED": 1,
    }
    assert {name: getattr(lkl_green, name) for name in named} == named


def test_rule_24a_a_bug_in_a_put_is_raised_with_the_lock_released(host, cpu, hooks):
    with pytest.raises(UnbalancedPut):
        in_host_thread(host, cpu.put)
    assert not is_locked(host, cpu)
    cpu.get()
    cpu.get()
    with pytest.raises(KernelBug):
        cpu.change_owner(77)
    assert not is_locked(host, cpu)
    cpu.put()
    cpu.put()
    assert in_host_thread(host, lambda: (cpu.get(), cpu.put()))[0] == LKL_CPU_LOCKED


def test_many_threads_have_the_cpu_one_at_a_time(host, cpu, log):
    inside = []

    def work(name):
        for _ in range(5):
            cpu.get()
            inside.append(name)
            log.append(len(inside))
            breathe(host)
            inside.remove(name)
            cpu.put()

    finish(host, *[start(host, work, name) for name in range(6)])
    assert log == [1] * 30
    assert (cpu.owner, cpu.count, cpu.sleepers, cpu.shutdown_gate) == (0, 0, 0, 0)


# -- rule 25, on kernels


@pytest.mark.parametrize("kind", sorted(HOSTS))
def test_rule_25_the_cpu_is_free_exactly_while_the_application_runs_and_swapper_is_current(kind, log):
    """LKL needs a host task as `current` whenever the CPU is free; here it is swapper, the caller's own."""

    def look():
        cpu = kernel.arch.cpu
        log.append((cpu.owner == kernel.sched.current.tid == host.thread_self(), cpu.count))

    def init():
        lkl_green.linux.kthread_run(look, name="look")
        look()
        lkl_green.linux.msleep(1)
        look()

    host = HOSTS[kind](lambda text: None)
    kernel = lkl_green.lkl_start_kernel(init, host=host, switch="semaphore", clock="virtual", loglevel=0)
    free = []
    while not kernel.halted:
        cpu = kernel.arch.cpu
        free.append((cpu.owner, cpu.count, kernel.sched.current is kernel.sched.swapper))
        kernel.pause(kernel.lkl_run(lkl_green.RunUntil.SWITCH))
    assert log == [(True, 1)] * 3
    assert len(free) > 5
    assert set(free) == {(0, 0, True)}
