"""Halting: taking every task down, whatever it does (lkl_sys_halt, rules 18 to 22, 42 to 46).

LKL's halt waits for the idle thread to notice, and so for ever if some task never sleeps again or sleeps for good
(reference 5.11). Here nobody waits for a task to come to an end of its own:

- a task that never ran is dropped, and its function never called;
- any other is woken with TaskKilled raised at its sleep, so that its `finally` blocks run, in every configuration;
- a task that goes to sleep all the same gets TaskKilled again, and after a few times is never resumed;
- what has not ended when the timeout is over is named in a HaltTimeout.

Tasks are taken down in order of their pids, so that the trace of a halt is as repeatable as everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.arch.base import TIF_HOST_THREAD
from lkl_green.errors import HaltTimeout
from lkl_green.kernel.loop import RunUntil
from lkl_green.kernel.sched import NEVER
from lkl_green.kernel.state import SystemState
from lkl_green.kernel.task import PF_KTHREAD, PF_NEWBORN, TASK_RUNNING, Task
from lkl_green.kernel.unistd import LINUX_REBOOT_CMD_RESTART, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, NR_reboot

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel

DEFAULT_TIMEOUT_S = 5.0
_ANY_STATE = -1


class Reboot:
    """The halt of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.timeout_s = DEFAULT_TIMEOUT_S
        self.abandoned: list[Task] = []
        self.asked_by: Task | None = None
        self._quiet = False

    # -- asking for it

    def sys_halt(self, timeout_s: float) -> int:
        """See `Kernel.lkl_sys_halt`: who asks decides how it is done, and `halt()` does it in `lkl_run()`."""
        kernel = self._kernel
        if kernel.halted:
            self._tell_of_owner()
            return 0
        if kernel.owner.is_left_behind():
            self._leave_all()
            return 0
        if kernel.arch.runs_current():
            params = (LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART)
            return kernel.syscalls.dispatch(NR_reboot, params)
        self.timeout_s = timeout_s
        if not kernel.is_owned_here():
            self._ask_owner(timeout_s)
        elif kernel.loop.running:  # an interrupt handler, or a signal handler
            kernel.power_off()
        else:
            self._run_to_the_end()
        return 0

    def _ask_owner(self, timeout_s: float) -> None:
        """Another OS thread asks the owner's, and waits for it. Raises HaltTimeout if that does not run the kernel."""
        kernel = self._kernel
        kernel.power_off()
        kernel.host.doorbell()
        if not kernel.halted_event.wait(timeout_s):
            raise HaltTimeout(
                f"the kernel was asked to halt, but its owner's thread has not run it within {timeout_s} s",
                [repr(task) for task in kernel.pids],
            )
        self._tell_of_owner()

    def _tell_of_owner(self) -> None:
        """Raises OwnerGone, once, if the kernel has halted because its owner's OS thread has ended."""
        owner = self._kernel.owner
        try:
            owner.check("lkl_sys_halt()")
        finally:
            owner.gone = False

    def _run_to_the_end(self) -> None:
        kernel = self._kernel
        loop = kernel.loop
        # `lkl_run()` would raise these, and not halt.
        panicked, fatal = kernel.panicked, loop.fatal
        try:
            kernel.panicked = loop.fatal = None
            kernel.stopping = True
            loop.run(RunUntil.IDLE, None, None)
        finally:
            kernel.panicked = panicked
            if kernel.embedding is not None:
                kernel.embedding.touched()
        if fatal is not None:
            raise fatal
        if not kernel.halted:  # cannot be: only an exception ends `run()` before
            raise HaltTimeout(
                "the kernel was told to halt, and lkl_run() came back before", [repr(t) for t in kernel.pids]
            )

    def owner_ended(self) -> None:
        """The owner's OS thread ends, and this is its last act: halt if it can still be done, else mark as halted."""
        kernel = self._kernel
        kernel.printk.err(f"the OS thread that runs kernel {kernel.name} ends, and has not halted it")
        if kernel.host.foreign_threads_run_kernel:
            try:
                kernel.host.host_init()  # it has forgotten the thread already
                self._run_to_the_end()
            except Exception as error:
                kernel.printk.err(f"halt: {error}")
        if not kernel.halted:
            kernel.fs.shutdown()
            self._leave_all()

    def _leave_all(self) -> None:
        """Mark the kernel as halted, where its tasks can never run again: they are left as they are."""
        kernel = self._kernel
        kernel.sched.system_state = SystemState.HALTED
        kernel.host_tasks.cleanup()
        kernel.watchdog.stop()
        kernel.bindings.let_go()
        kernel.halted_event.set()

    def halt_quietly(self) -> None:
        """Halt on the way out of an error, which matters more than what goes wrong here."""
        self._quiet = True
        try:
            self._kernel.lkl_sys_halt()
        except Exception as error:
            self._kernel.printk.err(f"halt: {error}")

    # -- doing it

    def halt(self) -> None:
        """Take all tasks down and give the host everything back; in `lkl_run()`, as swapper.

        Raises:
            HaltTimeout: some tasks did not end; the kernel has halted all the same.
        """
        kernel = self._kernel
        sched = kernel.sched
        if not self._quiet and kernel.panicked is None:
            self._look_at_what_is_left()
        sched.system_state = SystemState.HALTING
        sched.post_switch = True
        sched.limit = NEVER
        deadline = kernel.host.time() + int(self.timeout_s * 1e9)
        for task in kernel.pids:
            self._kill(task)
        while True:  # at least once, however short the timeout: every task gets the chance to end
            sched.leave = False
            sched.checkpoint = 0
            if not sched.schedule_idle() or kernel.host.time() >= deadline:
                break
        self._power_down()

    def _look_at_what_is_left(self) -> None:
        """Warn of what should have ended (LKL: threads_cleanup()), and keep a report of what is blocked for good.

        Sleeping kernel threads are normal. The task that asked for the halt runs, of course.
        """
        kernel = self._kernel
        # init may end before the other two have run for the first time
        first = (kernel.init_task, kernel.kthreads.kthreadd, kernel.softirq.ksoftirqd)
        for task in kernel.pids:
            if task.exit_state or task in first or task.thread_flags & TIF_HOST_THREAD:
                continue
            if not task.flags & PF_KTHREAD:
                kernel.printk.warn(f"non kernel thread task {task.comm}")
            if task.state == TASK_RUNNING and task is not self.asked_by:
                kernel.printk.warn(f"thread {task.comm} still running while halting")
        if kernel.has_init:
            kernel.left_blocked = kernel.reports.blocked_for_good()

    def _kill(self, task: Task) -> None:
        """Drop a task that never ran, reap a zombie; wake any other, to be raised TaskKilled in."""
        kernel = self._kernel
        if task.exit_state:  # its context has gone: it must not be woken
            kernel.exits.release_task(task)
            return
        if task in self.abandoned:  # when it was taken down alone, before
            return
        outside = kernel.host_tasks.outside(task)
        if task.thread_flags & TIF_HOST_THREAD and outside:
            try:
                kernel.arch.orphan_thread(task)
            except OSError:
                kernel.exits.drop_unstarted(task)
                return
        elif task.flags & PF_NEWBORN:
            kernel.host_tasks.dropped(task)
            kernel.exits.drop_unstarted(task)
            return
        task.killed = 1
        if task.state != TASK_RUNNING:
            kernel.sched.wake_up_state(task, _ANY_STATE)

    def _power_down(self) -> None:
        """The tasks have gone, or will never run again."""
        kernel = self._kernel
        left = [f"{task!r}" for task in kernel.pids]
        self._give_back()
        if left:
            raise HaltTimeout(
                f"the kernel has halted, but {len(left)} of its tasks did not end: {', '.join(left)}; they swallow "
                "TaskKilled (catch Exception, not BaseException) or run longer than the timeout",
                left,
            )

    def _give_back(self) -> None:
        """Give the host everything back. After an exception in the middle, what is left is done before it is raised."""
        kernel = self._kernel
        steps = [
            kernel.fs.shutdown,
            self._leave,
            self._mark_halted,
            kernel.watchdog.stop,
            kernel.host_tasks.cleanup,
            kernel.owner.cleanup,
            kernel.arch.threads_cleanup,
            kernel.host.host_cleanup,
            kernel.loop.give_sigint_back,
            kernel.bindings.let_go,
            kernel.halted_event.set,
        ]
        interruption: BaseException | None = None
        while steps:
            try:
                while steps:  # inside the `try`, because signal handlers run where a loop jumps back
                    steps[0]()
                    del steps[0]
            except BaseException as error:
                if interruption is not None:
                    del steps[0]  # an error of the step itself, or the step had been done
                interruption = interruption or error
        if interruption is not None:
            raise interruption

    def _leave(self) -> None:
        arch = self._kernel.arch
        try:
            arch.leave()
        except BaseException:
            arch.leave_after_exception()
            raise

    def _mark_halted(self) -> None:
        self._kernel.sched.system_state = SystemState.HALTED

    def abandon(self, task: Task) -> None:
        """Keep a task that must never run again alive: if it were collected, its frames would be run to unwind them."""
        self.abandoned.append(task)
        self._kernel.printk.err(f"{task.comm}-{task.pid} goes on sleeping while it is killed: given up")
