"""LKL's model: a host thread and a host semaphore for each task.

A task that is switched out sleeps in `sem_down` on its own scheduling semaphore, whose count starts at 0. A switch is
`sem_up(next.sched_sem)` and then `sem_down(prev.sched_sem)`: the two host threads are runnable together for a moment,
but the one that leaves runs no kernel code after the up (rule 28), so that exactly one runs the kernel. Over
`ThreadHost` this is the pthread model that LKL proposed; over `GreenletHost` the same protocol without OS threads.

What differs from LKL, and why (numbers of the reference's part 5):

- the semaphore and the host thread come in `new_thread`, which fork calls; either failing is -ENOMEM for the one
  who forks, never a tid of 0 (5.4, 5.5);
- a thread that is killed before it ever ran sees `dead` after its first `sem_down` and does not run its function (5.6);
- thread flags and jump buffer are copied before `sem_up(next)`; nothing of prev is read after it but its own
  `dead`, which only the task that resumes it writes (5.1, 5.2);
- a child inherits no thread flags: a kernel thread started by a host task is not a host task (5.12);
- the task that ran before is known per kernel, in the scheduler's `last` (rule 41); LKL's static `abs_prev` would be
  shared by two kernels.

*A woken thread looks whether it is its turn.* It is if the kernel's current task is its own. A semaphore that was upped
once too often does no harm, so that after an exception in the middle of a switch the rest of it can be done once more.
Until the LKL CPU has a new owner, a switch can be given up, and the exception goes to the task that wanted to leave.
From then on it has to be completed, and the exception waits until the task is resumed. The host operations before that
point go deeper than those after it, so that it is before it that a thread reaches the recursion limit.

A *host task* belongs to an OS thread of the application, which borrows it for a system call: the OS thread waits on
the task's semaphore until the scheduler picks the task, runs the call on its own stack as the current task, and goes
to sleep through a jump buffer: inside `schedule()`, after the next task was woken, a long jump takes the OS thread out
of the kernel instead of a `sem_down` (rules 36 to 38). Dropped: LKL's lkl_cpu_get() by the calling thread, which may
enter whenever the CPU is free. It would let the order of events depend on the host's scheduler; here the call is
posted, and the kernel takes it in at its named points, in every configuration the same.
"""

from __future__ import annotations

import copy
import errno
from functools import partial
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from lkl_green.arch.base import TIF_HOST_THREAD, TIF_SCHED_JB, Arch, KernelEntry, ThreadInfo
from lkl_green.arch.lkl_cpu import LKL_CPU_LOCKED, CpuHooks, LklCpu
from lkl_green.errors import HostMisuse, HostThreadExit, KernelBug, KernelHalted, LongJump
from lkl_green.host.native import get_ident
from lkl_green.host.ops import JmpBuf

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from lkl_green.host.ops import HostOps


class SemaphoreArch(Arch):
    """Each kernel thread a host thread with a semaphore of its own; LKL's protocol over any host operations.

    Args:
        ops: the host operations.
        hooks: what the LKL CPU asks of the kernel.
    """

    name = "semaphore"
    releases_threads = True

    def __init__(self, ops: HostOps, hooks: CpuHooks) -> None:
        self.ops = ops
        self.cpu = LklCpu(ops, hooks)
        self._entry: KernelEntry
        self._swapper: ThreadInfo
        self._os_threads: dict[int, int] = {}
        self._borrowers: set[int] = set()

    # -- life cycle

    def threads_init(self, swapper: ThreadInfo, entry: KernelEntry) -> None:
        """Boot: open the LKL CPU; the calling host thread runs swapper."""
        self._swapper = swapper
        self._entry = entry
        self.cpu.init()
        self.ops.on_interrupt = self._interrupted
        self.ops.on_exception = self._bootstrap_after_exception
        try:
            self._alloc_thread_info(swapper)
        except OSError:
            self._cpu_shutdown()
            raise
        swapper.tid = self.ops.thread_self()

    def threads_cleanup(self) -> None:
        """Shut the LKL CPU down and free swapper's semaphore (rules 18 to 22, 46)."""
        if self._swapper.sched_sem is None:
            return  # called again, after an exception
        self._cpu_shutdown()
        self._free_thread_info(self._swapper)

    def _cpu_shutdown(self) -> None:
        self.cpu.shutdown()
        if self.cpu.lock is not None:
            self.cpu.idle_shutdown()
            self.cpu.wait_shutdown()
        else:
            self.cpu.free()  # an exception has interrupted it

    def new_thread(self, task: ThreadInfo) -> None:
        """Allocate the semaphore, and a host thread, which waits for its first switch; a host task brings its own."""
        self._alloc_thread_info(task)
        if task.thread_flags & TIF_HOST_THREAD:
            return  # rule 33
        try:
            self._create_host_thread(task)
        except OSError:
            self._free_thread_info(task)
            raise
        except BaseException:
            task.dead = True
            self.ops.sem_up(task.sched_sem)  # for the host thread, if it has begun
            if task.tid:
                self.ops.thread_join(task.tid)
            self._free_thread_info(task)
            raise

    def _alloc_thread_info(self, task: ThreadInfo) -> None:
        """Allocate the scheduling semaphore (LKL: init_ti)."""
        task.tid = 0
        task.dead = False
        task.sched_jb = None
        task.stack = task.base = None
        task.sched_sem = self.ops.sem_alloc(0)
        if task.sched_sem is None:
            raise OSError(errno.ENOMEM, "the host gave no semaphore for a new task")
        task.switch_to = partial(self._switch_to, task)

    def _free_thread_info(self, task: ThreadInfo) -> None:
        task.stack = task.base = None
        task.switch_to = _gone
        sem, task.sched_sem = task.sched_sem, None
        self.ops.sem_free(sem)

    def _create_host_thread(self, task: ThreadInfo) -> None:
        context = task.context
        create = self.ops.thread_create
        # Into the task at once: after an exception between here and the end, the thread is found by it.
        task.tid = create(self._bootstrap, task) if context is None else context.run(create, self._bootstrap, task)
        if not task.tid:
            raise OSError(errno.ENOMEM, "the host could not create a thread for a new task")
        task.context = None

    def release_thread(self, task: ThreadInfo) -> None:
        """Kill a dead task's host thread: mark, wake, join, free (LKL: kill_thread, rules 42 to 45).

        May be called again after an exception.
        """
        if task.sched_sem is None:
            return
        again = task.dead
        if not task.thread_flags & TIF_HOST_THREAD:
            task.dead = True
            try:
                self.ops.sem_up(task.sched_sem)
                self.ops.thread_join(task.tid)
            except HostMisuse:
                if not again:
                    raise
        self._free_thread_info(task)

    def abandon(self, task: ThreadInfo, next: ThreadInfo) -> None:
        """Go to `next` and sleep; what `host_cleanup` raises here would only be swallowed like the rest."""
        sleep: Callable[[], Any] = partial(self._switch_to, next)
        while True:
            try:
                sleep()
            except HostThreadExit:
                sleep = partial(self.ops.sem_down, task.sched_sem)

    # -- the idle task's side

    def enter(self) -> None:
        """Take the LKL CPU for the caller of `lkl_run()`."""
        if self.cpu.get() != LKL_CPU_LOCKED:
            raise KernelHalted("the LKL CPU is shut down: the kernel has halted")
        self._swapper.tid = self.ops.thread_self()
        self._swapper.stack = self._swapper.base = getcurrent()

    def leave(self) -> None:
        """Put the LKL CPU; `current` is swapper whenever it is free (rule 25)."""
        self.cpu.put()

    def leave_after_exception(self) -> None:
        """Put the LKL CPU, whether it was got or not."""
        self.cpu.put_after_exception()

    def switch_from_idle(self, next: ThreadInfo) -> None:
        """An ordinary switch: swapper has a semaphore like everyone else."""
        next.switch_to()

    # -- the switch

    def _switch_to(self, next: ThreadInfo) -> None:
        """LKL's __switch_to, in the order of rule 27."""
        ops = self.ops
        entry = self._entry
        prev: ThreadInfo = entry.last
        if not next.tid:
            raise KernelBug(f"switch to {next!r}, which has no host thread")
        jump = None
        if prev.thread_flags & TIF_SCHED_JB:
            prev.thread_flags &= ~TIF_SCHED_JB
            jump = copy.copy(prev.sched_jb)
        try:
            self.cpu.change_owner(next.tid)
            ops.sem_up(next.sched_sem)
            if jump is not None:
                ops.jmp_buf_longjmp(jump, 1)
            ops.sem_down(prev.sched_sem)
            while entry.current is not prev:
                if prev.dead:
                    ops.thread_exit()
                ops.sem_down(prev.sched_sem)
        except (LongJump, HostThreadExit):
            raise
        except BaseException as error:
            self._complete_switch(prev, next, jump, error)

    def _complete_switch(self, prev: ThreadInfo, next: ThreadInfo, jump: JmpBuf | None, error: BaseException) -> None:
        """`error` came in the middle of a switch: raise it at once if nothing was done, else when `prev` is resumed."""
        if prev.dead:
            self.ops.thread_exit()
        if self.cpu.owner == prev.tid:  # still, or again
            raise error
        kept = self._keep(error)
        self.ops.sem_up(next.sched_sem)
        if jump is not None:
            self.ops.jmp_buf_longjmp(jump, 1)
        kept = self._sleep(prev) or kept
        if kept is not None:
            raise kept

    def _sleep(self, task: ThreadInfo) -> BaseException | None:
        """Sleep until the task is resumed, or dead; an exception to be raised then."""
        kept: BaseException | None = None
        while True:
            try:
                self.ops.sem_down(task.sched_sem)
            except HostThreadExit:
                raise
            except BaseException as error:
                kept = self._keep(error)
                if self.cpu.owner != task.tid:
                    continue  # it came before the semaphore was obtained
            if task.dead:
                self.ops.thread_exit()
            if self._entry.current is task:
                return kept

    def _keep(self, error: BaseException) -> BaseException | None:
        """Give an exception to the kernel if it is the application's; else it is to be raised in the task."""
        if isinstance(error, Exception):
            return error
        try:
            self._interrupted(error)
        except BaseException as kept:
            return kept
        return None

    def _interrupted(self, error: BaseException) -> None:
        """The host's hook: `error` came while a host thread slept. One that a foreign thread was sent is its own."""
        if get_ident() in self._borrowers:
            raise error
        self._entry.interrupted(error)

    def _bootstrap(self, task: ThreadInfo) -> None:
        """What a task's host thread runs (LKL: thread_bootstrap)."""
        if not task.dead:
            self.ops.sem_down(task.sched_sem)
        while self._entry.current is not task:
            if task.dead:
                return
            self.ops.sem_down(task.sched_sem)
        self._run_task(task)

    def _run_task(self, task: ThreadInfo) -> None:
        self._os_threads[task.tid] = get_ident()
        task.stack = task.base = getcurrent()
        next = self._entry.ret_from_fork()
        del self._os_threads[task.tid]
        self._switch_to(next)

    def _bootstrap_after_exception(self, task: ThreadInfo, error: BaseException) -> None:
        """The host's hook: an exception came before the task began, or after it ended. Go on from there."""
        if task.dead:
            return
        entry = self._entry
        entry.interrupted(error)
        if self.cpu.owner != self.ops.thread_self():
            self._sleep(task)
        if entry.current is task:
            self._run_task(task)
        else:
            self._switch_to(entry.current)

    # -- greenlets of a task's own

    def stack_changed(self, task: ThreadInfo) -> None:
        """Nothing: a greenlet sleeps on the task's semaphore, and is resumed where it sleeps."""

    # -- host tasks

    def can_borrow(self) -> bool:
        """Only where an OS thread of the application is a host thread like any other."""
        return self.ops.foreign_threads_run_kernel

    def borrow(self, task: ThreadInfo, call: Callable[[], Any]) -> None:
        """Be the host task for one system call (LKL: switch_to_host_task, then thread_sched_jb)."""
        me = get_ident()
        self._borrowers.add(me)
        try:
            kept = self._sleep(task)
            self._os_threads[task.tid] = me
            task.stack = task.base = getcurrent()
            self._leave_borrowed(task, call())
        except HostThreadExit:
            raise
        except BaseException as error:
            kept = error
            if self.cpu.owner == task.tid:  # it has not left, and the kernel stands still until it has
                task.stack = task.base = getcurrent()
                current = self._entry.current
                self._leave_borrowed(task, call() if current is task else current)
        finally:
            self._borrowers.discard(me)
        if kept is not None:
            raise kept

    def _leave_borrowed(self, task: ThreadInfo, next: ThreadInfo | None) -> None:
        if next is None:
            self.thread_sched_jb()
        else:
            self._leave_by_jump(task, partial(self._switch_to, next))

    def thread_sched_jb(self) -> None:
        """Sleep as the current host task, but return on this host thread, outside the kernel (rule 36)."""
        task: ThreadInfo = self._entry.current
        if not task.thread_flags & TIF_HOST_THREAD:
            raise KernelBug(f"thread_sched_jb() in {task!r}, which is not a host task")
        self._leave_by_jump(task, self._entry.schedule)

    def _leave_by_jump(self, task: ThreadInfo, switch: Callable[[], Any]) -> None:
        task.sched_jb = JmpBuf()
        task.thread_flags |= TIF_SCHED_JB
        self.ops.jmp_buf_set(task.sched_jb, switch)

    def orphan_thread(self, task: ThreadInfo) -> None:
        """Make an ordinary task of a host task: a new host thread waits for its next switch."""
        borrowed_tid = task.tid
        try:
            self._create_host_thread(task)
            task.thread_flags &= ~TIF_HOST_THREAD  # after it: if that fails, the task stays what it was
        except BaseException:
            if task.tid not in (0, borrowed_tid):  # the host thread exists, and is to be ended with the task
                task.thread_flags &= ~TIF_HOST_THREAD
            raise

    # -- asked from outside

    def runs_current(self) -> bool:
        """Whether the calling host thread is that of the current task, swapper's not counted."""
        current = self._entry.current
        return current is not self._swapper and self.ops.thread_equal(current.tid, self.ops.thread_self())

    def os_thread_of(self, task: ThreadInfo) -> int:
        """The one that its host thread was found to run on."""
        return self._os_threads.get(task.tid, 0)

    def stack_of(self, task: ThreadInfo) -> FrameType | None:
        """The innermost frame of the task's host thread, or of the greenlet in it in which the task sleeps."""
        stack = task.stack
        frame = None if stack is None or stack is task.base else stack.gr_frame
        if frame is not None:
            return frame
        return self.ops.thread_stack(task.tid) if task.tid else None


def _gone() -> Any:
    raise KernelBug("switch to a task whose host thread has been taken away")
