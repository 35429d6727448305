"""The works of kthread workers (kernel/kthread.c: `struct kthread_work`, rules 107 to 111).

A work is pending while it waits for its time or on the list. It is off the list when its function is called, and the
worker does not look at it again afterwards, so that the function may dispose of it, or queue it anew (rule 107).

*Flushing.* Linux puts a marker, a work that completes something, directly behind the flushed work (rule 111). Here the
marker is kept with that queueing of the work, which is the same place, because nothing can come between them; and the
list needs no insertion in the middle. A marker ends with the run that it waits for, by an exception as well, or with
the cancelling of that queueing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.errors import KernelBug
from lkl_green.kernel.binding import BindableWork
from lkl_green.kernel.callback import check_callback
from lkl_green.kernel.completion import Completion
from lkl_green.kernel.timer import Timer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lkl_green.kernel.binding import Bindable
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.kthread_worker import KthreadWorker
    from lkl_green.kernel.task import Task


class KthreadWork(BindableWork):
    """A function for a kthread worker to run (Linux: `struct kthread_work`).

    Args:
        func: called as `func(work)`.
        kernel: the kernel it belongs to; the current one if left out. Bound at first use if no kernel runs.
        name: shown in reports; the function's if left out.

    Fields that only the worker writes:

    Attributes:
        pending, canceling: see BindableWork.
        markers: what to complete when the pending run has ended.
        worker: on which it was queued last; one work belongs to one worker.
    """

    __slots__ = ("func", "markers", "name", "worker")

    def __init__(self, func: Callable[..., object], kernel: Kernel | None = None, name: str = "") -> None:
        check_callback(func, "function of a work")
        super().__init__(kernel)
        self.func = func
        self.name: str = name or getattr(func, "__name__", type(func).__name__)
        self.markers: list[Completion] = []
        self.worker: KthreadWorker | None = None

    def untie(self) -> None:
        """Be idle and unbound; on no worker's list."""
        super().untie()
        self.markers = []
        self.worker = None

    def users(self) -> Iterable[Task]:
        """Who runs it."""
        worker = self.worker
        return () if worker is None or worker.current_work is not self or worker.task is None else [worker.task]

    def flush_work(self) -> None:
        """Wait until it is neither queued, as of now, nor running (rule 111). Raises KernelBug from the work itself."""
        sched = self._kernel.sched
        if sched.listener is not None:
            sched.listener("kthread_flush_work", self)
        self._check_not_own("kthread_flush_work")
        worker = self.worker
        if worker is None:
            return
        markers = worker.markers_of(self)
        if markers is not None:
            done = Completion(self._kernel, f"flush of work {self.name}")
            markers.append(done)
            done.wait_for_completion()

    def cancel_work_sync(self) -> bool:
        """Take it off its queue, and wait for the end of a run that has begun; whether it was pending (rule 110).

        When this returns, the work is neither pending nor running, even if it queues itself. Raises KernelBug from the
        work itself.
        """
        sched = self._kernel.sched
        if sched.listener is not None:
            sched.listener("kthread_cancel_work_sync", self)
        self._check_not_own("kthread_cancel_work_sync")
        worker = self.worker
        if worker is None:
            return False
        self.canceling += 1
        try:
            was_pending = worker.cancel(self)
            self.flush_work()
        finally:
            self.canceling -= 1
        return was_pending

    def _check_not_own(self, what: str) -> None:
        worker = self.worker
        if worker is not None and worker.current_work is self and worker.task is self._kernel.sched.current:
            raise KernelBug(f"BUG: {what}() of {self!r} from its own function would wait for itself")

    def __repr__(self) -> str:
        where = "" if self.worker is None else f" on {self.worker.name}"
        running = " running" if self.worker is not None and self.worker.current_work is self else ""
        state = " pending" if self.pending else "" if running else " idle"
        return f"<{type(self).__name__} {self.name}{running}{state}{where}>"


class KthreadDelayedWork(KthreadWork):
    """A work that is queued when some time has passed (Linux: `struct kthread_delayed_work`).

    Args:
        func: called as `func(work)`.
        kernel: the kernel it belongs to; the current one if left out. Bound at first use if no kernel runs.
        name: shown in reports; the function's if left out.
    """

    __slots__ = ("timer",)

    def __init__(self, func: Callable[..., object], kernel: Kernel | None = None, name: str = "") -> None:
        super().__init__(func, kernel, name)
        self.timer = Timer(self.kthread_delayed_work_timer_fn, self._kernel, self.name)

    def whole(self) -> tuple[Bindable, ...]:
        """Itself and its timer."""
        return self, self.timer

    def kthread_delayed_work_timer_fn(self, _timer: Timer) -> None:
        """The time has passed."""
        assert self.worker is not None
        self.worker.expired(self)
