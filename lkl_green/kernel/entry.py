"""The return from the kernel to user mode, where signals are dealt with (kernel/entry/common.c, arch's signal.c).

A handler is a function of the program, called as `handler(sys, sig)` in the process that got the signal, with the `sys`
of its own: dispositions are inherited over fork, and a program must not use the `sys` of another one. It runs on top of
the frames of the system call that the process comes back from, when that has done its work and before its result is
seen. So it may make system calls itself, exit, execute another program, or raise an exception, which then comes out of
the interrupted call as a longjmp() would.

*Several signals at once.* Each gets its frame before any handler runs, lowest number first; the last one set up is on
top and runs first, as in Linux. While a handler runs, its signal is blocked, and what its action says; the mask before
comes back when it returns or is left by an exception, but not when it executes another program.

*The interrupted call* fails with EINTR, or is started again: if the first of the handlers has SA_RESTART and the call
is one that can be (`RESTARTABLE`). Calls that sleep for a time or for descriptors are never started again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.errors import ExecImage, TaskExit
from lkl_green.kernel.signum import (
    IGNORED_BY_DEFAULT,
    SA_NODEFER,
    SA_RESETHAND,
    SA_RESTART,
    SIG_DFL,
    SIG_IGN,
    SIGKILL,
    STOPPING_BY_DEFAULT,
    SigAction,
    TermSignal,
)
from lkl_green.kernel.unistd import (
    NR_accept,
    NR_accept4,
    NR_connect,
    NR_read,
    NR_readv,
    NR_recvfrom,
    NR_sendto,
    NR_wait4,
    NR_write,
    NR_writev,
)

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task

# What returns -ERESTARTSYS in Linux.
RESTARTABLE = frozenset(
    (
        NR_read,
        NR_readv,
        NR_write,
        NR_writev,
        NR_wait4,
        NR_accept,
        NR_accept4,
        NR_connect,
        NR_recvfrom,
        NR_sendto,
    )
)


def exit_to_user_mode(kernel: Kernel, task: Task, sys: Any, interrupted: bool = False) -> bool:
    """Deal with the signals of the current process, which is on its way to user mode.

    Args:
        kernel: the kernel.
        task: the current task.
        sys: its system calls, for handlers.
        interrupted: it comes from a restartable system call that failed with EINTR.

    Returns:
        whether to start that call again.

    Raises:
        TaskExit: the process is to die.
        BaseException: what a handler raised.
    """
    signals = kernel.signals
    frames: list[tuple[SigAction, int, int]] = []
    restart = interrupted
    while task.signals:
        if SIGKILL in task.signals:
            _trace(kernel, SIGKILL, None)
            raise TaskExit(signals.do_group_exit(task, TermSignal(SIGKILL)))
        sig = signals.dequeue_signal(task)
        action = _get_signal(kernel, task, sig)
        if action is None:
            continue
        if not frames:
            restart = interrupted and bool(action.flags & SA_RESTART)
        frames.append((action, sig, _block_for(kernel, task, sig, action)))
    if frames:
        _run(kernel, task, sys, frames)
    elif (thread := signals.threads.get(task)) is not None and thread.saved is not None:
        saved, thread.saved = thread.saved, None
        signals.set_blocked(task, saved)
    return restart


def _get_signal(kernel: Kernel, task: Task, sig: int) -> SigAction | None:
    """The action if it has a handler; else do what is done without (Linux: get_signal())."""
    process = kernel.signals.of(task).process
    _trace(kernel, sig, process.actions.get(sig))
    if not process.is_default(sig):
        action = process.actions[sig]
        if action.flags & SA_RESETHAND:
            del process.actions[sig]
        return None if action.handler == SIG_IGN else action
    if process.unkillable or sig in IGNORED_BY_DEFAULT or sig in STOPPING_BY_DEFAULT:
        return None
    raise TaskExit(kernel.signals.do_group_exit(task, TermSignal(sig)))


def _trace(kernel: Kernel, sig: int, action: SigAction | None) -> None:
    trace = kernel.sched.trace
    if trace is not None:
        handler = SIG_DFL if action is None else action.handler
        name = getattr(handler, "__qualname__", handler)
        trace.emit("signal_deliver", sig, 0, 0, name, 0 if action is None else action.flags)


def _block_for(kernel: Kernel, task: Task, sig: int, action: SigAction) -> int:
    """Block what the handler wants blocked; the mask to go back to (Linux: setup_rt_frame(), signal_delivered())."""
    thread = kernel.signals.of(task)
    before = thread.blocked if thread.saved is None else thread.saved
    thread.saved = None
    own = 0 if action.flags & SA_NODEFER else 1 << sig - 1
    kernel.signals.set_blocked(task, thread.blocked | action.mask | own)
    return before


def _run(kernel: Kernel, task: Task, sys: Any, frames: list[tuple[SigAction, int, int]]) -> None:
    """Run the handlers, last frame first; after each the mask is as it was before (Linux: rt_sigreturn())."""
    outermost = frames[0][2]
    try:
        while frames:
            action, sig, before = frames.pop()
            assert callable(action.handler)
            action.handler(sys, sig)
            kernel.signals.set_blocked(task, before)
            if task.signals:
                exit_to_user_mode(kernel, task, sys)
    except ExecImage:
        raise
    except BaseException:
        if not task.exit_state:
            kernel.signals.set_blocked(task, outermost)
        raise
