"""User programs: registering, executing and running them.

A user program is a Python callable `main(sys, argv, envp) -> int` registered under a path. It reaches the kernel only
through `sys`, whose methods are system calls. The "registers" of a user process are what it will run when it next
enters user mode: an entry point and its arguments; setting them is all that `kernel_execve()` has to do, and the
return to user mode does the rest, exactly as Al Viro's design has it for pt_regs on the kernel stack (rule 79).

In a process that is in user mode already the frames of the old program are still on the stack. `execve()` leaves them
by raising ExecImage, and the loop in `userspace()` enters the new program.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from lkl_green.errors import ExecImage, KernelBug
from lkl_green.kernel.callback import check_callback
from lkl_green.kernel.entry import exit_to_user_mode
from lkl_green.kernel.signum import exit_byte
from lkl_green.kernel.task import PF_KTHREAD, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lkl_green.kernel.kernel import Kernel

    UserMain = Callable[[Any, list[str], dict[str, str]], int | None]


class PtRegs:
    """What a user process runs when it enters user mode.

    Attributes:
        pc: the entry point, called as `pc(sys, *args)`; None in a kernel thread.
        args: its arguments after `sys`.
        path: the program's path.
    """

    __slots__ = ("args", "path", "pc")

    def __init__(self, pc: Callable[..., Any] | None, args: tuple[Any, ...], path: str) -> None:
        self.pc = pc
        self.args = args
        self.path = path


def user_mode(regs: PtRegs) -> bool:
    """Whether the registers are those of a program in user mode; false for cleared ones (rule 78)."""
    return regs.pc is not None


class Exec:
    """The programs of one kernel, and the way into them."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._programs: dict[str, UserMain] = {}

    def register_program(self, path: str, main: UserMain) -> None:
        """Make `main(sys, argv, envp)` executable as `path`.

        Raises:
            ValueError: the path is not absolute.
            TypeError: `main` is not a plain function.
        """
        check_callback(main, "program")
        if not path.startswith("/"):
            raise ValueError(f"a program's path is absolute: {path!r}")
        self._programs[path] = main

    @property
    def nr_programs(self) -> int:
        """How many programs are registered."""
        return len(self._programs)

    def kernel_execve(self, path: str, argv: Sequence[str] = (), envp: Mapping[str, str] | None = None) -> int:
        """Turn the current kernel thread into a user process (rules 79, 80).

        Returns:
            0; the caller then returns 0 from its thread function.

        Raises:
            OSError: ENOENT if there is no such program; EINVAL in a user process, which calls `sys.execve()`, and in a
                kthread, which ends where its function does.
        """
        task = self._kernel.sched.current
        if not task.flags & PF_KTHREAD:
            raise OSError(errno.EINVAL, f"{task.comm}-{task.pid} is a user process already")
        if task.kthread is not None:
            who = f"{task.comm}-{task.pid}"
            raise OSError(errno.EINVAL, f"{who} is a kthread: use kernel_thread(), or call_usermodehelper()")
        self._do_execve(task, path, argv, envp)
        return 0

    def execve(self, path: str, argv: Sequence[str], envp: Mapping[str, str] | None) -> None:
        """Replace the current user program (sys_execve); does not return.

        Raises:
            OSError: ENOENT if there is no such program; EINVAL in a kernel thread, which calls `kernel_execve()`; EINTR
                if the process is to die.
        """
        task = self._kernel.sched.current
        if task.flags & PF_KTHREAD:
            raise OSError(errno.EINVAL, f"{task.comm}-{task.pid} is a kernel thread: it has no program to replace")
        self._do_execve(task, path, argv, envp)
        raise ExecImage

    def _do_execve(self, task: Task, path: str, argv: Sequence[str], envp: Mapping[str, str] | None) -> None:
        main = self._programs.get(path)
        if main is None:
            raise OSError(errno.ENOENT, "no program is registered under this path", path)
        kernel, old_pid = self._kernel, task.pid
        signals = kernel.signals
        if signals.known:
            signals.de_thread(task)
            kernel.exits.become_leader(task)
            signals.flush_signal_handlers(task)
        if task.flags & PF_KTHREAD:
            signals.forget_allowed(task)
        task.regs = PtRegs(main, (list(argv) or [path], dict(envp or {})), path)
        task.flags &= ~PF_KTHREAD
        task.comm = path.rsplit("/", 1)[-1][:15]
        trace = kernel.sched.trace
        if trace is not None:
            trace.sched_process_exec(task, path, old_pid)
        if task.files is not None:
            kernel.fs.do_close_on_exec(task)
        self.mm_release(task)

    def mm_release(self, task: Task) -> None:
        """The task has left its parent's memory: a vfork() parent may go on."""
        done, task.vfork_done = task.vfork_done, None
        if done is not None:
            done.complete()

    def userspace(self, task: Task) -> Any:
        """Run in user mode until the process exits; its exit code."""
        sys = self._kernel.syscalls.user(task)
        while True:
            if task.signals:
                exit_to_user_mode(self._kernel, task, sys)
            regs = task.regs
            assert regs is not None
            assert regs.pc is not None
            try:
                code = exit_byte(int(regs.pc(sys, *regs.args) or 0))
            except ExecImage:
                if task.regs is not regs:
                    continue
                error = RuntimeError("ExecImage was raised, and execve() had not replaced the program: never raise it")
                return self._kernel.signals.do_group_exit(task, self._kernel.faults.user_fault(task, error))
            except Exception as error:
                # Init's end is the kernel's, and a bug of the kernel is not its caller's fault: both are oopses.
                if task.tgid == self._kernel.init_task.tgid or isinstance(error, KernelBug):
                    raise
                return self._kernel.signals.do_group_exit(task, self._kernel.faults.user_fault(task, error))
            if self._kernel.signals.known and task.pid == task.tgid:
                # What a C program's start does after main(); a thread that returns only ends itself.
                return self._kernel.signals.do_group_exit(task, code)
            return code
