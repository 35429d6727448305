"""Work queues: <linux/workqueue.h>."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.kernel.current import current_kernel

if TYPE_CHECKING:
    from lkl_green.kernel.work import DelayedWork, Work
    from lkl_green.kernel.workqueue import Workqueue


def alloc_workqueue(name: str, max_active: int = 0, ordered: bool = False) -> Workqueue:
    """Make a work queue that runs up to `max_active` works at a time (rule 125). Raises ValueError."""
    return current_kernel().workqueues.alloc_workqueue(name, max_active, ordered)


def alloc_ordered_workqueue(name: str) -> Workqueue:
    """Make a work queue that runs one work at a time, in the order of queueing."""
    return current_kernel().workqueues.alloc_workqueue(name, ordered=True)


def destroy_workqueue(wq: Workqueue) -> None:
    """Drain it, and take nothing from now on."""
    wq.destroy_workqueue()


def queue_work(wq: Workqueue, work: Work) -> bool:
    """Run it in a worker thread; False if it is pending already. In any context."""
    return wq.queue_work(work)


def queue_delayed_work(wq: Workqueue, dwork: DelayedWork, delay_ns: int) -> bool:
    """The same, when `delay_ns` have passed."""
    return wq.queue_delayed_work(dwork, delay_ns)


def mod_delayed_work(wq: Workqueue, dwork: DelayedWork, delay_ns: int) -> bool:
    """Queue it in `delay_ns` from now, pending or not; whether it was pending."""
    return wq.mod_delayed_work(dwork, delay_ns)


def schedule_work(work: Work) -> bool:
    """`queue_work()` on the system's own queue."""
    return current_kernel().workqueues.system_wq.queue_work(work)


def schedule_delayed_work(dwork: DelayedWork, delay_ns: int) -> bool:
    """`queue_delayed_work()` on the system's own queue."""
    return current_kernel().workqueues.system_wq.queue_delayed_work(dwork, delay_ns)


def flush_work(work: Work) -> bool:
    """Wait until the last queueing has been executed; False if there was nothing to wait for."""
    return work.flush_work()


def flush_delayed_work(dwork: DelayedWork) -> bool:
    """Do not wait for its time any longer, and flush it."""
    return dwork.flush_delayed_work()


def flush_workqueue(wq: Workqueue) -> None:
    """Wait until everything queued before has been executed."""
    wq.flush_workqueue()


def drain_workqueue(wq: Workqueue) -> None:
    """Wait until it is empty; meanwhile only its own works may queue more."""
    wq.drain_workqueue()


def cancel_work(work: Work) -> bool:
    """Take it off its queue; whether it was pending."""
    return work.cancel_work()


def cancel_work_sync(work: Work) -> bool:
    """The same, and wait for the end of a run that has begun."""
    return work.cancel_work_sync()


def cancel_delayed_work(dwork: DelayedWork) -> bool:
    """Stop its timer, or take it off its queue; whether it was pending."""
    return dwork.cancel_delayed_work()


def cancel_delayed_work_sync(dwork: DelayedWork) -> bool:
    """The same, and wait for the end of a run that has begun."""
    return dwork.cancel_delayed_work_sync()
