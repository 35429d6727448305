"""Tasks and the CPU: <linux/sched.h>, <linux/preempt.h>."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.task import (
    DEFAULT_PRIO,
    MAX_RT_PRIO,
    SCHED_FIFO,
    SCHED_NORMAL,
    SCHED_RR,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
)

if TYPE_CHECKING:
    from lkl_green.kernel.task import Task


def current() -> Task:
    """The running task."""
    return current_kernel().sched.current


def schedule() -> None:
    """Give up the CPU (rules 115 to 117)."""
    current_kernel().sched.schedule()


def cond_resched() -> bool:
    """Let others run if it is time; whether one did (rule 127)."""
    return current_kernel().sched.cond_resched()


def set_current_state(state: int) -> None:
    """Announce a sleep, before the condition is tested (rule 116)."""
    current_kernel().sched.current.state = state


def schedule_timeout(timeout_ns: int) -> int:
    """Sleep in the state that was set, for at most `timeout_ns`; what is left of it (rule 118)."""
    return current_kernel().timers.schedule_timeout(timeout_ns)


def schedule_timeout_uninterruptible(timeout_ns: int) -> int:
    """The same, uninterruptible."""
    set_current_state(TASK_UNINTERRUPTIBLE)
    return schedule_timeout(timeout_ns)


def schedule_timeout_interruptible(timeout_ns: int) -> int:
    """The same, interruptible."""
    set_current_state(TASK_INTERRUPTIBLE)
    return schedule_timeout(timeout_ns)


def yield_() -> None:
    """Go to the end of the queue (Linux: yield())."""
    set_current_state(TASK_RUNNING)
    schedule()


def need_resched() -> bool:
    """Whether somebody more important is runnable (rule 127)."""
    return current_kernel().sched.current.need_resched


def preempt_disable() -> None:
    """Forbid sleeping and preemption until `preempt_enable()`."""
    current_kernel().sched.preempt_disable()


def preempt_enable() -> None:
    """Undo one `preempt_disable()`. Raises KernelBug if there is none."""
    current_kernel().sched.preempt_enable()


def wake_up_process(task: Task) -> bool:
    """Wake a sleeping task; whether it slept (rule 114)."""
    return current_kernel().sched.wake_up_process(task)


def sched_setscheduler(task: Task, policy: int, rt_priority: int = 0) -> None:
    """Set policy and real-time priority.

    Args:
        task: whose.
        policy: SCHED_NORMAL, SCHED_FIFO or SCHED_RR.
        rt_priority: an integer from 1 to 99 for SCHED_FIFO and SCHED_RR; the highest is the most important.

    Raises:
        ValueError: for another policy or priority.
    """
    if policy == SCHED_NORMAL:
        prio = DEFAULT_PRIO
    elif policy in (SCHED_FIFO, SCHED_RR) and rt_priority in range(1, MAX_RT_PRIO):
        prio = MAX_RT_PRIO - 1 - int(rt_priority)
    else:
        raise ValueError(
            f"policy {policy!r} with rt_priority {rt_priority!r}: the policies are SCHED_NORMAL, SCHED_FIFO and "
            "SCHED_RR; real-time priorities are 1 to 99, and integers"
        )
    current_kernel().sched.sched_setscheduler(task, policy, prio)
