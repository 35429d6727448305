"""Kernel threads for everybody, and threads that run works: <linux/kthread.h>."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.kernel import kthread_worker as _kthread_worker
from lkl_green.kernel.current import current_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.kthread_work import KthreadDelayedWork, KthreadWork
    from lkl_green.kernel.kthread_worker import KthreadWorker
    from lkl_green.kernel.task import Task


def kthread_create(fn: Callable[..., Any], *args: Any, name: str = "kthread") -> Task:
    """Make a kernel thread that calls `fn(*args)` once it is woken (rules 95, 96). Raises OSError."""
    return current_kernel().kthreads.kthread_create(fn, *args, name=name)


def kthread_run(fn: Callable[..., Any], *args: Any, name: str = "kthread") -> Task:
    """Make a kernel thread and wake it. Raises OSError."""
    return current_kernel().kthreads.kthread_run(fn, *args, name=name)


def kthread_stop(task: Task) -> Any:
    """Ask a kthread to stop, wait until it has; its result (rule 97)."""
    return current_kernel().kthreads.kthread_stop(task)


def kthread_should_stop() -> bool:
    """Whether the current kthread was asked to stop (rule 100)."""
    return current_kernel().kthreads.should_stop()


def kthread_park(task: Task) -> int:
    """Ask a kthread to park and wait until it has; 0, -ENOSYS or -EBUSY (rule 103)."""
    return current_kernel().kthreads.kthread_park(task)


def kthread_unpark(task: Task) -> None:
    """Let it go on (rule 104)."""
    current_kernel().kthreads.kthread_unpark(task)


def kthread_should_park() -> bool:
    """Whether the current kthread was asked to park."""
    return current_kernel().kthreads.should_park()


def kthread_parkme() -> None:
    """Park for as long as that is asked (rule 102)."""
    current_kernel().kthreads.parkme()


def kthread_create_worker(name: str) -> KthreadWorker:
    """Make a kernel thread that runs works one after another (rules 107 to 111). Raises OSError."""
    return _kthread_worker.kthread_create_worker(current_kernel(), name)


def kthread_destroy_worker(worker: KthreadWorker) -> None:
    """Flush, and stop the thread (rule 108)."""
    worker.destroy_worker()


def kthread_queue_work(worker: KthreadWorker, work: KthreadWork) -> bool:
    """Run it after what is queued already; False if it is pending or being cancelled (rule 107)."""
    return worker.queue_work(work)


def kthread_queue_delayed_work(worker: KthreadWorker, dwork: KthreadDelayedWork, delay_ns: int) -> bool:
    """The same, when `delay_ns` have passed (rule 109)."""
    return worker.queue_delayed_work(dwork, delay_ns)


def kthread_mod_delayed_work(worker: KthreadWorker, dwork: KthreadDelayedWork, delay_ns: int) -> bool:
    """Queue it in `delay_ns` from now, pending or not; whether it was pending (rule 109)."""
    return worker.mod_delayed_work(dwork, delay_ns)


def kthread_cancel_work_sync(work: KthreadWork) -> bool:
    """Take it off its queue, and wait for the end of a run that has begun; whether it was pending (rule 110)."""
    return work.cancel_work_sync()


def kthread_cancel_delayed_work_sync(dwork: KthreadDelayedWork) -> bool:
    """The same; its timer is stopped, too."""
    return dwork.cancel_work_sync()


def kthread_flush_work(work: KthreadWork) -> None:
    """Wait until it is neither queued, as of now, nor running (rule 111)."""
    work.flush_work()


def kthread_flush_worker(worker: KthreadWorker) -> None:
    """Wait until everything queued before has been run."""
    worker.flush_worker()
