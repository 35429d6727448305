"""Work queues: functions that are to run soon, in a thread that may sleep (kernel/workqueue.c, rule 125).

A queue owns no threads. It is a limit, `max_active`, on how many of its works are given to the pool at a time, and
something that can be flushed:

    queue_work() --> inactive works --(fewer than max_active)--> list of the pool --> a worker runs it

*Waiting for all works of a queue.* Each item takes the queue's colour. A flush changes the colour and waits until no
item of an older one is left. Linux has fifteen colours and queues the flushers that come when they are used up;
integers are not used up.

Wherever somebody is woken, a task of higher priority could run before the next statement, and a work that is being
moved from one place to another is in neither. Where Linux holds the lock of the pool, preemption is disabled here.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from lkl_green.errors import KernelBug
from lkl_green.kernel.nocopy import NoCopy
from lkl_green.kernel.numbers import check_int
from lkl_green.kernel.wait import WaitQueueHead
from lkl_green.kernel.workerpool import WorkerPool

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.work import DelayedWork, Work

WQ_DFL_ACTIVE = 256


class Workqueue(NoCopy):
    """A queue of works (Linux: `struct workqueue_struct`); made by `alloc_workqueue()`.

    Attributes:
        name: shown in traces and reports.
        max_active: how many of its works may run, or wait for a worker, at a time; with 1 they run in order.
        nr_active: how many do.
    """

    def __init__(self, kernel: Kernel, pool: WorkerPool, name: str, max_active: int) -> None:
        self._kernel = kernel
        self._sched = kernel.sched
        self._pool = pool
        self.name = name
        self.max_active = max_active
        self.nr_active = 0
        self._inactive: OrderedDict[Work, None] = OrderedDict()
        self._color = 0
        # How many items of each colour have not ended. Only the newest colour grows, so the keys ascend.
        self._in_flight: dict[int, int] = {}
        self._flush_wait = WaitQueueHead(kernel, f"flush of workqueue {name}")
        self._draining = 0
        self._destroyed = False

    # -- queueing

    def queue_work(self, work: Work) -> bool:
        """Run it soon; False if it is pending already or being cancelled. In any context."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("queue_work", work)
        if work.pending or (work.canceling and not work.may_be_queued(self._kernel)) or self._refuses(work):
            return False
        work.pending = True
        self._insert(work)
        if sched.after is not None:
            sched.after()
        return True

    def expired(self, dwork: DelayedWork) -> None:
        """The time of a delayed work has come; it is pending already."""
        if self._refuses(dwork):
            dwork.pending = False
        else:
            self._insert(dwork)

    def _insert(self, work: Work) -> None:
        """Give it to the pool, or let it wait until it is its turn; may switch, so it comes last."""
        work.wq = self
        work.color = color = self._color
        self._in_flight[color] = self._in_flight.get(color, 0) + 1
        if self.nr_active < self.max_active:
            self.nr_active += 1
            self._pool.insert(work)
        else:
            work.on_list = self._inactive
            self._inactive[work] = None

    def queue_delayed_work(self, dwork: DelayedWork, delay_ns: int) -> bool:
        """Queue it when `delay_ns` have passed, at once for 0; False if it is pending already or being cancelled.

        Raises TypeError if `delay_ns` is not an integer.
        """
        check_int(delay_ns, "delay_ns")
        sched = self._sched
        if sched.listener is not None:
            sched.listener("queue_delayed_work", dwork)
        if dwork.pending or (dwork.canceling and not dwork.may_be_queued(self._kernel)) or self._refuses(dwork):
            return False
        self._start(dwork, delay_ns)
        if sched.after is not None:
            sched.after()
        return True

    def mod_delayed_work(self, dwork: DelayedWork, delay_ns: int) -> bool:
        """Queue it in `delay_ns` from now, pending or not; whether it was pending.

        While it is being cancelled it is not pending and is not queued: the other one wins (rule 109). Raises TypeError
        if `delay_ns` is not an integer.
        """
        check_int(delay_ns, "delay_ns")
        sched = self._sched
        if sched.listener is not None:
            sched.listener("mod_delayed_work", dwork)
        sched.preempt_disable()
        try:
            was_pending = dwork.grab_pending()
            if (not dwork.canceling or dwork.may_be_queued(self._kernel)) and not self._refuses(dwork):
                self._start(dwork, delay_ns)
        finally:
            sched.preempt_enable()
        if sched.after is not None:
            sched.after()
        return was_pending

    def _start(self, dwork: DelayedWork, delay_ns: int) -> None:
        dwork.pending = True
        dwork.wq = self
        if delay_ns <= 0:
            self._insert(dwork)
        else:
            dwork.timer.mod_timer_in(delay_ns)

    def _refuses(self, work: Work) -> bool:
        """A queue that is being drained takes only what its own works queue; a destroyed one warns for good."""
        if not self._draining and not self._destroyed:
            return False
        worker = self._pool.current_worker()
        if worker is not None and worker.wq is self:
            return False
        what = "was destroyed" if self._destroyed else "is being drained"
        self._kernel.printk.warn(f"workqueue {self.name} {what}: {work.name} is not queued")
        return True

    # -- the ends of works

    def work_done(self, color: int) -> None:
        """A run has ended: the next work may start, and those who wait for the colour go on."""
        self.nr_active -= 1
        self._item_gone(color)

    def work_cancelled(self, color: int, on_list: OrderedDict[Work, None]) -> None:
        """A work was taken off `on_list`, and so will not run."""
        if on_list is not self._inactive:
            self.nr_active -= 1
        self._item_gone(color)

    def _item_gone(self, color: int) -> None:
        left = self._in_flight[color] - 1
        if left:
            self._in_flight[color] = left
        else:
            del self._in_flight[color]
        if self._inactive and self.nr_active < self.max_active:
            self.nr_active += 1
            self._pool.insert(self._inactive.popitem(False)[0])
        if not left:
            self._flush_wait.wake_up()

    # -- waiting

    def flush_workqueue(self) -> None:
        """Wait until everything queued before has been executed. Raises KernelBug from one of its own works."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("flush_workqueue", self)
        self._check_not_own("flush_workqueue")
        color = self._color
        self._color = color + 1
        in_flight = self._in_flight
        self._flush_wait.wait_event(lambda: not in_flight or next(iter(in_flight)) > color)

    def drain_workqueue(self) -> None:
        """Wait until it is empty. Meanwhile only its own works may queue more. Raises KernelBug from one of them."""
        self._check_not_own("drain_workqueue")
        self._draining += 1
        flushes = 0
        try:
            while self._in_flight:
                self.flush_workqueue()
                flushes += 1
                if self._in_flight and (flushes == 10 or flushes % 100 == 0):
                    self._kernel.printk.warn(
                        f"workqueue {self.name}: drain_workqueue() isn't complete after {flushes} tries: "
                        "its works go on queueing more"
                    )
        finally:
            self._draining -= 1

    def destroy_workqueue(self) -> None:
        """Drain it, and take nothing from now on. Raises KernelBug from one of its own works."""
        self._check_not_own("destroy_workqueue")
        self._destroyed = True
        self.drain_workqueue()

    def _check_not_own(self, what: str) -> None:
        worker = self._pool.current_worker()
        if worker is not None and worker.wq is self:
            raise KernelBug(f"BUG: {what}() of {self.name} from its own {worker.work!r} would wait for itself")

    def __repr__(self) -> str:
        state = " destroyed" if self._destroyed else " draining" if self._draining else ""
        return (
            f"<Workqueue {self.name}{state} active={self.nr_active}/{self.max_active} inactive={len(self._inactive)} "
            f"flushers: {self._flush_wait!r}>"
        )


class Workqueues:
    """The pool of one kernel, and the queue that is always there.

    Attributes:
        pool: the workers.
        system_wq: what `schedule_work()` queues on.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.pool = WorkerPool(kernel)
        self.system_wq = self.alloc_workqueue("events")

    def alloc_workqueue(self, name: str, max_active: int = 0, ordered: bool = False) -> Workqueue:
        """Make a work queue.

        Args:
            name: shown in traces and reports.
            max_active: how many of its works may be in execution at a time; 0 for the default.
            ordered: one at a time, in the order of queueing.

        Raises:
            ValueError: for a negative `max_active`, or more than 1 in an ordered queue.
        """
        if max_active < 0:
            raise ValueError(f"max_active={max_active}: use a positive number, or 0 for the default of {WQ_DFL_ACTIVE}")
        if ordered and max_active > 1:
            raise ValueError(f"max_active={max_active}: an ordered work queue runs one work at a time")
        return Workqueue(self._kernel, self.pool, name, 1 if ordered else max_active or WQ_DFL_ACTIVE)
