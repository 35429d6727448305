"""Work queues: functions that are to run soon, in a thread that may sleep (kernel/workqueue.c, rule 125).

A work is idle, *pending* (its timer runs, or it is on a list), or it runs; and it may be pending again while it runs.
A queue owns no threads. It is a limit, `max_active`, on how many of its works are given to the pool at a time, and
something that can be flushed:

    queue_work() --> inactive works --(fewer than max_active)--> list of the pool --> a worker runs it

*Waiting for one work.* A flusher leaves a completion with the queueing that it waits for, not with the work: that is
"the last queueing" of rule 125, and what is queued after the flush began does not matter. It is completed when that run
ends, by an exception or a halt as well as by returning, or when that queueing is cancelled. Linux puts a barrier work
behind the flushed one, to the same effect.

*Waiting for all works of a queue.* Each item takes the queue's colour. A flush changes the colour and waits until no
item of an older one is left. Linux has fifteen colours and queues the flushers that come when they are used up;
integers are not used up.

*Cancelling* raises a count on the work, while which nobody can queue it, and then waits as a flush does; so it comes to
an end with a work that queues itself (rule 110 says the same of kthread workers).

Wherever somebody is woken, a task of higher priority may run before the next statement. So each function first leaves
everything consistent and wakes last.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from lkl_green.errors import KernelBug
from lkl_green.kernel.completion import Completion
from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.timer import Timer
from lkl_green.kernel.wait import WaitQueueHead
from lkl_green.kernel.workerpool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.workerpool import Worker

WQ_DFL_ACTIVE = 256


class Work:
    """A function to run in a worker thread (Linux: `struct work_struct`).

    Args:
        func: called as `func(work)`.
        kernel: the kernel it belongs to; the current one if left out.
        name: shown in traces and reports; the function's if left out.

    Fields that only the queue and the pool write:

    Attributes:
        pending: queued, or waiting for its time, and not yet running for it.
        canceling: how many tasks cancel it at present; it cannot be queued meanwhile.
        on_list: the list on which it waits for a worker; None if there is none.
        flushers: who waits for the end of the pending run.
        worker: who runs it.
        wq, color: its queue, and the queue's colour when it was queued.
    """

    __slots__ = (
        "__weakref__",
        "_kernel",
        "canceling",
        "color",
        "flushers",
        "func",
        "function",
        "name",
        "on_list",
        "pending",
        "worker",
        "wq",
    )

    def __init__(self, func: Callable[..., object], kernel: Kernel | None = None, name: str = "") -> None:
        self._kernel = kernel if kernel is not None else current_kernel()
        self.func = func
        self.function: str = getattr(func, "__name__", type(func).__name__)
        self.name = name or self.function
        self.pending = False
        self.canceling = 0
        self.on_list: OrderedDict[Work, None] | None = None
        self.flushers: list[Completion] = []
        self.worker: Worker | None = None
        self.wq: Workqueue | None = None
        self.color = 0

    # -- for everybody

    def flush_work(self) -> bool:
        """Wait until the last queueing has been executed; False if there was nothing to wait for.

        Raises:
            KernelBug: from the work itself, which would wait for its own end.
        """
        sched = self._kernel.sched
        if sched.listener is not None:
            sched.listener("flush_work", self)
        self._check_not_own("flush_work")
        if self.on_list is not None:
            flushers = self.flushers
        elif self.worker is not None:
            flushers = self.worker.flushers
        else:
            return False
        done = Completion(self._kernel, f"flush of work {self.name}")
        flushers.append(done)
        done.wait_for_completion()
        return True

    def cancel_work(self) -> bool:
        """Take it off its queue, without waiting for a run that has begun; whether it was pending."""
        sched = self._kernel.sched
        if sched.listener is not None:
            sched.listener("cancel_work", self)
        if not self.pending:
            return False
        self.pending = False
        on_list, self.on_list = self.on_list, None
        if on_list is not None:
            assert self.wq is not None
            del on_list[self]
            flushers, self.flushers = self.flushers, []
            self.wq.work_cancelled(self.color, on_list)
            for flusher in flushers:
                flusher.complete()
        return True

    def cancel_work_sync(self) -> bool:
        """Cancel, and wait for the end of a run that has begun; whether it was pending.

        When this returns, the work is neither pending nor running, even if it queues itself. Raises KernelBug from the
        work itself.
        """
        self._check_not_own("cancel_work_sync")
        self.canceling += 1
        try:
            was_pending = self.cancel_work()
            self.flush_work()
        finally:
            self.canceling -= 1
        return was_pending

    def _check_not_own(self, what: str) -> None:
        if self.worker is not None and self.worker.task is self._kernel.sched.current:
            raise KernelBug(f"BUG: {what}() of {self!r} from its own function would wait for itself")

    # -- for the pool

    def start(self, worker: Worker) -> tuple[Workqueue, int]:
        """A worker begins to run it: from here on it may be queued again. Its queue and colour for this run."""
        assert self.wq is not None
        self.pending = False
        self.on_list = None
        self.worker = worker
        worker.work, worker.wq = self, self.wq
        worker.flushers, self.flushers = self.flushers, []
        return self.wq, self.color

    def __repr__(self) -> str:
        queue = "" if self.wq is None else f" on {self.wq.name}"
        running = "" if self.worker is None else f" running in {self.worker.task.comm}-{self.worker.task.pid}"
        state = f"pending{queue}" if self.pending else "idle" if self.worker is None else ""
        return f"<{type(self).__name__} {self.name}{running}{' ' if state else ''}{state}>"


class DelayedWork(Work):
    """A work that is queued when some time has passed (Linux: `struct delayed_work`).

    Args:
        func: called as `func(work)`.
        kernel: the kernel it belongs to; the current one if left out.
        name: shown in traces and reports; the function's if left out.
    """

    __slots__ = ("timer",)

    def __init__(self, func: Callable[..., object], kernel: Kernel | None = None, name: str = "") -> None:
        super().__init__(func, kernel, name)
        self.timer = Timer(self.delayed_work_timer_fn, self._kernel, self.name)

    def delayed_work_timer_fn(self, _timer: Timer) -> None:
        """The time has passed."""
        assert self.wq is not None
        self.pending = False
        self.wq.queue_work(self)

    def flush_delayed_work(self) -> bool:
        """Queue it now if it waits for its time, and flush it; False if there was nothing to wait for."""
        if self.timer.del_timer():
            self.delayed_work_timer_fn(self.timer)
        return self.flush_work()

    def cancel_work(self) -> bool:
        """Stop the timer, or take it off its queue; whether it was pending."""
        self.timer.del_timer()
        return super().cancel_work()

    def cancel_delayed_work(self) -> bool:
        """Cancel without waiting for a run that has begun; whether it was pending."""
        return self.cancel_work()

    def cancel_delayed_work_sync(self) -> bool:
        """Cancel, and wait for the end of a run that has begun; whether it was pending. Raises KernelBug from it."""
        return self.cancel_work_sync()


class Workqueue:
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
        if work.pending or work.canceling or self._refuses(work):
            return False
        work.pending = True
        work.wq = self
        work.color = color = self._color
        self._in_flight[color] = self._in_flight.get(color, 0) + 1
        if self.nr_active < self.max_active:
            self.nr_active += 1
            self._pool.insert(work)
        else:
            work.on_list = self._inactive
            self._inactive[work] = None
        return True

    def queue_delayed_work(self, dwork: DelayedWork, delay_ns: int) -> bool:
        """Queue it when `delay_ns` have passed, at once for 0; False if it is pending already or being cancelled."""
        if delay_ns <= 0:
            return self.queue_work(dwork)
        if dwork.pending or dwork.canceling or self._refuses(dwork):
            return False
        dwork.pending = True
        dwork.wq = self
        dwork.timer.mod_timer_in(delay_ns)
        return True

    def mod_delayed_work(self, dwork: DelayedWork, delay_ns: int) -> bool:
        """Queue it in `delay_ns` from now, pending or not; whether it was pending.

        While it is being cancelled it is not pending and is not queued: the other one wins (rule 109).
        """
        was_pending = dwork.cancel_delayed_work()
        self.queue_delayed_work(dwork, delay_ns)
        return was_pending

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
