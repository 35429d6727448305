"""How tasks are born (kernel/fork.c, after Al Viro's "new execve/kernel_thread design", rules 75 to 83).

All tasks but the first come from one `copy_process()`; `do_fork()` wakes them, too. What it does depends on who asks:

    kernel_thread(fn, arg)    by a kernel thread: no user registers; fn and arg go through the two arguments that are
                              passed blindly to copy_thread()
    create_thread(end, ...)   a kernel thread without kthreadd: the caller hears of its end
    clone                     by a user process: a copy of its registers, and where the child starts
    fork_idle                 a future idle task: never scheduled
    host task                 the kernel's own: runs what an OS thread of the application asks for

A newborn never "returns from schedule()". It starts in `ret_from_fork`, which makes up for the part of `schedule()`
after the switch by calling `schedule_tail()`, and then goes one of two ways:

    kernel thread:  schedule_tail()  fn(arg)  --- 0, after kernel_execve() --->  user mode
    user process:   schedule_tail()  ------------------------------------------>  user mode

`fn` never returns, or returns 0 after `kernel_execve()` has succeeded: anything else is a bug with a name. Nothing has
to be fooled into staying in the kernel, and nothing jumps.
"""

from __future__ import annotations

import errno
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NoReturn

from lkl_green.errors import BadKernelThread, KernelBug, TaskExit
from lkl_green.kernel.callback import check_callback
from lkl_green.kernel.completion import Completion
from lkl_green.kernel.exec import PtRegs, user_mode
from lkl_green.kernel.state import SystemState
from lkl_green.kernel.task import DEFAULT_PRIO, IDLE_PRIO, PF_IDLE, PF_KTHREAD, PF_NEWBORN, SCHED_NORMAL, Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.sched import Scheduler
    from lkl_green.kernel.taskend import TaskEnd

_RUNNING = SystemState.RUNNING

_HAS_RUN = ~PF_NEWBORN

CSIGNAL = 0xFF
CLONE_VM = 0x100
CLONE_FS = 0x200
CLONE_FILES = 0x400
CLONE_SIGHAND = 0x800
CLONE_VFORK = 0x4000
CLONE_PARENT = 0x8000
CLONE_THREAD = 0x10000
_SAME_PARENT = CLONE_PARENT | CLONE_THREAD
# A thread of its parent's process, as pthread_create() makes it.
THREAD_FLAGS = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_THREAD | CLONE_SIGHAND


class Fork:
    """Makes the tasks of one kernel."""

    __slots__ = ("_kernel", "_new_thread", "_pids", "_sched")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._pids = kernel.pids
        self._new_thread = kernel.arch.new_thread
        self._sched: Scheduler

    def attach(self, sched: Scheduler) -> None:
        """The scheduler is made after this, because it needs the first task."""
        self._sched = sched

    # -- the ways in

    def kernel_thread(self, fn: Callable[[Any], Any], arg: Any = None, flags: int = 0, name: str | None = None) -> Task:
        """Start a kernel thread that calls `fn(arg)` (low level: `kthread_run()` is the public way, rule 81).

        Args:
            fn: ends in `do_exit()`, or returns 0 after `kernel_execve()`.
            arg: passed to it.
            flags: SIGCHLD for a child that `wait4()` collects; CLONE_PARENT, CLONE_VFORK.
            name: the child's comm; the parent's if left out.

        Raises:
            OSError: EPERM in a user process (rule 75), EAGAIN without a free pid, ENOMEM, ESHUTDOWN while halting.
            TypeError: `fn` is not a plain function.
        """
        check_callback(fn, "thread function")
        current = self._sched.current
        if not current.flags & PF_KTHREAD:
            raise OSError(errno.EPERM, f"{current.comm}-{current.pid} is a user process: it cannot have kernel threads")
        return self.do_fork(flags, None, fn, arg, name)

    def clone(self, flags: int, entry: Callable[..., Any], args: tuple[Any, ...]) -> Task:
        """Start a copy of the current user process at `entry` (sys_clone). Raises as `kernel_thread` does."""
        check_callback(entry, "program")
        current = self._kernel.sched.current
        regs = current_pt_regs(current)
        if not user_mode(regs):
            raise KernelBug(f"BUG: {current.comm}-{current.pid} is a kernel thread: kernel threads never do fork()")
        return self.do_fork(flags, regs, entry, args)

    def fork_idle(self) -> Task:
        """Make the idle task of a CPU that does not exist yet: it has no pid of its own and never runs (rule 80)."""
        task = Task(0, "swapper", None)
        task.flags = PF_KTHREAD | PF_IDLE
        task.prio = IDLE_PRIO
        task.policy = SCHED_NORMAL
        task.thread_flags = 0
        task.fn = task.arg = None
        return task

    def create_thread(
        self,
        end: TaskEnd,
        fn: Callable[[Any], Any],
        arg: Any,
        name: str,
        context: Context | None = None,
        parent: Task | None = None,
        flags: int = 0,
    ) -> Task:
        """Make a kernel thread without kthreadd (Linux: create_io_thread()); `wake_up_new_task()` starts it.

        For threads that need another parent than kthreadd, or must exist at once.

        Args:
            end: what the thread's end is reported to.
            fn: called with `arg`; its result is the thread's exit code.
            arg: passed to it.
            name: its comm, cut to 15 characters.
            context: its context variables; a copy of the caller's if left out.
            parent: the current task if left out.
            flags: CLONE_*.

        Raises:
            OSError: EAGAIN without a free pid, ENOMEM, ESHUTDOWN while halting; then nothing was made.
        """
        task = self.copy_process(flags, None, fn, arg, name, parent, context)
        task.kthread = end
        return task

    # -- the one way through

    def do_fork(
        self,
        flags: int,
        regs: PtRegs | None,
        usp: Any,
        stack_size: Any,
        name: str | None = None,
        parent: Task | None = None,
        context: Context | None = None,
    ) -> Task:
        """Make a task and wake it (Linux: kernel_clone()); `copy_process` describes the parameters and errors."""
        task = self.copy_process(flags, regs, usp, stack_size, name, parent, context)
        self._sched.wake_up_new_task(task)
        if task.vfork_done is not None:
            _wait_for_vfork_done(task, task.vfork_done)
        return task

    def copy_process(
        self,
        flags: int,
        regs: PtRegs | None,
        usp: Any,
        stack_size: Any,
        name: str | None = None,
        parent: Task | None = None,
        context: Context | None = None,
        thread_flags: int = 0,
    ) -> Task:
        """Make a task that everybody can see and nobody has woken yet: it is TASK_NEW (rules 75 to 79).

        Args:
            flags: CLONE_* and, in the low byte, the signal for the parent.
            regs: the user registers to copy; None for a kernel thread.
            usp: passed blindly; `fn` or the child's entry point.
            stack_size: passed blindly; `arg` or the entry point's arguments.
            name: comm; the current task's if left out.
            parent: the current task if left out.
            context: context variables; a copy of the caller's if left out.
            thread_flags: TIF_*.

        Raises:
            OSError: EAGAIN without a free pid, ENOMEM, ESHUTDOWN while halting; then nothing was made.
        """
        sched = self._sched
        current = sched.current
        if sched.system_state is not _RUNNING:
            raise OSError(errno.ESHUTDOWN, "the kernel halts and starts no more tasks")
        pid = self._pids.alloc()
        if not pid:
            raise OSError(errno.EAGAIN, "no free pid")
        # The child copies whoever forks, unless a parent was named: a host task is made by whoever happens to run.
        source = current if parent is None else parent
        if parent is None:
            parent = (current.parent or current) if flags & _SAME_PARENT else current
        task = Task(pid, current.comm if name is None else name[:15], parent)
        task.context = copy_context() if context is None else context
        task.thread_flags = thread_flags
        task.policy = current.policy
        task.prio = current.prio if current.prio != IDLE_PRIO else DEFAULT_PRIO  # swapper's is no one else's
        if flags:
            self._copy_flags(flags, source, parent, task)
        _copy_thread(task, regs, usp, stack_size)
        new_thread = self._new_thread
        new_thread(task)
        if source.files is not None:
            self._kernel.fs.copy_files(flags, source, task)
        if regs is not None and (self._kernel.signals.known or flags & CLONE_THREAD):
            self._kernel.signals.copy_signals(source, task, bool(flags & CLONE_THREAD))
        self._pids.tasks[pid] = task
        if parent.children is None:
            parent.children = {}
        parent.children[task] = None
        if sched.trace is not None:
            sched.trace.sched_process_fork(current, task)
        return task

    def _copy_flags(self, flags: int, source: Task, parent: Task, task: Task) -> None:
        """What the CLONE_* flags say about the child."""
        if flags & CLONE_THREAD:
            task.tgid = source.tgid
        else:
            task.exit_signal = flags & CSIGNAL
        if flags & CLONE_FILES:
            self._kernel.fs.files_of(source)  # to be shared, a table must be there
        if flags & CLONE_VFORK:
            task.vfork_done = Completion(self._kernel, "vfork")

    # -- the newborn

    def ret_from_fork(self) -> Task:
        """Run the current task from birth to death; the task to run after it."""
        kernel = self._kernel
        sched = kernel.sched
        task = sched.current
        task.flags &= _HAS_RUN
        code: Any = 0
        try:
            sched.schedule_tail()
            fn = task.fn
            if fn is not None:
                arg, task.arg = task.arg, None
                code = fn(arg)
            if task.kthread is None:  # kthread() ends in do_exit(result); returning the result is the same
                if fn is not None and (code or task.regs is None or task.regs.pc is None):
                    raise _bad_return(task, fn, code)
                code = kernel.exec.userspace(task)
        except TaskExit as exit:
            code = exit.args[0]
        except BaseException as error:
            code = kernel.faults.task_died(task, error)
            kernel.host_tasks.dropped(task)  # if the exception came before its function began
        try:
            if sched.current is not task:
                code = self._wait_for_own_greenlet(task, code)
            return kernel.exits.exit_task(task, code)
        except BaseException as error:
            return kernel.exits.exit_after_exception(task, error)

    def _wait_for_own_greenlet(self, task: Task, code: Any) -> Any:
        """Other code made the function of `task` end, while the task sleeps in a greenlet of its own; the exit code."""
        try:
            self._sched.turn_back(task, None)
        except BaseException as error:
            return self._kernel.faults.task_died(task, error)
        return code


def _copy_thread(task: Task, regs: PtRegs | None, usp: Any, stack_size: Any) -> None:
    """Registers and first switch, from two arguments that were passed blindly (Linux: copy_thread(), rule 78)."""
    if regs is None:
        # The child's registers stay cleared: task.regs is None, and user_mode() of that is false.
        task.flags = PF_KTHREAD | PF_NEWBORN
        task.fn, task.arg = usp, stack_size
    else:
        task.flags = PF_NEWBORN
        task.fn = task.arg = None
        task.regs = PtRegs(usp, stack_size, regs.path)


def _wait_for_vfork_done(child: Task, done: Completion) -> None:
    """Wait until the child execs or exits; a parent that is killed does not (Linux: wait_for_vfork_done())."""
    try:
        done.wait_for_completion_killable()
    except InterruptedError:
        child.vfork_done = None


def _bad_return(task: Task, fn: Callable[..., Any], result: Any) -> KernelBug:
    """A thread function came back without being bound for user mode, or with the wrong value (rule 76)."""
    if task.regs is None or not user_mode(task.regs):
        return BadKernelThread(
            f"BUG: kernel thread {task.comm}-{task.pid}: {getattr(fn, '__qualname__', fn)!s}() returned {result!r} "
            "without a successful kernel_execve(); end it with do_exit(), or use kthread_run()"
        )
    return BadKernelThread(
        f"BUG: kernel thread {task.comm}-{task.pid} returned {result!r} after kernel_execve(); it must return 0"
    )


def do_exit(code: Any = 0) -> NoReturn:
    """End the current task (Linux: do_exit()); its `finally` blocks run on the way."""
    raise TaskExit(code)


def current_pt_regs(task: Task) -> PtRegs:
    """The user registers of the current task, in any system call and in any kernel thread (rule 82)."""
    regs = task.regs
    if regs is None:
        regs = task.regs = PtRegs(None, (), "")
    return regs
