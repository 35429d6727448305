"""How tasks die, and who hears of it (kernel/exit.c).

A task leaves its frames first (by returning, by `do_exit()`, by an exception) and dies afterwards, on a stack that
holds nothing of its own. Until its successor has been switched to, it is TASK_DEAD and still current; the successor's
`finish_task_switch()` takes its context away (rules 44 and 113).

Who reaps: a child that was forked with SIGCHLD stays a zombie until its parent collects it with `wait4()`. Any other
child is reaped at once, as Linux does for a parent that ignores SIGCHLD, which kernel threads do. Orphans go to init.
A zombie that comes to an init that has never called `wait4()` is reaped on the spot, so that an init that is not
interested in children need not know that it has any.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

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


class Exits:
    """The ends of the tasks of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

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
            kernel.fs.exit_files(task)
        if task.vfork_done is not None:
            kernel.exec.mm_release(task)
        if task.children:
            self._forget_children(task)
        if task.exit_signal:
            self._notify_parent(task)
        else:
            self.release_task(task)
        if task is kernel.init_task:
            kernel.init.exited(code)
        return sched.task_dead(task)

    def _check_released(self, task: Task) -> None:
        """A task must not die atomic or with a mutex held (rule 120): say so, and repair what can be repaired."""
        kernel = self._kernel
        if not task.killed:
            what = f"{task.locks_held} mutexes held" if task.locks_held else "preemption or interrupts disabled"
            kernel.printk.warn(f"{task.comm}-{task.pid} exits with {what}")
        task.preempt_count = 0
        task.irqs_disabled = False

    def _notify_parent(self, task: Task) -> None:
        """Become a zombie, unless nobody will ever collect it (Linux: exit_notify())."""
        if not self._kernel.halting:
            task.exit_state = EXIT_ZOMBIE
            if self._parent_is_told(task):
                return
        self.release_task(task)

    def _parent_is_told(self, zombie: Task) -> bool:
        """Wake a parent that waits; false if nobody will ever collect this one."""
        parent = zombie.parent
        assert parent is not None
        if parent.wait_chldexit is not None and parent.wait_chldexit.waitqueue_active():
            parent.wait_chldexit.wake_up()
            return True
        return not zombie.flags & PF_REPARENTED or parent.wait_chldexit is not None

    def _forget_children(self, task: Task) -> None:
        """Give the children to init (Linux: forget_original_parent())."""
        kernel = self._kernel
        init = kernel.init_task if kernel.init_task is not task else kernel.sched.swapper
        children, task.children = task.children or {}, None
        if init.children is None:
            init.children = {}
        for child in children:
            child.parent = init
            child.flags |= PF_REPARENTED
            init.children[child] = None
            if child.exit_state == EXIT_ZOMBIE and not self._parent_is_told(child):
                self.release_task(child)

    def release_task(self, task: Task) -> None:
        """Take a task out of the family and the pid table (Linux: release_task())."""
        task.exit_state = EXIT_DEAD
        kernel = self._kernel
        kernel.pids.tasks.pop(task.pid, None)
        parent = task.parent
        if parent is not None and parent.children is not None:
            parent.children.pop(task, None)
        if kernel.signals.allowed:
            kernel.signals.allowed.pop(task.pid, None)

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
        sched.policy.dequeue_task(task)
        task.state = TASK_DEAD  # nobody who still knows it can wake it
        task.fn = task.arg = None
        task.flags |= PF_EXITING
        task.exit_code = -errno.EINTR
        if task.kthread is not None:
            task.kthread.thread_exits(task, -errno.EINTR)
        if task.files is not None:
            self._kernel.fs.exit_files(task)
        self.release_task(task)
        self._kernel.arch.release_thread(task)

    # -- waiting for children

    def wait4(self, pid: int = -1, options: int = 0) -> tuple[int, Any]:
        """Wait for a child to exit and reap it (kernel_wait4(), sys_wait4()).

        Args:
            pid: which child; -1 for any.
            options: WNOHANG gives (0, 0) instead of waiting.

        Returns:
            pid and exit code of the child.

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
            children = [child for child in task.children or () if self._matches(child, pid)]
            if not children:
                raise OSError(errno.ECHILD, f"{task.comm}-{task.pid} has no child to wait for")
            found[:] = [child for child in children if child.exit_state == EXIT_ZOMBIE][:1]
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
