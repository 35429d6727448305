"""What the scheduler does about asynchronous exceptions.

These are exceptions that can come between any two calls: a signal handler raises KeyboardInterrupt, a thread reaches
the recursion limit, or memory is short. If one comes in the middle of a switch, `current` may be a task that does not
run, and the task that was picked may be on no queue.

1. *Undo at once what needs no call.* The handlers in `schedule()` and similar functions make the task that was about to
   leave the current one again, and runnable. `schedule()` then raises the exception in that task. The handlers call
   nothing, because at the recursion limit a call would fail.
2. *Repair the rest before the next task is picked.* The handlers set `needs_repair` and hide `fifo`. So the next pick
   takes the slow path, which calls `repair()`. It queues the tasks again that were lost.
3. *The architecture keeps its contract.* A `switch_to` that raises has either not begun or is complete; see
   `lkl_green.arch.base`.

Dropped: a panic for each such exception. It would be as simple. But Ctrl-C in a plain `lkl_run()` loop is an everyday
event, and so is a RecursionError that a kernel thread catches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlet import GreenletExit

from lkl_green.errors import HostThreadExit, LongJump, ScheduleAborted, TaskAbandoned, TaskKilled
from lkl_green.kernel.task import KILLED_SLEEPS, TASK_DEAD, TASK_RUNNING

if TYPE_CHECKING:
    from lkl_green.kernel.sched import Scheduler

# These leave `schedule()` on purpose, when nothing is half done.
ORDERLY = (TaskKilled, TaskAbandoned, HostThreadExit, LongJump, ScheduleAborted, GreenletExit)


def repair(sched: Scheduler) -> None:
    """Make the run queue right again: it holds each runnable task once, without the current one.

    If a task was lost, the order may differ from the one before.
    """
    current, policy = sched.current, sched.policy
    if current is not sched.swapper:
        sched.picked = None  # the application did not get the CPU
    policy.dequeue_task(current)
    runnable = [task for task in sched.tasks if task.state == TASK_RUNNING and task not in (current, sched.picked)]
    if len(runnable) != policy.nr_running:
        for task in runnable:
            policy.dequeue_task(task)
        for task in runnable:
            policy.enqueue_task(task)
    last = sched.last
    if last.state == TASK_DEAD and last.killed <= KILLED_SLEEPS and last is not current:
        sched.on_dead(last)  # a second call does nothing
    sched.needs_repair = False
