"""What the end of a kernel thread is reported to: `task.kthread`.

    made by                            its end is reported to
    kthread_create()                   a KThread: kthread_stop() waits for it; it can be stopped and parked
    fork.create_thread(end, ...)       `end`, an object of the caller: a call of an event loop, a threading.Thread, ...
    kernel_thread(), clone()           nothing: `task.kthread` is None, and a parent collects the task

`exit_task()` calls `thread_exits()` when the thread has left its frames. A thread that was not made by kthread_create()
has no stop flag, so that kthread_stop() and kthread_park() refuse it; those whose end is a `Stoppable` have one as soon
as it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.errors import KernelBug

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.kthread import KThread
    from lkl_green.kernel.task import Task


class TaskEnd:
    """What the end of a kernel thread is reported to. This one drops the report, and its thread cannot be stopped.

    Attributes:
        name: what the program calls the thread, of any length; "" if its comm says all.
        should_stop, should_park: whether the thread was asked to stop, or to park.
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        """What the program calls the thread, of any length; "" if its comm says all."""
        return ""

    def thread_exits(self, task: Task, code: Any) -> None:
        """The thread has left its frames, or was dropped before it ran; `code` is its exit code."""

    def to_kthread(self, kernel: Kernel, task: Task) -> KThread:
        """What kthread_stop() and kthread_park() work on (Linux: to_kthread()). Raises KernelBug if there is none."""
        raise not_a_kthread(task)

    @property
    def should_stop(self) -> bool:
        """Whether the thread was asked to stop."""
        return False

    @property
    def should_park(self) -> bool:
        """Whether the thread was asked to park."""
        return False


class Stoppable(TaskEnd):
    """The end of a thread that was made without kthreadd and can be stopped and parked all the same.

    Few of these threads are ever stopped. So the KThread is made when it is first needed: making one with each thread
    would cost a short thread more than all the rest of its end.

    Attributes:
        kthread: the KThread, once it was needed. A subclass sets it to None, and reports the end to it.
    """

    __slots__ = ("kthread",)

    kthread: KThread | None

    def to_kthread(self, kernel: Kernel, task: Task) -> KThread:
        """What kthread_stop() and kthread_park() work on; made at the first call."""
        if self.kthread is None:
            self.kthread = kernel.kthreads.late_kthread(task)
        return self.kthread

    @property
    def should_stop(self) -> bool:
        """Whether the thread was asked to stop."""
        return self.kthread is not None and self.kthread.should_stop

    @property
    def should_park(self) -> bool:
        """Whether the thread was asked to park."""
        return self.kthread is not None and self.kthread.should_park


def not_a_kthread(task: Task) -> KernelBug:
    """The error for a task that cannot be stopped or parked."""
    return KernelBug(
        f"BUG: {task!r} was not made by kthread_create() and cannot be stopped or parked: make it with kthread_run(); "
        "or let its function test a flag of your own, and join() the thread"
    )
