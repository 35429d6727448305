"""Threads of a process: what they share of signals, and how they end together (signal_struct, kernel/exit.c).

Most processes have one thread and never have to do with signals. They have no state here at all: it is made by a first
second thread, disposition, mask or signal (`of()`), and forgotten with the task. Births and deaths look at one flag,
`known`, until anybody in the kernel has any.

*Ending together.* Who ends a process sets its exit code, once, and lets every thread find a SIGKILL at its return to
user mode. A thread that ends leaves `threads`. Its leader, as a zombie, keeps pid and exit code until the last has
left, and only then is the parent told.

*Signals of the process* are assigned to one thread each, as `kernel/signal.py` tells. What a dying thread was assigned
goes to another.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from lkl_green.kernel.signum import IGNORED_BY_DEFAULT, SIG_DFL, SIG_IGN, SIGKILL, SigAction, signals_in
from lkl_green.kernel.task import PF_EXITING, TASK_INTERRUPTIBLE, TASK_WAKEKILL, Task
from lkl_green.kernel.wait import WaitQueueHead

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lkl_green.kernel.kernel import Kernel


class ProcessSignals:
    """What the threads of a process share (Linux: struct signal_struct, struct sighand_struct).

    Attributes:
        actions: the dispositions that are not SIG_DFL.
        pending: the set of signals sent to the process and not dealt with.
        threads: the living threads, oldest first.
        leader: the thread that has the process's pid; a zombie if it ended before the others.
        exiting: every thread dies, with `exit_code` (Linux: SIGNAL_GROUP_EXIT).
        unkillable: it is init.
        execing: the thread whose execve() lets all others die (Linux: group_exec_task).
        fewer: on which that waits for them.
    """

    __slots__ = ("actions", "execing", "exit_code", "exiting", "fewer", "leader", "pending", "threads", "unkillable")

    def __init__(self, leader: Task, kernel: Kernel) -> None:
        self.actions: dict[int, SigAction] = {}
        self.pending = 0
        self.threads: dict[Task, None] = {leader: None}
        self.leader = leader
        self.exiting = False
        self.exit_code: Any = 0
        self.execing: Task | None = None
        self.unkillable = leader.pid == 1
        self.fewer = WaitQueueHead(kernel, f"threads of {leader.comm}-{leader.pid}")

    def ignores(self, sig: int) -> bool:
        """Whether the process would not notice the signal (Linux: sig_task_ignored())."""
        action = self.actions.get(sig)
        if action is None or action.handler == SIG_DFL:
            return self.unkillable or sig in IGNORED_BY_DEFAULT
        return action.handler == SIG_IGN

    def is_default(self, sig: int) -> bool:
        """Whether the disposition is SIG_DFL."""
        action = self.actions.get(sig)
        return action is None or action.handler == SIG_DFL


class ThreadSignals:
    """The signals of one thread of a process.

    Attributes:
        process: what it shares with the others.
        blocked: the set of signals that wait until they are unblocked.
        pending: the set of signals sent to this thread and not dealt with.
        saved: the mask to go back to, while a system call has set one for its own time (Linux: saved_sigmask).
    """

    __slots__ = ("blocked", "pending", "process", "saved")

    def __init__(self, process: ProcessSignals, blocked: int = 0) -> None:
        self.process = process
        self.blocked = blocked
        self.pending = 0
        self.saved: int | None = None


class ThreadGroups:
    """The processes of one kernel that have several threads, or had to do with signals.

    Attributes:
        threads: the state of those threads of processes that have one.
        known: whether any task ever had to do with signals; until then births and deaths look no further.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.threads: dict[Task, ThreadSignals] = {}
        self.known = False

    def of(self, task: Task) -> ThreadSignals:
        """The state of a thread of a process; made if it has none yet, when it is the only one."""
        thread = self.threads.get(task)
        if thread is None:
            self.known = True
            thread = self.threads[task] = ThreadSignals(ProcessSignals(task, self._kernel))
        return thread

    # -- who belongs together

    def leader(self, task: Task) -> Task:
        """The leader of its process."""
        thread = self.threads.get(task)
        return task if thread is None else thread.process.leader

    def thread_group(self, task: Task) -> Iterable[Task]:
        """The living threads of its process; the task itself if it has no state."""
        thread = self.threads.get(task)
        return (task,) if thread is None else thread.process.threads

    def heir(self, task: Task) -> Task | None:
        """Another thread of its process, which gets the children of a dying one (Linux: find_alive_thread())."""
        thread = self.threads.get(task)
        return None if thread is None else next(iter(thread.process.threads), None)

    def delays(self, task: Task) -> bool:
        """Whether this leader stays until the other threads of its process have ended (Linux: delay_group_leader())."""
        thread = self.threads.get(task)
        return thread is not None and thread.process.leader is task and bool(thread.process.threads)

    def copy_signals(self, source: Task, task: Task, shares: bool) -> None:
        """A newborn thread shares, a newborn process copies dispositions; masks are copied (copy_sighand())."""
        if shares:
            process = self.of(source).process
            process.threads[task] = None
        elif source in self.threads:
            process = ProcessSignals(task, self._kernel)
            process.actions = dict(self.threads[source].process.actions)
        else:
            return
        self.threads[task] = ThreadSignals(process, self.threads[source].blocked)

    # -- ending together

    def group_exit(self, process: ProcessSignals, code: Any) -> None:
        """Let every thread die with this exit code; the first such call counts."""
        if process.exiting:
            return
        process.exiting, process.exit_code = True, code
        if process.leader.exit_state:
            process.leader.exit_code = code
        for task in list(process.threads):
            self._kill_thread(task)

    def do_group_exit(self, task: Task, code: Any) -> Any:
        """The current task ends its process; its exit code, if nobody else did so before (Linux: do_group_exit())."""
        thread = self.threads.get(task)
        if thread is None:
            return code
        process = thread.process
        if process.execing is None:
            self.group_exit(process, code)
        return process.exit_code

    def _kill_thread(self, task: Task) -> None:
        if not task.flags & PF_EXITING:
            task.signals = (task.signals or set()) | {SIGKILL}
            self._kernel.sched.wake_up_state(task, TASK_INTERRUPTIBLE | TASK_WAKEKILL)

    def de_thread(self, task: Task) -> None:
        """Let all other threads of the current process die, and wait for it (Linux: de_thread()).

        Raises InterruptedError if it is to die itself.
        """
        thread = self.threads.get(task)
        if thread is None or len(thread.process.threads) == 1:
            return
        process = thread.process
        if SIGKILL in (task.signals or ()):  # it may be one that another thread's execve() lets die
            raise InterruptedError(errno.EINTR, "a thread that is to die executes nothing")
        process.execing = task
        for other in list(process.threads):
            if other is not task:
                self._kill_thread(other)
        try:
            process.fewer.wait_event_killable(lambda: len(process.threads) == 1)
        finally:
            process.execing = None

    def exit_signals(self, task: Task) -> None:
        """A thread leaves its process: what was assigned to it goes to another one (Linux: exit_signals())."""
        thread = self.threads.get(task)
        if thread is None or task not in thread.process.threads:
            return
        process = thread.process
        del process.threads[task]
        if process.exiting:
            task.exit_code = process.exit_code
        task.signals = None
        self._assign_pending(process)
        process.fewer.do_wake_up()

    # -- signals of the process

    def _assign_pending(self, process: ProcessSignals) -> None:
        """Find a thread for each signal of the process that has none (Linux: retarget_shared_pending())."""
        for sig in signals_in(process.pending):
            bit = 1 << sig - 1
            wanting = [task for task in process.threads if not self.of(task).blocked & bit]
            if wanting and process.ignores(sig):
                process.pending &= ~bit
            elif wanting and not any(sig in (task.signals or ()) for task in process.threads):
                task = wanting[0]
                task.signals = (task.signals or set()) | {sig}
                self._kernel.sched.wake_up_state(task, TASK_INTERRUPTIBLE)
