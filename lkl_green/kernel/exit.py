"""How tasks die, and who hears of it (kernel/exit.c).

A task leaves its frames first (by returning, by `do_exit()`, by an exception) and dies afterwards, on a stack that
holds nothing of its own. Until its successor has been switched to, it is TASK_DEAD and still current; the successor's
`finish_task_switch()` takes its context away (rules 44 and 113).

Who reaps: a child that was forked with SIGCHLD stays a zombie until its parent collects it with `wait4()`. Any other
child is reaped at once, as Linux does for a parent that ignores SIGCHLD, which kernel threads do. Orphans go to init.
A zombie that comes to an init that has never called `wait4()` is reaped on the spot, so that an init that is not
interested in children need not know that it has any.

A process ends with its last thread: a leader that ends before the others stays a zombie of which its parent is not told
until then (Linux: delay_group_leader()).
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from lkl_green.kernel.signum import SIGCHLD
from lkl_green.kernel.state import SystemState
from lkl_green.kernel.task import (
    EXIT_DEAD,
    EXIT_ZOMBIE,
    PF_EXITING,
    PF_NEWBORN,
    PF_REPARENTED,
    TASK_DEAD,
    TASK_NEW,
    TASK_RUNNING,
    Task,
)
from lkl_green.kernel.unistd import WNOHANG
from lkl_green.kernel.wait import WaitQueueHead

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel


_RUNNING = SystemState.RUNNING

_LEFT_CAPACITY = 100


class LocksLeft(NamedTuple):
    """A task has ended with mutexes locked.

    Attributes:
        task: its name and pid, as reports show them.
        mutexes: how many.
    """

    task: str
    mutexes: int


class Exits:
    """The ends of the tasks of one kernel.

    Attributes:
        locks_left: the last tasks that ended with mutexes locked, without those that were taken down.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.locks_left: deque[LocksLeft] = deque(maxlen=_LEFT_CAPACITY)

    def rewind(self) -> None:
        """Forget what has ended."""
        self.locks_left.clear()

    # -- dying

    def exit_task(self, task: Task, code: Any) -> Task:
        """The current task is done; the task to run next (Linux: do_exit() up to do_task_dead())."""
        kernel = self._kernel
        sched = kernel.sched
        task.state = TASK_RUNNING
        task.flags |= PF_EXITING
        task.exit_code = code
        if task.killed and sched.killing:
            sched.killing -= 1
        if task.preempt_count or task.irqs_disabled or task.locks_held:
            self._check_released(task)
        if sched.trace is not None:
            sched.trace.sched_process_exit(task)
        # Whoever waits for this end must not preempt it: the task's frames are gone, nothing could be raised in them.
        task.preempt_count = 1
        if task.kthread is not None:
            task.kthread.thread_exits(task, code)
        if task.files is not None:
            self._exit_files(task)
        if task.vfork_done is not None:
            kernel.exec.mm_release(task)
        ended: Task | None = task
        if kernel.signals.known:
            ended = self._exit_thread(task)
        else:
            if task.children:
                self._forget_children(task)
            if task.exit_signal:
                self._notify_parent(task)
            else:
                self.release_task(task)
        if ended is kernel.init_task:
            kernel.init.exited(ended.exit_code)
        return sched.task_dead(task)

    def _exit_files(self, task: Task) -> None:
        """Close the descriptors. What is behind them may sleep: the task has left its frames, but is still a task.

        One that was taken down alone has been unwound, and may sleep once more. While the kernel halts, a sleep gets
        TaskKilled, which ends the closing of that file.
        """
        if self._kernel.sched.system_state is _RUNNING:
            task.killed = 0
        task.preempt_count = 0
        try:
            self._kernel.fs.exit_files(task)
        finally:
            task.state = TASK_RUNNING
            task.preempt_count = 1

    def exit_after_exception(self, task: Task, error: BaseException) -> Task:
        """An exception came in the middle of `exit_task`; returns the task to run next.

        If only the choice of that task was left to do, `lkl_run()` raises the exception. Otherwise the kernel panics,
        because other tasks may wait for what was not done.
        """
        kernel = self._kernel
        sched = kernel.sched
        if task.state == TASK_DEAD:
            kernel.loop.interrupted(error)
        else:
            kernel.panic(f"{type(error).__name__} in the exit of {task.comm}-{task.pid}: {error}", error)
        if sched.current is not task:
            return sched.current
        sched.needs_repair, sched.fifo = True, None
        return sched.task_dead(task)

    def _exit_thread(self, task: Task) -> Task | None:
        """The end of what may be a thread of several; the leader if it was the last, the task itself, or None."""
        signals = self._kernel.signals
        signals.exit_signals(task)
        if task.children:
            self._forget_children(task)
        if signals.delays(task) and self._kernel.sched.system_state is _RUNNING:
            task.exit_state = EXIT_ZOMBIE
            return None
        leader = signals.leader(task)
        self._exit_notify(task)
        if leader is not task and leader.exit_state == EXIT_ZOMBIE and not signals.delays(leader):
            self._exit_notify(leader)
            return leader
        return task

    def _exit_notify(self, task: Task) -> None:
        if task.exit_signal:
            self._notify_parent(task)
        else:
            self.release_task(task)

    def _check_released(self, task: Task) -> None:
        """A task must not die atomic or with a mutex held (rule 120): say so, and repair what can be repaired."""
        kernel = self._kernel
        if not task.killed:
            if task.locks_held:
                self.locks_left.append(LocksLeft(f"{task.comm}-{task.pid}", task.locks_held))
            what = f"{task.locks_held} mutexes held" if task.locks_held else "preemption or interrupts disabled"
            kernel.printk.warn(f"{task.comm}-{task.pid} exits with {what}")
        task.preempt_count = 0
        task.irqs_disabled = False

    def _notify_parent(self, task: Task) -> None:
        """Become a zombie, unless nobody will ever collect it (Linux: exit_notify())."""
        kernel = self._kernel
        unwanted = False
        if kernel.sched.system_state is _RUNNING:
            task.exit_state = EXIT_ZOMBIE
            if kernel.signals.known or task.exit_signal != SIGCHLD:
                unwanted = kernel.signals.do_notify_parent(task)
            if not unwanted and self._parent_is_told(task):
                return
        parent = task.parent
        self.release_task(task)
        if unwanted and parent is not None:
            self._wake_up_parent(parent)  # there may be no child left to wait for

    def _parent_is_told(self, zombie: Task) -> bool:
        """Wake a parent that waits; false if nobody will ever collect this one."""
        parent = zombie.parent
        assert parent is not None
        return self._wake_up_parent(parent) or not zombie.flags & PF_REPARENTED or parent.wait_chldexit is not None

    def _wake_up_parent(self, parent: Task) -> bool:
        """Wake the threads of a process that wait for children; whether there are any (__wake_up_parent())."""
        woken = False
        for task in self._kernel.signals.thread_group(parent):
            if task.wait_chldexit is not None and task.wait_chldexit.waitqueue_active():
                task.wait_chldexit.wake_up()
                woken = True
        return woken

    def _forget_children(self, task: Task) -> None:
        """Give the children to another thread of the process, or to init (Linux: forget_original_parent())."""
        kernel = self._kernel
        if kernel.signals.known and (heir := kernel.signals.heir(task)) is not None:
            self._bequeath(task, heir)
            return
        init = kernel.init_task
        if init is task:
            init = kernel.sched.swapper
        elif init.exit_state:
            init = kernel.signals.heir(init) or init
        children, task.children = task.children or {}, None
        if init.children is None:
            init.children = {}
        for child in children:
            child.parent = init
            child.flags |= PF_REPARENTED
            init.children[child] = None
            if child.exit_state and self._is_collectable(child) and not self._parent_is_told(child):
                self.release_task(child)

    def _bequeath(self, task: Task, heir: Task) -> None:
        children, task.children = task.children or {}, None
        heir.children = {**(heir.children or {}), **children}
        for child in children:
            child.parent = heir

    def _is_collectable(self, child: Task) -> bool:
        """Whether it is a zombie, and the other threads of its process have ended, too."""
        return child.exit_state == EXIT_ZOMBIE and not self._kernel.signals.delays(child)

    def become_leader(self, task: Task) -> None:
        """The only thread left of its process takes the place of the leader, pid and parent included (de_thread())."""
        kernel = self._kernel
        leader = kernel.signals.leader(task)
        if leader is task:
            return
        old_parent, parent = task.parent, leader.parent
        assert old_parent is not None
        assert old_parent.children is not None
        assert parent is not None
        del old_parent.children[task]
        del kernel.pids.tasks[task.pid]
        task.exit_signal, leader.exit_signal = leader.exit_signal, 0
        self.release_task(leader)
        task.pid, task.parent = task.tgid, parent
        task.flags |= leader.flags & PF_REPARENTED
        if parent.children is None:
            parent.children = {}
        parent.children[task] = None
        kernel.pids.tasks[task.pid] = task
        if kernel.init_task is leader:
            kernel.init_task = task
        kernel.signals.of(task).process.leader = task

    def release_task(self, task: Task) -> None:
        """Take a task out of the family and the pid table (Linux: release_task())."""
        task.exit_state = EXIT_DEAD
        kernel = self._kernel
        kernel.pids.tasks.pop(task.pid, None)
        parent = task.parent
        if parent is not None and parent.children is not None:
            parent.children.pop(task, None)
        signals = kernel.signals
        if signals.known:
            signals.release(task)

    def take_down(self, task: Task) -> None:
        """End one task as halting ends all: TaskKilled is raised at its sleep, of whatever kind, and at each later one.

        A task that has not run yet is dropped. The caller is not the task itself.
        """
        sched = self._kernel.sched
        if task.exit_state or task.killed or task.flags & PF_EXITING:
            return
        if task.flags & PF_NEWBORN:
            self.drop_unstarted(task)
            return
        task.killed = 1
        sched.killing += 1
        sched.post_switch = True
        sched.checkpoint = 0
        if task.state != TASK_RUNNING:
            sched.wake_up_state(task, -1)

    def drop_unstarted(self, task: Task) -> None:
        """End a task that never ran: its function is not called (rule 97)."""
        sched = self._kernel.sched
        sched.forget(task)
        task.state = TASK_DEAD  # nobody who still knows it can wake it
        task.fn = task.arg = None
        task.flags |= PF_EXITING
        task.exit_code = -errno.EINTR
        if task.kthread is not None:
            task.kthread.thread_exits(task, -errno.EINTR)
        if task.files is not None:
            self._kernel.fs.exit_files(task)
        if task.vfork_done is not None:
            self._kernel.exec.mm_release(task)
        parent = task.parent
        self.release_task(task)
        self._kernel.arch.release_thread(task)
        if parent is not None and self._kernel.sched.system_state is _RUNNING:
            self._wake_up_parent(parent)  # there may be no child left to wait for

    # -- waiting for children

    def wait4(self, pid: int = -1, options: int = 0) -> tuple[int, Any]:
        """Wait for a child of the current task's process to exit and reap it (kernel_wait4(), sys_wait4()).

        Args:
            pid: which child; -1 for any.
            options: WNOHANG gives (0, 0) instead of waiting.

        Returns:
            pid and exit code of the child; the code is a TermSignal if a signal ended it.

        Raises:
            OSError: ECHILD if there is no such child, EINTR if a signal came first.
        """
        kernel = self._kernel
        task = kernel.sched.current
        if task.wait_chldexit is None:
            task.wait_chldexit = WaitQueueHead(kernel, f"wait_chldexit of {task.comm}-{task.pid}")
        queue = task.wait_chldexit
        found: list[Task] = []

        def look() -> bool:
            threads = kernel.signals.thread_group(task)
            children = [child for one in threads for child in one.children or () if self._matches(child, pid)]
            if not children:
                raise OSError(errno.ECHILD, f"{task.comm}-{task.pid} has no child to wait for")
            found[:] = [child for child in children if self._is_collectable(child)][:1]
            return bool(found)

        if options & WNOHANG:
            if not look():
                return 0, 0
        else:
            queue.wait_event_interruptible(look)
        child = found[0]
        self.release_task(child)
        return child.pid, child.exit_code

    @staticmethod
    def _matches(child: Task, pid: int) -> bool:
        return child.exit_signal != 0 and child.state != TASK_NEW and pid in (-1, child.pid)
