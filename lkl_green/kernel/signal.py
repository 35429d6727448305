"""Signals (kernel/signal.c): who gets one, whose sleep it ends, and who dies of it.

*Kernel threads* ignore signals unless they called `allow_signal()`. They find out with `signal_pending()` and decide
what it means; nothing ever happens to them by itself. Host tasks, which make the application's system calls, are kernel
threads in this, so that no signal ends a thread of the application.

*Processes* have a disposition for each signal, a mask for each thread, and two sets of signals that were sent and not
dealt with: the thread's own (`send_sig()`, `tgkill()`) and the process's (`kill()`). Nothing but a disposition, a mask
or a first signal makes these exist: a process that never has to do with signals costs nothing at birth and death.

`task.signals` stands for Linux's TIF_SIGPENDING and says why: the signals that are to be dealt with by this thread when
it returns to user mode (`kernel/entry.py`), and that end its interruptible sleeps until then. A signal for the process
is assigned to one of its threads that does not block it (Linux: complete_signal()). Linux lets any thread take it that
comes by first, and makes the one that was woken for nothing start its call again; here it stays assigned until that
thread blocks it or dies.

*A fatal signal* becomes a SIGKILL of every thread when it is sent, so that it ends killable sleeps, too. Linux makes an
exception of signals that dump core; nobody dumps core here.

*Init* gets no signal that it has no handler for (SIGNAL_UNKILLABLE), not even SIGKILL. Standard and real-time signals
are the same: one that is pending is not queued again.

There is no job control: sending a signal that would stop the process is an error, EOPNOTSUPP.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from lkl_green.kernel.signum import (
    SA_NOCLDWAIT,
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    SIGKILL,
    SIGSTOP,
    STOPPING_BY_DEFAULT,
    UNBLOCKABLE,
    SigAction,
    TermSignal,
    check_signal,
    signals_in,
)
from lkl_green.kernel.task import (
    PF_EXITING,
    PF_KTHREAD,
    TASK_INTERRUPTIBLE,
    TASK_WAKEKILL,
    Task,
)
from lkl_green.kernel.threadgroup import ProcessSignals, ThreadGroups

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.kernel import Kernel

_T = TypeVar("_T")

# What became of a signal when it was sent, as the trace says it (TRACE_SIGNAL_*).
SIGNAL_DELIVERED = 0
SIGNAL_IGNORED = 1
SIGNAL_ALREADY_PENDING = 2


class Signals(ThreadGroups):
    """Sending and testing signals in one kernel.

    Attributes:
        allowed: the signals that kernel threads accept, by pid.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.allowed: dict[int, set[int]] = {}

    # -- sending

    def allow_signal(self, sig: int) -> None:
        """Let the current kernel thread receive `sig` (Linux: allow_signal())."""
        self.known = True
        self.allowed.setdefault(self._kernel.sched.current.pid, set()).add(sig)

    def send_sig(self, sig: int, task: Task) -> None:
        """Send a signal to a thread (Linux: send_sig()).

        Raises:
            OSError: EINVAL for a number that is none; EOPNOTSUPP for one that would stop the process.
        """
        check_signal(sig)
        self._announce(task)
        self.do_send_sig(sig, task)

    def do_send_sig(self, sig: int, task: Task) -> None:
        """`send_sig` as part of a primitive, whose own scheduling point has been announced."""
        self._send_signal(sig, task, False)

    def kill(self, sig: int, task: Task) -> None:
        """Send a signal to a thread's process (Linux: group_send_sig_info()). Raises as `send_sig()`."""
        check_signal(sig)
        self._announce(task)
        self._send_signal(sig, task, True)

    def _announce(self, task: Task) -> None:
        """The scheduling point before a signal, which for others is a wake-up."""
        listener = self._kernel.sched.listener
        if listener is not None:
            listener("wake", task)

    def _send_signal(self, sig: int, task: Task, to_process: bool) -> None:
        if task.flags & PF_KTHREAD:
            result = self._send_to_kernel_thread(sig, task)
        else:
            result = self._send_to_process(sig, task, to_process)
        trace = self._kernel.sched.trace
        if trace is not None:
            trace.emit("signal_generate", sig, 0, 0, task.comm, task.pid, to_process, result)

    def _send_to_process(self, sig: int, task: Task, to_process: bool) -> int:
        if task.flags & PF_EXITING and task not in self.threads:
            return SIGNAL_IGNORED
        thread = self.of(task)
        process = thread.process
        bit = 1 << sig - 1
        # A blocked signal is never ignored: the disposition may be another one when it is unblocked.
        if process.exiting or (not thread.blocked & bit and process.ignores(sig)):
            return SIGNAL_IGNORED
        if sig in STOPPING_BY_DEFAULT and process.is_default(sig):
            raise OSError(errno.EOPNOTSUPP, f"signal {sig} would stop {task.comm}-{task.pid}: there is no job control")
        if (process.pending if to_process else thread.pending) & bit:
            return SIGNAL_ALREADY_PENDING
        if to_process:
            process.pending |= bit
            self._complete_signal(sig, [task, *process.threads], process)
        else:
            thread.pending |= bit
            self._complete_signal(sig, [task], process)
        return SIGNAL_DELIVERED

    def _send_to_kernel_thread(self, sig: int, task: Task) -> int:
        if sig == SIGCHLD or sig not in self.allowed.get(task.pid, ()):
            return SIGNAL_IGNORED
        task.signals = (task.signals or set()) | {sig}
        self._kernel.sched.wake_up_state(task, TASK_INTERRUPTIBLE | (TASK_WAKEKILL if sig == SIGKILL else 0))
        return SIGNAL_DELIVERED

    def _complete_signal(self, sig: int, candidates: list[Task], process: ProcessSignals) -> None:
        """Assign the signal to the first that wants it, or kill them all (Linux: complete_signal())."""
        bit = 1 << sig - 1
        for task in candidates:
            if task.flags & PF_EXITING or self.of(task).blocked & bit:
                continue
            if process.ignores(sig):  # the thread that was asked first blocks it, and so did not ignore it
                process.pending &= ~bit
            elif process.is_default(sig):
                self.group_exit(process, TermSignal(sig))
            elif task.signals is None or sig not in task.signals:
                task.signals = (task.signals or set()) | {sig}
                self._kernel.sched.wake_up_state(task, TASK_INTERRUPTIBLE)
            return

    # -- the ends of processes

    def release(self, task: Task) -> None:
        """Forget a task that is gone."""
        self.allowed.pop(task.pid, None)
        self.exit_signals(task)
        self.threads.pop(task, None)

    def do_notify_parent(self, child: Task) -> bool:
        """Send the signal that a child's end causes; whether the parent wants no zombie (Linux: do_notify_parent())."""
        parent, sig = child.parent, child.exit_signal
        if parent is None or parent.flags & PF_KTHREAD:
            return False
        if sig != SIGCHLD:
            with suppress(OSError):  # it would stop the parent: the child has no frames left to hear of that
                self._send_signal(sig, parent, True)
            return False
        thread = self.threads.get(parent)
        if thread is None:
            return False
        action = thread.process.actions.get(SIGCHLD)
        if action is None or action.handler != SIG_IGN:
            self._send_signal(SIGCHLD, parent, True)
        return action is not None and bool(action.handler == SIG_IGN or action.flags & SA_NOCLDWAIT)

    # -- what children and programs inherit

    def flush_signal_handlers(self, task: Task) -> None:
        """A new program has no handlers; what was ignored stays ignored (Linux: flush_signal_handlers())."""
        thread = self.threads.get(task)
        if thread is not None:
            actions = thread.process.actions
            thread.process.actions = {sig: SigAction(SIG_IGN) for sig in actions if actions[sig].handler == SIG_IGN}

    def forget_allowed(self, task: Task) -> None:
        """A kernel thread becomes a process, and a process begins without signals."""
        task.signals = None
        self.allowed.pop(task.pid, None)

    # -- masks and dispositions

    def set_blocked(self, task: Task, mask: int) -> None:
        """Change a thread's mask, and see which signals it has to deal with now (Linux: set_current_blocked())."""
        thread = self.of(task)
        thread.blocked = mask & ~UNBLOCKABLE
        if task.signals:
            task.signals = {sig for sig in task.signals if not thread.blocked & 1 << sig - 1} or None
        for sig in signals_in(thread.pending & ~thread.blocked):
            if thread.process.ignores(sig):
                thread.pending &= ~(1 << sig - 1)
            else:
                task.signals = (task.signals or set()) | {sig}
        self._assign_pending(thread.process)

    def with_sigmask(self, mask: int | None, call: Callable[[], _T]) -> _T:
        """Make a call of the current process with another mask, or with its own if that is None (set_user_sigmask()).

        If a signal ends the call, the mask comes back only when that has been dealt with, or it would stay blocked.
        Raises OSError(EINVAL) in a kernel thread.
        """
        if mask is None:
            return call()
        task = self._kernel.sched.current
        if task.flags & PF_KTHREAD:
            raise OSError(errno.EINVAL, f"{task.comm}-{task.pid} is a kernel thread, which has no mask")
        thread = self.of(task)
        before = thread.blocked
        self.set_blocked(task, mask)
        try:
            result = call()
        except InterruptedError:
            thread.saved = before
            raise
        except Exception:
            self.set_blocked(task, before)
            raise
        self.set_blocked(task, before)
        return result

    def do_sigaction(self, task: Task, sig: int, action: SigAction) -> None:
        """Change a disposition; one that ignores the signal forgets what is pending (Linux: do_sigaction())."""
        process = self.of(task).process
        if action.handler == SIG_DFL and not action.flags & SA_NOCLDWAIT:
            process.actions.pop(sig, None)
        else:
            process.actions[sig] = action
        if not process.ignores(sig) or sig in (SIGKILL, SIGSTOP):
            return
        bit = 1 << sig - 1
        process.pending &= ~bit
        for other in process.threads:
            self.of(other).pending &= ~bit
            if other.signals:
                other.signals = other.signals - {sig} or None

    def dequeue_signal(self, task: Task) -> int:
        """Take the lowest of the signals that the current thread has to deal with; it has one (dequeue_signal())."""
        assert task.signals
        sig = min(task.signals)
        bit = 1 << sig - 1
        thread = self.of(task)
        if thread.pending & bit:
            thread.pending &= ~bit
        else:
            thread.process.pending &= ~bit
        task.signals = task.signals - {sig} or None
        if thread.process.pending & bit:
            self._assign_pending(thread.process)
        return sig

    # -- testing

    def signal_pending(self, task: Task) -> bool:
        """Whether a signal waits to be dealt with."""
        return bool(task.signals)

    def fatal_signal_pending(self, task: Task) -> bool:
        """Whether SIGKILL does, which every fatal signal has become."""
        return task.signals is not None and SIGKILL in task.signals

    def pending_in(self, task: Task, state: int) -> bool:
        """Whether a sleep in `state` ends, or does not begin, because of a signal (Linux: signal_pending_state())."""
        signals = task.signals
        if not signals:
            return False
        return bool(state & TASK_INTERRUPTIBLE) or bool(state & TASK_WAKEKILL and SIGKILL in signals)

    def flush_signals(self, task: Task) -> None:
        """Forget what was sent to a kernel thread (Linux: flush_signals())."""
        task.signals = None
