"""The pool of kernel threads that run calls: made when needed, kept for the next call.

A call is a kernel thread with the application for its owner, a thread of init like the host tasks of LKL, so that calls
share the application's open files. Making a thread and burying it costs more than all the rest of a short call. So a
thread whose call has ended sleeps, like a kworker, and runs the next one. It is a new thread in every respect in which
a function could tell: name, context variables, stop flag. A thread that keeps something of its call (a signal, a child,
a lock or preemption that was not released, a priority) does not run another one: it exits, and is checked as every task
that exits.
"""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from lkl_green.kernel.fork import THREAD_FLAGS
from lkl_green.kernel.state import SystemState
from lkl_green.kernel.task import SCHED_NORMAL, TASK_COMM_LEN, TASK_IDLE, TASK_RUNNING
from lkl_green.kernel.taskend import TaskEnd

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.embed.kernel_call import Call
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task

_RUNNING = SystemState.RUNNING

# As many as are kept asleep; a burst of calls makes more, which exit.
KEPT = 64


class PoolThread(TaskEnd):
    """A kernel thread of the pool; the `kthread` of its task between two calls.

    Attributes:
        task: the kernel thread.
        call: what it is to run next.
    """

    __slots__ = ("_idle", "call", "task")

    def __init__(self, idle: list[PoolThread], call: Call) -> None:
        self._idle = idle
        self.call: Call | None = call
        self.task: Task

    def thread_exits(self, task: Task, code: Any) -> None:
        """It was taken down in its sleep."""
        if self in self._idle:
            self._idle.remove(self)


class ThreadPool:
    """The threads that run the calls of one embedded kernel.

    Attributes:
        idle: those that sleep, the one that ran last at the end.
    """

    __slots__ = ("_in_greenlets", "_kernel", "_nothing", "_wake_up", "idle")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.idle: list[PoolThread] = []
        self._in_greenlets = not kernel.host.foreign_threads_run_kernel
        self._nothing = Context()
        self._wake_up = kernel.sched.try_to_wake_up  # in the loop, which passes no scheduling points

    # -- in the loop

    def run(self, call: Call, context: Context, name: str) -> None:
        """Have a call run in the next slice. Raises OSError as fork does."""
        idle = self.idle
        if not idle:
            thread = PoolThread(idle, call)
            call.task = thread.task = start_thread(self._kernel, call, self._work, thread, name, context)
            return
        thread = idle.pop()
        task = thread.task
        thread.call = call
        call.context = context
        call.task = task
        wake_up = self._wake_up
        task.comm = name if len(name) < TASK_COMM_LEN else name[: TASK_COMM_LEN - 1]
        task.kthread = call
        wake_up(task)

    # -- in the kernel

    def _work(self, thread: PoolThread) -> Any:
        """The thread function: one call after another, all of it in one place, which a short call notices."""
        sched = self._kernel.sched
        schedule = sched.schedule
        idle = self.idle
        nothing = self._nothing
        task = sched.current
        me = getcurrent() if self._in_greenlets else None
        while True:
            call, thread.call = thread.call, None
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
            if (  # something of the call is left, or enough threads sleep
                task.preempt_count
                or task.irqs_disabled
                or task.locks_held
                or task.killed
                or task.signals
                or task.children
                or task.policy != SCHED_NORMAL
                or task.state != TASK_RUNNING
                or sched.system_state is not _RUNNING
                or len(idle) >= KEPT
            ):
                return code  # to the call, by thread_exits()
            task.kthread = thread
            task.comm = "kcall"
            call.ended(code)
            del call, code, context  # a sleeping thread keeps nothing alive
            idle.append(thread)
            task.waiting_for = "the next call"
            while thread.call is None:  # a wake-up may come from code that still knows the task
                task.state = TASK_IDLE
                schedule()
            task.waiting_for = None


def start_thread(kernel: Kernel, end: TaskEnd, fn: Callable[[Any], Any], arg: Any, name: str, context: Context) -> Task:
    """Start a thread of init that calls `fn(arg)`, and whose end is reported to `end`. Raises OSError as fork does."""
    task = kernel.fork.create_thread(end, fn, arg, name, context, kernel.init_task, THREAD_FLAGS)
    kernel.sched.wake_up_new_task(task)
    return task
