"""Signals: <linux/sched/signal.h>."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.kernel.current import current_kernel

if TYPE_CHECKING:
    from lkl_green.kernel.task import Task


def send_sig(sig: int, task: Task) -> None:
    """Send a signal to a task; what becomes of it is told in kernel/signal.py. Raises OSError: EINVAL, EOPNOTSUPP."""
    current_kernel().signals.send_sig(sig, task)


def allow_signal(sig: int) -> None:
    """Let the current kernel thread receive a signal."""
    current_kernel().signals.allow_signal(sig)


def signal_pending(task: Task | None = None) -> bool:
    """Whether a signal waits for the task, the current one if left out."""
    kernel = current_kernel()
    return kernel.signals.signal_pending(kernel.sched.current if task is None else task)


def flush_signals(task: Task | None = None) -> None:
    """Forget pending signals."""
    kernel = current_kernel()
    kernel.signals.flush_signals(kernel.sched.current if task is None else task)
