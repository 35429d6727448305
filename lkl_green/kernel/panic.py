"""Oops and panic: what becomes of an exception that nobody caught (kernel/panic.c, rule 24a).

    Exception, SoftLockup        an oops: logged; the task is dead; with on_oops="panic" the kernel stops
    the same, in a user program  logged; the process is dead; exit code SIGABRT
    TaskKilled                   the task was taken down; nothing to report
    KeyboardInterrupt and such   meant for the application: raised out of lkl_run(); the kernel stays usable

A panic stops the kernel at the next scheduling point: `lkl_run()` raises KernelPanic from the original exception. It is
in the log, too, but not shown on the console, because the exception is usually printed there, too. The
tasks stay as they are, to be looked at, until `lkl_sys_halt()` takes them down.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from lkl_green.errors import KernelBug, KernelPanic, SoftLockup, TaskKilled, TaskUnwind
from lkl_green.kernel.policy import FixedPriority
from lkl_green.kernel.printk import KERN_EMERG, KERN_ERR
from lkl_green.kernel.signum import SIGABRT, SIGKILL, SIGSEGV, TermSignal
from lkl_green.kernel.stacktext import user_traceback
from lkl_green.kernel.task import PF_KTHREAD, TASK_RUNNING

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task


class Faults:
    """The fault policy of one kernel.

    Args:
        kernel: the kernel.
        on_oops: "panic" or "kill".
    """

    def __init__(self, kernel: Kernel, on_oops: str) -> None:
        self._kernel = kernel
        self._on_oops = on_oops

    def task_died(self, task: Task, error: BaseException) -> Any:
        """An exception left a task's function; the task's exit code."""
        if isinstance(error, TaskKilled):
            return TermSignal(SIGKILL)
        if isinstance(error, Exception | SoftLockup):
            self.oops(task, error)
        elif not isinstance(error, TaskUnwind):
            # KeyboardInterrupt, SystemExit and their like are meant for the application.
            self._kernel.loop.interrupted(error)
        return -errno.EFAULT if task.flags & PF_KTHREAD else TermSignal(SIGSEGV)

    def user_fault(self, task: Task, error: Exception) -> int:
        """An exception left a user program: the process dies of it, and nothing else; its exit code, SIGABRT."""
        printk = self._kernel.printk
        printk.printk(f"{task.comm}[{task.pid}]: killed by {type(error).__name__}: {error}", KERN_ERR)
        printk.printk(user_traceback(error), KERN_ERR)
        return TermSignal(SIGABRT)

    def oops(self, task: Task, error: BaseException) -> None:
        """Log an exception that killed a task; with on_oops="panic", or in init, stop the kernel."""
        panics = task.pid == 1 or self._on_oops == "panic"
        self._log(f"Oops: {task.comm}-{task.pid}: {type(error).__name__}: {error}", error, panics)
        if task.pid == 1:
            self.panic(f"{type(error).__name__} in init: {error}", error)
        elif panics:
            self.panic(f"Fatal exception: {type(error).__name__} in {task.comm}-{task.pid}: {error}", error)

    def oops_in_interrupt(self, error: BaseException, where: str) -> None:
        """An exception left an interrupt handler, softirq or timer callback; there is no task to kill.

        The task that was interrupted has nothing to do with it, so that it must not go on from here.
        """
        if not isinstance(error, Exception | TaskUnwind):
            self._kernel.loop.interrupted(error)
            return
        if isinstance(error, TaskUnwind) and not isinstance(error, SoftLockup):
            self.panic(f"Aiee, killing interrupt handler! do_exit() or execve() in {where}", error)
            return
        panics = self._on_oops == "panic"
        self._log(f"Oops in {where}: {type(error).__name__}: {error}", error, panics)
        if panics:
            self.panic(f"Fatal exception in interrupt: {type(error).__name__} in {where}: {error}", error)

    def _log(self, text: str, error: BaseException, panics: bool) -> None:
        """Log an oops. One that becomes a panic is raised out of `lkl_run()`, and the console need not tell it, too."""
        printk = self._kernel.printk
        printk.tainted += 1
        console = not panics or self._kernel.halting  # a halt raises nothing
        printk.printk(text, KERN_EMERG, console)
        printk.printk(user_traceback(error), KERN_EMERG, console)

    def bad_pick(self, task: Task) -> None:
        """The scheduling policy has picked a task that is not runnable: a panic.

        What runs until the kernel has halted is picked by the default policy, so that each task can be taken down.
        """
        sched = self._kernel.sched
        bug = KernelBug(
            f"BUG: policy {type(sched.policy).__name__} picked {task!r}, which is not runnable; "
            "pick_next_task() returns what enqueue_task() was given, once, and not what dequeue_task() has taken out"
        )
        sched.policy = FixedPriority()
        sched.policy.attach(sched)
        for other in self._kernel.pids:
            if other.state == TASK_RUNNING:  # the current one, too: it gives up the CPU
                sched.policy.enqueue_task(other)
        self.panic(str(bug), bug)

    def must_not_end(self, task: Task, error: BaseException | None) -> None:
        """A thread ends without which no kernel can work: a panic, unless the kernel halts."""
        if not self._kernel.halting:
            why = "its function returned" if error is None else f"{type(error).__name__}: {error}"
            self.panic(f"Attempted to kill {task.comm}, without which the kernel cannot go on: {why}", error)

    def panic(self, text: str, cause: BaseException | None = None) -> None:
        """Stop the kernel: `lkl_run()` raises KernelPanic at the next scheduling point."""
        kernel = self._kernel
        if kernel.panicked is not None:
            return
        kernel.panicked = KernelPanic(f"Kernel panic - not syncing: {text}")
        kernel.panicked.__cause__ = cause
        kernel.printk.printk(str(kernel.panicked), KERN_EMERG, console=kernel.halting)
        kernel.power_off()
