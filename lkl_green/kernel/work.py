"""Works: functions that a worker thread is to run (kernel/workqueue.c: `struct work_struct`, rule 125).

A work is idle, *pending* (its timer runs, or it is on a list), or it runs; and it may be pending again while it runs.

*Waiting for a work.* A flusher leaves a completion with the queueing that it waits for, not with the work: that is "the
last queueing" of rule 125, and what is queued after the flush began does not matter. It is completed when that run
ends, by an exception or a halt as well as by returning, or when that queueing is cancelled. Linux puts a barrier work
behind the flushed one, to the same effect.

*Cancelling* raises a count on the work, while which nobody can queue it, and then waits as a flush does; so it comes to
an end with a work that queues itself (rule 110 says the same of kthread workers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.errors import KernelBug
from lkl_green.kernel.binding import BindableWork
from lkl_green.kernel.callback import check_callback
from lkl_green.kernel.completion import Completion
from lkl_green.kernel.timer import Timer

if TYPE_CHECKING:
    from collections import OrderedDict
    from collections.abc import Callable, Iterable

    from lkl_green.kernel.binding import Bindable
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task
    from lkl_green.kernel.workerpool import Worker
    from lkl_green.kernel.workqueue import Workqueue


class Work(BindableWork):
    """A function to run in a worker thread (Linux: `struct work_struct`).

    Args:
        func: called as `func(work)`.
        kernel: the kernel it belongs to; the current one if left out. Bound at first use if no kernel runs.
        name: shown in traces and reports; the function's if left out.

    Fields that only the queue and the pool write:

    Attributes:
        pending, canceling: see BindableWork.
        on_list: the list on which it waits for a worker; None if there is none.
        flushers: who waits for the end of the pending run.
        worker: who runs it.
        wq, color: its queue, and the queue's colour when it was queued.
    """

    __slots__ = (
        "color",
        "flushers",
        "func",
        "function",
        "name",
        "on_list",
        "worker",
        "wq",
    )

    def __init__(self, func: Callable[..., object], kernel: Kernel | None = None, name: str = "") -> None:
        check_callback(func, "function of a work")
        super().__init__(kernel)
        self.func = func
        self.function: str = getattr(func, "__name__", type(func).__name__)
        self.name = name or self.function
        self.on_list: OrderedDict[Work, None] | None = None
        self.flushers: list[Completion] = []
        self.worker: Worker | None = None
        self.wq: Workqueue | None = None
        self.color = 0

    def untie(self) -> None:
        """Be idle and unbound; on no list, and in no queue."""
        super().untie()
        self.on_list = self.worker = self.wq = None
        self.flushers = []

    def users(self) -> Iterable[Task]:
        """Who runs it."""
        return () if self.worker is None else [self.worker.task]

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
        sched.preempt_disable()
        try:
            return self.grab_pending()
        finally:
            sched.preempt_enable()

    def grab_pending(self) -> bool:
        """Take it from wherever it waits, with preemption disabled; whether it was pending."""
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
        kernel: the kernel it belongs to; the current one if left out. Bound at first use if no kernel runs.
        name: shown in traces and reports; the function's if left out.
    """

    __slots__ = ("timer",)

    def __init__(self, func: Callable[..., object], kernel: Kernel | None = None, name: str = "") -> None:
        super().__init__(func, kernel, name)
        self.timer = Timer(self.delayed_work_timer_fn, self._kernel, self.name)

    def whole(self) -> tuple[Bindable, ...]:
        """Itself and its timer."""
        return self, self.timer

    def delayed_work_timer_fn(self, _timer: Timer) -> None:
        """The time has passed."""
        assert self.wq is not None
        self.wq.expired(self)

    def flush_delayed_work(self) -> bool:
        """Queue it now if it waits for its time, and flush it; False if there was nothing to wait for."""
        if self.timer.del_timer():
            assert self.wq is not None
            self.wq.expired(self)
        return self.flush_work()

    def grab_pending(self) -> bool:
        """Stop the timer, or take it off its queue; whether it was pending."""
        self.timer.del_timer()
        return super().grab_pending()

    def cancel_delayed_work(self) -> bool:
        """Cancel without waiting for a run that has begun; whether it was pending."""
        return self.cancel_work()

    def cancel_delayed_work_sync(self) -> bool:
        """Cancel, and wait for the end of a run that has begun; whether it was pending. Raises KernelBug from it."""
        return self.cancel_work_sync()
