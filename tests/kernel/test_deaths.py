"""What must not die, what must not be doubled, and what has to be given back by a task that dies."""

from __future__ import annotations

import copy
import pickle
from collections import deque

import pytest
from host.stories import in_os_thread

from lkl_green import KernelBug, KernelPanic
from lkl_green.errors import TaskKilled, WrongThread
from lkl_green.fs.file import File
from lkl_green.kernel.fork import Fork
from lkl_green.kernel.policy import SchedulingPolicy
from lkl_green.linux import (
    Completion,
    KthreadWork,
    Mutex,
    Semaphore,
    SpinLock,
    Tasklet,
    Timer,
    WaitQueueHead,
    Work,
    alloc_workqueue,
    current,
    current_kernel,
    fd_install,
    kthread_create_worker,
    kthread_run,
    kthread_stop,
    msleep,
    pipe,
    schedule,
)

# -- threads without which the kernel cannot go on


@pytest.mark.parametrize("on_oops", ["panic", "kill"])
def test_a_kthreadd_that_dies_is_a_panic_whatever_on_oops_says(boot, monkeypatch, on_oops):
    """Or each later kthread_create() would wait for ever."""

    def broken(*_):
        raise MemoryError("on purpose")

    def init():
        monkeypatch.setattr(Fork, "copy_process", broken)
        kthread_run(print)

    kernel = boot(init, on_oops=on_oops)
    with pytest.raises(KernelPanic, match=r"Attempted to kill kthreadd, .* MemoryError: on purpose") as caught:
        kernel.run()
    assert isinstance(caught.value.__cause__, MemoryError)
    assert kernel.halted


ENDS = {
    "stopped": lambda kernel, task: kthread_stop(task),
    "taken down": lambda kernel, task: kernel.exits.take_down(task),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_ksoftirqd_that_ends_is_a_panic(boot, end):
    def init():
        msleep(1)
        end(current_kernel(), current_kernel().softirq.ksoftirqd)
        msleep(1)

    kernel = boot(init, on_oops="kill")
    with pytest.raises(KernelPanic, match="Attempted to kill ksoftirqd/0"):
        kernel.run()
    assert kernel.halted


# -- a policy that gives the CPU to a task that has ended


class Necromancer(SchedulingPolicy):
    """First come, first served; but the dead come first."""

    def __init__(self) -> None:
        self.queue = deque()
        self.dead = None

    @property
    def nr_running(self):
        return len(self.queue)

    def enqueue_task(self, task, preempted=False):
        self.queue.append(task)

    def dequeue_task(self, task):
        if task not in self.queue:
            return False
        self.queue.remove(task)
        return True

    def pick_next_task(self):
        if self.dead is not None:
            return self.dead
        return self.queue.popleft() if self.queue else None


PICKED = {"at schedule()": schedule, "at a sleep": lambda: msleep(1), "at the end of a task": lambda: None}


@pytest.mark.parametrize("give_up", PICKED.values(), ids=PICKED)
def test_a_policy_that_picks_a_dead_task_is_a_panic_that_names_both(boot, give_up):
    policy = Necromancer()

    def raises_the_dead(task):
        policy.dead = task
        give_up()

    def init():
        task = kthread_run(lambda: None, name="dead")
        msleep(1)
        kthread_run(raises_the_dead, task)
        while True:
            schedule()

    kernel = boot(init, policy=policy)
    with pytest.raises(
        KernelPanic, match="policy Necromancer picked <Task dead-4 DEAD>, which is not runnable"
    ) as caught:
        kernel.run()
    assert isinstance(caught.value.__cause__, KernelBug)
    assert kernel.halted


def test_a_policy_that_picks_a_dead_task_in_idle_is_a_panic(boot):
    policy = Necromancer()
    kernel = boot(policy=policy)
    kernel.lkl_run()
    task = kernel.softirq.ksoftirqd
    policy.dead = task  # asleep, which is not runnable either
    with pytest.raises(KernelPanic, match="picked <Task ksoftirqd/0-3 IDLE>"):
        kernel.lkl_run()
    assert kernel.lkl_sys_halt() == 0


# -- what cannot be doubled

SHARED = {
    "Mutex": Mutex,
    "Semaphore": Semaphore,
    "Completion": Completion,
    "SpinLock": SpinLock,
    "WaitQueueHead": WaitQueueHead,
    "Timer": lambda: Timer(print),
    "Work": lambda: Work(print),
    "KthreadWork": lambda: KthreadWork(print),
    "Tasklet": lambda: Tasklet(current_kernel().tasklets, print),
    "Workqueue": lambda: alloc_workqueue("wq"),
    "KthreadWorker": lambda: kthread_create_worker("worker"),
    "pipe": lambda: pipe()[0],
    "Task": current,
    "Kernel": current_kernel,
}


@pytest.mark.parametrize("make", SHARED.values(), ids=SHARED)
def test_what_tasks_share_can_be_neither_copied_nor_pickled(run, make):
    def init():
        thing = make()
        for double in (copy.copy, copy.deepcopy, pickle.dumps, lambda thing: copy.deepcopy([thing])):
            with pytest.raises(TypeError, match="cannot be copied or pickled: it belongs to a kernel"):
                double(thing)
        return "alive"

    assert run(init) == "alive"


# -- an OS thread that does not run the kernel


@pytest.mark.parametrize("complete", [Completion.complete, Completion.complete_all])
def test_a_completion_completed_on_another_os_thread_is_an_error_there(boot, log, complete):
    kernel = boot()
    done = Completion(kernel, "done")

    def waiter():
        done.wait_for_completion()
        log.append("done")

    irq = kernel.lkl_get_free_irq("device")
    kernel.irq.request_irq(irq, lambda irq: kthread_create_and_wake(kernel, waiter), "device")
    kernel.lkl_trigger_irq(irq)
    kernel.lkl_run()
    with pytest.raises(WrongThread, match="lkl_trigger_irq"):
        in_os_thread(lambda: complete(done))
    kernel.irq.free_irq(irq)
    kernel.irq.request_irq(irq, lambda irq: complete(done), "device")
    in_os_thread(lambda: kernel.lkl_trigger_irq(irq))
    kernel.lkl_run()
    assert log == ["done"]


def kthread_create_and_wake(kernel, function):
    kernel.kthreads.kthread_run_nowait(function, name="waiter", failed=print)


# -- files of a task that dies


class SlowFile(File):
    """A file that has something to wait for before it is gone, as one on a disk."""

    def __init__(self, log, number):
        super().__init__(name=f"slow {number}")
        self._log = log
        self._number = number

    def _release(self):
        try:
            msleep(1)
            self._log.append(f"released {self._number}")
        except TaskKilled:
            self._log.append(f"cut off {self._number}")
            raise


def with_two_slow_files(log, then):
    def work():
        for number in range(2):
            fd_install(SlowFile(log, number))
        then()

    return work


def test_a_file_may_sleep_when_a_task_that_exits_closes_it(run, log):
    def init():
        kthread_run(with_two_slow_files(log, lambda: None))
        msleep(5)
        kernel = current_kernel()
        return kernel.fs.nr_files, "closed with an error" in kernel.printk.text()

    assert run(init) == (0, False)
    assert log == ["released 0", "released 1"]


def test_a_file_may_sleep_when_a_task_that_is_taken_down_closes_it(run, log):
    def init():
        task = kthread_run(with_two_slow_files(log, lambda: msleep(1000)))
        msleep(1)
        current_kernel().exits.take_down(task)
        msleep(5)
        log.append(current_kernel().sched.killing)

    run(init)
    assert log == ["released 0", "released 1", 0]


def test_a_halt_ends_the_closing_of_each_file_that_sleeps_and_says_so(boot, log):
    def init():
        kthread_run(with_two_slow_files(log, lambda: msleep(1000)), name="busy")
        msleep(1)

    kernel = boot(init)
    kernel.run()
    assert log == ["cut off 0", "cut off 1"]
    assert kernel.printk.text().count("is closed with an error") == 2


def test_slow_closes_trace_equally_everywhere(parity):
    def init():
        kthread_run(with_two_slow_files([], lambda: None), name="slow")
        msleep(5)

    assert parity(init).count("slow-4") > 4
