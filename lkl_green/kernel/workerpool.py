"""The threads that run queued work: one pool for all work queues (kernel/workqueue.c: `struct worker_pool`).

1. *Who makes a worker.* `queue_work()` may be called in an interrupt handler, where nothing may sleep, and so nobody
   can call `kthread_create()` and wait for kthreadd. Linux has an idle worker in reserve from boot on, and a worker
   makes sure that there is another one before it starts on the list. Here the request is left with kthreadd and nobody
   waits for the answer. Dropped: the reserve, a thread in each kernel, most of which queue no work; and a manager
   thread, which is the reserve under another name.
2. *The invariant:* while something is on the list, a worker is awake to look at it, or one is being made, or a timer is
   armed to ask for one again. `kick()` establishes it, whenever an item is put on the list, whenever a worker takes one
   and leaves others, and whenever a worker ends. An idle worker sets its state before it looks at the list (rule 116),
   so that no kick is lost.
3. *How many.* A worker holds the CPU until its work sleeps. So the worker that was kicked on its behalf runs exactly
   then, and otherwise finds the list empty: there are as many workers as sleeping works, one that does the rest, and
   one behind that. Linux needs a hook in `schedule()` for it.
4. *Never re-entrant* (rule 125). An item that is taken while an earlier run of it sleeps goes to the worker of that
   run, which does it next.
5. *No worker for ever.* If the host has no thread to give, the request is made again, CREATE_RETRIES times, and then
   the next `queue_work()` tries. Linux never gives up; under a virtual clock, where waiting takes no time, that is a
   loop without end instead of a deadlock that the kernel reports.

More than MAX_IDLE_WORKERS do not stay. Linux ends idle workers five minutes later by a timer, which would be an event
that the idle loop waits for, or jumps to.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING

from lkl_green.errors import KernelBug
from lkl_green.kernel.state import SystemState
from lkl_green.kernel.task import TASK_IDLE, TASK_RUNNING
from lkl_green.kernel.timer import Timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.completion import Completion
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task
    from lkl_green.kernel.work import Work
    from lkl_green.kernel.workqueue import Workqueue

_RUNNING = SystemState.RUNNING

MAX_IDLE_WORKERS = 4
CREATE_RETRIES = 10
CREATE_COOLDOWN_NS = 1_000_000_000


class Worker:
    """A thread of the pool.

    Attributes:
        id: the number in its name.
        task: the thread.
        work, wq: what it runs, and for which queue; None while it is idle.
        flushers: who waits for the end of this run.
        scheduled: what it must do next itself: the work that it runs, if that was queued again.
    """

    __slots__ = ("flushers", "id", "scheduled", "task", "work", "wq")

    def __init__(self, id: int, task: Task) -> None:
        self.id = id
        self.task = task
        self.work: Work | None = None
        self.wq: Workqueue | None = None
        self.flushers: list[Completion] = []
        self.scheduled: OrderedDict[Work, None] = OrderedDict()

    def __repr__(self) -> str:
        what = "idle" if self.work is None or self.wq is None else f"runs {self.work.name} of {self.wq.name}"
        return f"<Worker {self.task.comm}-{self.task.pid} {what}>"


class WorkerPool:
    """The workers of one kernel, and the works that wait for one.

    Attributes:
        workers: by the number in their names.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sched = kernel.sched
        self._list: OrderedDict[Work, None] = OrderedDict()
        self._idle: list[Worker] = []  # the one that became idle last is used first
        self._creating = False
        self._failures = 0
        self._retry = Timer(self._retry_create, kernel, "workqueue")
        self.workers: dict[int, Worker] = {}

    # -- for the queues

    def insert(self, work: Work) -> None:
        """Give a work to whichever worker is free next."""
        work.on_list = self._list
        self._list[work] = None
        self.kick()

    def current_worker(self) -> Worker | None:
        """The worker whose thread the caller is; None in an interrupt, too."""
        current = self._sched.current
        if current.preempt_count & ~0xFF:
            return None
        return next((worker for worker in self.workers.values() if worker.task is current), None)

    @property
    def functions(self) -> list[Callable[..., object]]:
        """The functions of the works that wait for a worker."""
        return [work.func for work in self._list]

    # -- the number of workers

    def kick(self) -> None:
        """Make sure that somebody looks at the list (Linux: kick_pool()). May switch, so it comes last."""
        if not self._list or self._sched.system_state is not _RUNNING:
            return
        if self._idle:
            self._sched.try_to_wake_up(self._idle[-1].task)
        elif not self._creating and not self._retry.pending:
            self._create_worker()

    def _create_worker(self) -> None:
        self._creating = True
        id = next(number for number in count() if number not in self.workers)
        self._kernel.kthreads.kthread_run_nowait(
            self._worker_thread, id, name="kworker/0:%d", failed=self._create_failed
        )

    def _create_failed(self, error: OSError) -> None:
        """In kthreadd: there is no new worker."""
        self._creating = False
        self._failures += 1
        if self._kernel.halting:
            return
        self._kernel.printk.err(f"workqueue: Failed to create a worker thread: {error}")
        if self._failures < CREATE_RETRIES:
            self._retry.mod_timer_in(CREATE_COOLDOWN_NS)
        else:
            self._failures = 0
            self._kernel.printk.err("workqueue: gave up; queueing more work, or a worker that is busy now, tries again")

    def _retry_create(self, _timer: Timer) -> None:
        self.kick()

    # -- a worker

    def _worker_thread(self, id: int) -> None:
        """Thread function of a worker."""
        worker = Worker(id, self._sched.current)
        self.workers[id] = worker
        self._creating = False
        self._failures = 0
        try:
            while self._work(worker) or self._sleep(worker):
                pass
        finally:
            self._retire(worker)

    def _work(self, worker: Worker) -> bool:
        """Run one work; whether there was one."""
        work = self._take(worker)
        if work is None:
            return False
        self._run(worker, work)
        self._sched.cond_resched()
        return True

    def _take(self, worker: Worker) -> Work | None:
        """The next work for this worker; one that runs already goes to the worker that runs it."""
        if worker.scheduled:
            return worker.scheduled.popitem(False)[0]
        while self._list:
            work = self._list.popitem(False)[0]
            runner = work.worker
            if runner is None:
                return work
            work.on_list = runner.scheduled
            runner.scheduled[work] = None
        return None

    def _run(self, worker: Worker, work: Work) -> None:
        """Run one work (Linux: process_one_work()). Whatever its end is, those who wait for it go on."""
        wq, color = work.start(worker)
        sched = self._sched
        try:
            self.kick()
            if sched.trace is not None:
                sched.trace.emit("workqueue_execute_start", work.name, work.function)
            work.func(work)
            self._check_released(worker.task, work)
            if sched.trace is not None:
                sched.trace.emit("workqueue_execute_end", work.name, work.function)
        except Exception as error:
            error.add_note(f"Workqueue: {wq.name} {work.name}")
            raise
        finally:
            sched.preempt_disable()
            flushers, worker.flushers = worker.flushers, []
            work.worker = worker.work = worker.wq = None
            wq.work_done(color)
            for flusher in flushers:
                flusher.complete()
            sched.preempt_enable()

    def _check_released(self, task: Task, work: Work) -> None:
        """What a work takes it must give back; the next one would sleep with it, or not be able to."""
        if task.preempt_count or task.locks_held or task.irqs_disabled:
            raise KernelBug(
                f"BUG: workqueue leaked atomic or lock: {work.name} returned with preempt_count {task.preempt_count}, "
                f"{task.locks_held} mutexes held and interrupts {'off' if task.irqs_disabled else 'on'}"
            )
        task.state = TASK_RUNNING

    def _sleep(self, worker: Worker) -> bool:
        """Be idle until there is work; False if enough others are."""
        idle = self._idle
        if len(idle) >= MAX_IDLE_WORKERS:
            return False
        task = worker.task
        task.waiting_for = "work"
        idle.append(worker)
        try:
            while True:
                task.state = TASK_IDLE  # before the look at the list: a kick from here on wakes us
                if self._list:
                    return True
                self._sched.schedule()
        finally:
            idle.remove(worker)
            task.state = TASK_RUNNING
            task.waiting_for = None

    def _retire(self, worker: Worker) -> None:
        """The thread ends, because it is not needed or because of what its work did: others do the rest."""
        del self.workers[worker.id]
        for work in worker.scheduled:
            work.on_list = self._list
            self._list[work] = None
        self.kick()

    def __repr__(self) -> str:
        return f"<WorkerPool {len(self.workers)} workers, {len(self._idle)} idle, {len(self._list)} works waiting>"
