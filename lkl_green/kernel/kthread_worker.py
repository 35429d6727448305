"""One thread with a queue of works: the kthread_worker API (kernel/kthread.c, rules 107 to 111).

Against a work queue: the thread is the user's own, who may give it a priority; works run strictly in order, one at a
time; and nothing replaces the thread.

*The end of the thread.* It stops only when it is asked to, and before it takes more work (rule 108). What is left then,
or when a work's exception took the thread along, can never run: it is dropped with a warning, and its flushers go on.
In Linux they would wait for ever.

Completing a marker may switch to its waiter, so preemption is disabled where Linux holds the worker's lock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from lkl_green.errors import KernelBug
from lkl_green.kernel.completion import Completion
from lkl_green.kernel.kthread_work import KthreadDelayedWork, KthreadWork
from lkl_green.kernel.nocopy import NoCopy
from lkl_green.kernel.numbers import check_int
from lkl_green.kernel.task import TASK_IDLE, TASK_RUNNING

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task


class KthreadWorker(NoCopy):
    """A kernel thread that runs works; made by `kthread_create_worker()`.

    Attributes:
        name: the thread's.
        task: the thread; None once it has ended.
        current_work: what it runs.
    """

    def __init__(self, kernel: Kernel, name: str) -> None:
        self._kernel = kernel
        self._sched = kernel.sched
        self.name = name
        self.task: Task | None = None
        self.current_work: KthreadWork | None = None
        self._work_list: OrderedDict[KthreadWork, None] = OrderedDict()
        self._delayed: dict[KthreadDelayedWork, None] = {}
        self._running_markers: list[Completion] = []

    # -- queueing

    def queue_work(self, work: KthreadWork) -> bool:
        """Run it after what is queued already; False if it is pending or being cancelled (rule 107). In any context."""
        if not self._may_queue(work):
            return False
        self._insert(work)
        return True

    def queue_delayed_work(self, dwork: KthreadDelayedWork, delay_ns: int) -> bool:
        """Queue it when `delay_ns` have passed, at once for 0; False if it is pending or being cancelled (rule 109).

        Raises TypeError if `delay_ns` is not an integer.
        """
        check_int(delay_ns, "delay_ns")
        if not self._may_queue(dwork):
            return False
        self._start(dwork, delay_ns)
        return True

    def mod_delayed_work(self, dwork: KthreadDelayedWork, delay_ns: int) -> bool:
        """Queue it in `delay_ns` from now, pending or not; whether it was pending.

        While it is being cancelled it is not pending and is not queued: the other one wins (rule 109). Linux since 5.14
        says True then, for callers who count references. Raises TypeError if `delay_ns` is not an integer.
        """
        check_int(delay_ns, "delay_ns")
        sched = self._sched
        if sched.listener is not None:
            sched.listener("kthread_mod_delayed_work", dwork)
        sched.preempt_disable()
        try:
            was_pending = dwork.worker is not None and dwork.worker.cancel(dwork)
            if self._accepts(dwork):
                self._start(dwork, delay_ns)
        finally:
            sched.preempt_enable()
        return was_pending

    def _start(self, dwork: KthreadDelayedWork, delay_ns: int) -> None:
        if delay_ns <= 0:
            self._insert(dwork)
            return
        dwork.pending = True
        dwork.worker = self
        self._delayed[dwork] = None
        dwork.timer.mod_timer_in(delay_ns)

    def _may_queue(self, work: KthreadWork) -> bool:
        sched = self._sched
        if sched.listener is not None:
            sched.listener("kthread_queue_work", work)
        return self._accepts(work)

    def _accepts(self, work: KthreadWork) -> bool:
        if work.pending or (work.canceling and not work.may_be_queued(self._kernel)):
            return False
        if self.task is None:
            self._kernel.printk.warn(f"kthread worker {self.name} has ended: {work.name} is not queued")
            return False
        if work.worker is not None and work.worker is not self:
            self._kernel.printk.warn(f"{work!r} is queued on {self.name}, too: a work belongs to one worker")
        return True

    def _insert(self, work: KthreadWork) -> None:
        """Put it at the end of the list; a worker that is busy will come to it by itself. May switch."""
        work.pending = True
        work.worker = self
        self._work_list[work] = None
        if self.current_work is None and self.task is not None:
            self._sched.try_to_wake_up(self.task)

    def expired(self, dwork: KthreadDelayedWork) -> None:
        """The time of a delayed work has come."""
        del self._delayed[dwork]
        self._insert(dwork)

    # -- cancelling and flushing

    def cancel(self, work: KthreadWork) -> bool:
        """Take a work off the list, or stop its timer; whether it was pending."""
        if not work.pending:
            return False
        sched = self._sched
        sched.preempt_disable()
        work.pending = False
        self._work_list.pop(work, None)
        if isinstance(work, KthreadDelayedWork):
            work.timer.del_timer()
            self._delayed.pop(work, None)
        markers, work.markers = work.markers, []
        for marker in markers:
            marker.complete()
        sched.preempt_enable()
        return True

    def markers_of(self, work: KthreadWork) -> list[Completion] | None:
        """Where a marker for the end of the last queueing of `work` goes; None if it is neither queued nor running."""
        if work in self._work_list:
            return work.markers
        return self._running_markers if self.current_work is work else None

    def flush_worker(self) -> None:
        """Wait until everything queued before has been run. Raises KernelBug from one of the worker's own works."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("kthread_flush_worker", self)
        if self.task is None:
            return
        if self.task is sched.current:
            raise KernelBug(f"BUG: kthread_flush_worker() of {self.name} from its own work would wait for itself")
        marker = KthreadWork(_nothing, self._kernel, "flush")
        done = Completion(self._kernel, f"flush of kthread worker {self.name}")
        marker.markers.append(done)
        self._insert(marker)
        done.wait_for_completion()

    def destroy_worker(self) -> None:
        """Flush, and stop the thread; what its works queue meanwhile is dropped, with a warning (rule 108)."""
        task = self.task
        if task is None:
            self._kernel.printk.warn(f"kthread_destroy_worker() of {self.name}, whose thread has ended")
            return
        self.flush_worker()
        self._kernel.kthreads.kthread_stop(task)

    # -- the thread

    def kthread_worker_fn(self) -> int:
        """Thread function (rules 107, 108)."""
        sched = self._sched
        kthreads = self._kernel.kthreads
        task = sched.current
        works = self._work_list
        try:
            while True:
                task.state = TASK_IDLE  # before the looks: whoever stops us or queues from here on wakes us
                task.waiting_for = "work"
                if kthreads.should_stop():
                    return 0
                if works:
                    task.state = TASK_RUNNING
                    task.waiting_for = None
                    self._run(works.popitem(False)[0])
                    sched.cond_resched()
                else:
                    sched.schedule()
        finally:
            task.state = TASK_RUNNING
            task.waiting_for = None
            self.task = None
            self._drop_all()

    def _run(self, work: KthreadWork) -> None:
        """Run one work, and forget it."""
        work.pending = False
        self.current_work = work
        self._running_markers, work.markers = work.markers, []
        func: Any = work.func
        try:
            func(work)
        except Exception as error:
            error.add_note(f"kthread worker: {self.name} {work.name}")
            raise
        finally:
            self.current_work = None
            markers, self._running_markers = self._running_markers, []
            for marker in markers:
                marker.complete()

    def _drop_all(self) -> None:
        """The thread is gone: nothing that is queued can run any more."""
        left: list[KthreadWork] = [*self._work_list, *self._delayed]
        names = [work.name for work in left if work.func is not _nothing]
        if names and not self._kernel.halting:
            self._kernel.printk.warn(f"kthread worker {self.name} ends with works queued: {', '.join(names)}")
        self._sched.preempt_disable()
        for work in left:
            self.cancel(work)
        self._sched.preempt_enable()

    def __repr__(self) -> str:
        what = "ended" if self.task is None else "idle" if self.current_work is None else f"runs {self.current_work!r}"
        return f"<KthreadWorker {self.name} {what}, {len(self._work_list)} queued, {len(self._delayed)} delayed>"


def _nothing(_work: KthreadWork) -> None:
    """What a marker at the end of the list does."""


def kthread_create_worker(kernel: Kernel, name: str) -> KthreadWorker:
    """Make a worker and start its thread. Raises OSError as `kthread_create()` does."""
    worker = KthreadWorker(kernel, name)
    worker.task = task = kernel.kthreads.kthread_create(worker.kthread_worker_fn, name=name)
    try:
        kernel.sched.wake_up_process(task)
    except BaseException:
        kernel.kthreads.drop_unwoken(task)
        raise
    return worker
