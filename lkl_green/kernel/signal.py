"""Signals, as far as sleeping and dying go: no handlers, no masks, no queueing.

A signal ends the interruptible sleep of the task it is sent to; SIGKILL ends a killable one, too, and takes a user
process down when it next returns from the kernel, where other signals are used up. Kernel threads ignore signals unless
they called `allow_signal()`, as in Linux.
"""

from __future__ import annotations

import errno
import signal
from typing import TYPE_CHECKING

from lkl_green.kernel.task import PF_KTHREAD, TASK_INTERRUPTIBLE, TASK_WAKEKILL, Task

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel

SIGABRT = int(signal.SIGABRT)
SIGKILL = int(signal.SIGKILL)
SIGCHLD = int(signal.SIGCHLD)
_NSIG = 64


class Signals:
    """Sending and testing signals in one kernel.

    Attributes:
        allowed: the signals that kernel threads accept, by pid.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.allowed: dict[int, set[int]] = {}

    def allow_signal(self, sig: int) -> None:
        """Let the current kernel thread receive `sig` (Linux: allow_signal())."""
        self.allowed.setdefault(self._kernel.sched.current.pid, set()).add(sig)

    def send_sig(self, sig: int, task: Task) -> None:
        """Send a signal (Linux: send_sig()). Raises OSError(EINVAL) for a number that is none."""
        if not 0 < sig <= _NSIG:
            raise OSError(errno.EINVAL, f"{sig} is not a signal")
        if task.flags & PF_KTHREAD and sig not in self.allowed.get(task.pid, ()):
            return
        if sig == SIGCHLD:
            return  # nobody can install a handler, and the default is to ignore it
        task.signals = (task.signals or set()) | {sig}
        states = TASK_INTERRUPTIBLE | (TASK_WAKEKILL if sig == SIGKILL else 0)
        self._kernel.sched.wake_up_state(task, states)

    def signal_pending(self, task: Task) -> bool:
        """Whether a signal waits to be dealt with."""
        return bool(task.signals)

    def fatal_signal_pending(self, task: Task) -> bool:
        """Whether SIGKILL does."""
        return task.signals is not None and SIGKILL in task.signals

    def pending_in(self, task: Task, state: int) -> bool:
        """Whether a sleep in `state` ends, or does not begin, because of a signal (Linux: signal_pending_state())."""
        signals = task.signals
        if not signals:
            return False
        return bool(state & TASK_INTERRUPTIBLE) or bool(state & TASK_WAKEKILL and SIGKILL in signals)

    def flush_signals(self, task: Task) -> None:
        """Forget what was sent (Linux: flush_signals())."""
        task.signals = None
