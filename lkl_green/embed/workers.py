"""The kernel threads that run calls: made when needed, kept for the next call.

A call is a kernel thread with the application for its owner, a thread of init like the host tasks of LKL, so that calls
share the application's open files. Making a thread and burying it costs more than all the rest of a short call. So a
thread whose call has ended sleeps, like a kworker, and runs the next one; it is a new thread in every respect in which
a function could tell: name, context variables, stop flag. One that has more to it (a signal, a child, a lock or
preemption it has forgotten to release, a priority) is not kept: it exits, and whatever exiting finds, is found.
"""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from lkl_green.kernel.fork import THREAD_FLAGS
from lkl_green.kernel.task import SCHED_NORMAL, TASK_COMM_LEN, TASK_IDLE, TASK_RUNNING
from lkl_green.kernel.taskend import TaskEnd

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.embed.calls import Call
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task

# As many as are kept asleep; a burst of calls makes more, which exit.
KEPT = 64


class Worker(TaskEnd):
    """What makes a kernel thread a worker (Linux: struct worker); its `kthread` between two calls.

    Attributes:
        task: the kernel thread.
        call: what it is to run next.
    """

    __slots__ = ("call", "task", "workers")

    def __init__(self, workers: Workers, call: Call) -> None:
        self.workers = workers
        self.call: Call | None = call
        self.task: Task

    def thread_exits(self, task: Task, code: Any) -> None:
        """It was taken down in its sleep, or never ran."""
        idle = self.workers.idle
        if self in idle:
            idle.remove(self)


class Workers:
    """The workers of one embedded kernel.

    Attributes:
        kernel: the kernel.
        idle: those that sleep, the one that ran last at the end.
    """

    __slots__ = ("_in_greenlets", "_nothing", "_wake_up", "idle", "kernel")

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.idle: list[Worker] = []
        self._in_greenlets = not kernel.host.foreign_threads_run_kernel
        self._nothing = Context()
        self._wake_up = kernel.sched.try_to_wake_up  # in the loop, which passes no scheduling points

    # -- in the loop

    def run(self, call: Call, context: Context, name: str) -> None:
        """Have a call run in the next slice. Raises OSError as fork does."""
        idle = self.idle
        if not idle:
            worker = Worker(self, call)
            call.task = worker.task = start_thread(self.kernel, call, self._work, worker, name, context)
            return
        worker = idle.pop()
        task = worker.task
        worker.call = call
        call.context = context
        call.task = task
        wake_up = self._wake_up
        task.comm = name if len(name) < TASK_COMM_LEN else name[: TASK_COMM_LEN - 1]
        task.kthread = call
        wake_up(task)

    # -- in the kernel

    def _work(self, worker: Worker) -> Any:
        """The thread function: one call after another, all of it in one place, which a short call notices."""
        sched = self.kernel.sched
        schedule = sched.schedule
        idle = self.idle
        nothing = self._nothing
        task = sched.current
        me = getcurrent() if self._in_greenlets else None
        while True:
            call, worker.call = worker.call, None
            assert call is not None
            context, call.context = call.context, None
            if context is None:  # the first call of a thread, which was made with its context
                code = call.run(None)
            elif me is None:
                code = context.run(call.run, None)
            else:
                me.gr_context = context
                code = call.run(None)
                me.gr_context = nothing
            if (  # something of the call is left, or we are enough
                task.preempt_count
                or task.irqs_disabled
                or task.locks_held
                or task.killed
                or task.signals
                or task.children
                or task.policy != SCHED_NORMAL
                or task.state != TASK_RUNNING
                or sched.halting
                or len(idle) >= KEPT
            ):
                return code  # to the call, by thread_exits()
            task.kthread = worker
            task.comm = "kcall"
            call.ended(code)
            del call, code, context  # a sleeping worker keeps nobody alive
            idle.append(worker)
            task.waiting_for = "the next call"
            while worker.call is None:  # whoever still knows the task may wake it
                task.state = TASK_IDLE
                schedule()
            task.waiting_for = None


def start_thread(kernel: Kernel, end: TaskEnd, fn: Callable[[Any], Any], arg: Any, name: str, context: Context) -> Task:
    """Start a thread of init that calls `fn(arg)`, and whose end is reported to `end`. Raises OSError as fork does."""
    task = kernel.fork.create_thread(end, fn, arg, name, context, kernel.init_task, THREAD_FLAGS)
    kernel.sched.wake_up_new_task(task)
    return task
