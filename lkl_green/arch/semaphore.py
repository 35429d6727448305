"""LKL's model: a host thread and a host semaphore for each task.

A task that is switched out sleeps in `sem_down` on its own scheduling semaphore, whose count starts at 0. A switch is
`sem_up(next.sched_sem)` and then `sem_down(prev.sched_sem)`: the two host threads are runnable together for a moment,
but the one that leaves runs no kernel code after the up (rule 28), so that exactly one runs the kernel. Over
`ThreadHost` this is the pthread model that LKL proposed; over `GreenletHost` the same protocol without OS threads.

What differs from LKL, and why (numbers of the reference's part 5):

- the semaphore and the host thread come in `new_thread`, which fork calls; either failing is -ENOMEM for the one
  who forks, never a tid of 0 (5.4, 5.5);
- a thread that is killed before it ever ran sees `dead` after its first `sem_down` and does not run its function (5.6);
- thread flags and jump buffer are copied before `sem_up(next)`; nothing of prev is read after it but its own `dead`
  and `prev_sched`, which only the one who resumes it writes (5.1, 5.2);
- a child inherits no thread flags: a kernel thread started by a host task is not a host task (5.12);
- the task that ran before is known per kernel and kept in the resumed task, UML's way (rule 41); LKL's static
  `abs_prev` would be shared by two kernels.

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
from lkl_green.errors import HostThreadExit, KernelBug, KernelHalted
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

    # -- life cycle

    def threads_init(self, swapper: ThreadInfo, entry: KernelEntry) -> None:
        """Boot: open the LKL CPU; the calling host thread runs swapper."""
        self._swapper = swapper
        self._entry = entry
        self.cpu.init()
        self.ops.on_interrupt = entry.interrupted
        try:
            self._alloc_thread_info(swapper)
        except OSError:
            self._cpu_shutdown()
            raise
        swapper.tid = self.ops.thread_self()

    def threads_cleanup(self) -> None:
        """Shut the LKL CPU down and free swapper's semaphore (rules 18 to 22, 46)."""
        self._cpu_shutdown()
        self._free_thread_info(self._swapper)

    def _cpu_shutdown(self) -> None:
        self.cpu.shutdown()
        self.cpu.idle_shutdown()
        self.cpu.wait_shutdown()

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

    def _alloc_thread_info(self, task: ThreadInfo) -> None:
        """Allocate the scheduling semaphore (LKL: init_ti)."""
        task.tid = 0
        task.dead = False
        task.prev_sched = task.sched_jb = None
        task.stack = task.base = None
        task.sched_sem = self.ops.sem_alloc(0)
        if task.sched_sem is None:
            raise OSError(errno.ENOMEM, "the host gave no semaphore for a new task")
        task.switch_to = partial(self._switch_to, task)

    def _free_thread_info(self, task: ThreadInfo) -> None:
        self.ops.sem_free(task.sched_sem)
        task.sched_sem = None
        task.prev_sched = None  # or each dead task would keep the one before it alive
        task.stack = task.base = None
        task.switch_to = _gone

    def _create_host_thread(self, task: ThreadInfo) -> None:
        context = task.context
        create = self.ops.thread_create
        tid = create(self._bootstrap, task) if context is None else context.run(create, self._bootstrap, task)
        if not tid:
            raise OSError(errno.ENOMEM, "the host could not create a thread for a new task")
        task.tid = tid
        task.context = None

    def release_thread(self, task: ThreadInfo) -> None:
        """Kill a dead task's host thread: mark, wake, join, free (LKL: kill_thread, rules 42 to 45)."""
        if not task.thread_flags & TIF_HOST_THREAD:
            task.dead = True
            self.ops.sem_up(task.sched_sem)
            self.ops.thread_join(task.tid)
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

    def switch_from_idle(self, next: ThreadInfo) -> None:
        """An ordinary switch: swapper has a semaphore like everyone else."""
        next.switch_to()

    # -- the switch

    def _switch_to(self, next: ThreadInfo) -> None:
        """LKL's __switch_to, in the order of rule 27."""
        ops = self.ops
        prev: ThreadInfo = self._entry.last
        next.prev_sched = prev
        if not next.tid:
            raise KernelBug(f"switch to {next!r}, which has no host thread")
        self.cpu.change_owner(next.tid)
        jump = None
        if prev.thread_flags & TIF_SCHED_JB:
            prev.thread_flags &= ~TIF_SCHED_JB
            jump = copy.copy(prev.sched_jb)
        ops.sem_up(next.sched_sem)
        if jump is not None:
            ops.jmp_buf_longjmp(jump, 1)
        ops.sem_down(prev.sched_sem)
        if prev.dead:
            ops.thread_exit()

    def _bootstrap(self, task: ThreadInfo) -> None:
        """What a task's host thread runs (LKL: thread_bootstrap)."""
        self.ops.sem_down(task.sched_sem)
        if task.dead:
            return
        self._os_threads[task.tid] = get_ident()
        task.stack = task.base = getcurrent()
        next = self._entry.ret_from_fork()
        del self._os_threads[task.tid]
        self._switch_to(next)

    # -- greenlets of a task's own

    def stack_changed(self, task: ThreadInfo) -> None:
        """Nothing: a greenlet sleeps on the task's semaphore, and is resumed where it sleeps."""

    # -- host tasks

    def can_borrow(self) -> bool:
        """Only where an OS thread of the application is a host thread like any other."""
        return self.ops.foreign_threads_run_kernel

    def borrow(self, task: ThreadInfo, call: Callable[[], Any]) -> None:
        """Be the host task for one system call (LKL: switch_to_host_task, then thread_sched_jb)."""
        self.ops.sem_down(task.sched_sem)
        self._os_threads[task.tid] = get_ident()
        task.stack = task.base = getcurrent()
        next = call()
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
        task.thread_flags &= ~TIF_HOST_THREAD
        try:
            self._create_host_thread(task)
        except OSError:
            task.thread_flags |= TIF_HOST_THREAD
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
