"""The system calls of signals (kernel/signal.c), in raw form: sets are ints, and what comes back comes in an object.

    rt_sigaction(sig, act: SigAction or None, oldact: SigAction or None)   fills `oldact`
    rt_sigprocmask(how, mask: int or None, oldset: list or None)           leaves the set before in the list
    rt_sigpending(found: list)                                             leaves the set in the list

Kernel threads, and host tasks with them, have neither dispositions nor masks: those calls are EINVAL for them.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, NoReturn

from lkl_green.kernel import unistd
from lkl_green.kernel.callback import not_plain
from lkl_green.kernel.signum import (
    SA_KNOWN,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIG_UNBLOCK,
    SIGKILL,
    SIGSTOP,
    SigAction,
    check_signal,
)
from lkl_green.kernel.task import PF_KTHREAD, TASK_INTERRUPTIBLE, TASK_RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task


class SignalSyscalls:
    """The calls of one kernel that have to do with signals."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def table(self) -> Iterator[tuple[int, str, Callable[..., Any]]]:
        """Number, name and function of each call."""
        for function in vars(SignalSyscalls):
            if function.startswith("sys_"):
                name = function.removeprefix("sys_")
                yield getattr(unistd, f"NR_{name}"), name, getattr(self, function)

    def _process(self) -> Task:
        """The current task, if it is a thread of a process. EINVAL."""
        task = self._kernel.sched.current
        if task.flags & PF_KTHREAD:
            raise OSError(
                errno.EINVAL,
                f"{task.comm}-{task.pid} is a kernel thread, which has no signal handlers and no mask; it would use "
                "allow_signal() and signal_pending()",
            )
        return task

    # -- sending

    def sys_kill(self, pid: int, sig: int) -> None:
        """Send a signal to a process, or with `sig` 0 only ask whether there is one; ESRCH, EINVAL, EOPNOTSUPP."""
        task = self._find(pid)
        if sig:
            self._kernel.signals.kill(sig, task)

    def sys_tgkill(self, tgid: int, pid: int, sig: int) -> None:
        """The same to one thread of a process."""
        task = self._find(pid)
        if task.tgid != tgid:
            raise OSError(errno.ESRCH, f"task {pid} is no thread of process {tgid}")
        if sig:
            self._kernel.signals.send_sig(sig, task)

    def _find(self, pid: int) -> Task:
        task = self._kernel.pids.tasks.get(pid)
        if task is None:
            raise OSError(errno.ESRCH, f"no task {pid}")
        return task

    # -- dispositions and masks

    def sys_rt_sigaction(self, sig: int, act: SigAction | None, oldact: SigAction | None) -> None:
        """Change what is done about a signal, or ask. EINVAL for SIGKILL, SIGSTOP and unknown flags; EFAULT."""
        task = self._process()
        signals = self._kernel.signals
        if check_signal(sig) in (SIGKILL, SIGSTOP) and act is not None:
            raise OSError(errno.EINVAL, f"signal {sig} can be neither handled nor ignored")
        new = None if act is None else _checked(act)
        if oldact is not None:
            oldact.set(signals.of(task).process.actions.get(sig) or SigAction())
        if new is not None:
            signals.do_sigaction(task, sig, new)

    def sys_rt_sigprocmask(self, how: int, mask: int | None, oldset: list[int] | None) -> None:
        """Block more signals or fewer, or ask. EINVAL for another `how`."""
        task = self._process()
        signals = self._kernel.signals
        blocked = signals.of(task).blocked
        if mask is not None and how not in (SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK):
            raise OSError(errno.EINVAL, f"how={how}: use SIG_BLOCK, SIG_UNBLOCK or SIG_SETMASK")
        if oldset is not None:
            oldset[:] = [blocked]
        if mask is not None:
            new = {SIG_BLOCK: blocked | mask, SIG_UNBLOCK: blocked & ~mask, SIG_SETMASK: mask}[how]
            signals.set_blocked(task, new)

    def sys_rt_sigpending(self, found: list[int]) -> None:
        """Which blocked signals were sent to the thread or its process."""
        thread = self._kernel.signals.of(self._process())
        found[:] = [(thread.pending | thread.process.pending) & thread.blocked]

    # -- waiting

    def sys_rt_sigsuspend(self, mask: int) -> None:
        """Wait for a signal with another mask. EINTR when its handler has run."""
        self._announce(self._process())
        self._kernel.signals.with_sigmask(mask, self._wait)

    def sys_pause(self) -> None:
        """Wait for a signal. EINTR when its handler has run."""
        self._announce(self._process())
        self._wait()

    def _announce(self, task: Task) -> None:
        """The scheduling point before waiting for a signal."""
        listener = self._kernel.sched.listener
        if listener is not None:
            listener("wait", task)

    def _wait(self) -> NoReturn:
        sched = self._kernel.sched
        task = sched.current
        task.waiting_for = "a signal"
        try:
            while not task.signals:
                task.state = TASK_INTERRUPTIBLE
                sched.schedule()
        finally:
            task.state, task.waiting_for = TASK_RUNNING, None
        raise InterruptedError(errno.EINTR, "a signal came")


def _checked(act: SigAction) -> SigAction:
    """A copy for the kernel to keep. Raises OSError: EINVAL, EFAULT."""
    if not isinstance(act, SigAction) or not (act.handler in (SIG_DFL, SIG_IGN) or callable(act.handler)):
        raise OSError(errno.EFAULT, f"{act!r}: a handler is SIG_DFL, SIG_IGN or a function of (sys, sig)")
    if (kind := not_plain(act.handler)) is not None:
        raise OSError(errno.EFAULT, f"{act!r}: the handler is {kind}; use a plain function")
    if act.flags & ~SA_KNOWN:
        raise OSError(errno.EINVAL, f"sigaction flags {act.flags:#x}: only {SA_KNOWN:#x} are known")
    return SigAction(act.handler, act.flags, act.mask)
