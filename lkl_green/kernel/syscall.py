"""System calls: the table, and the two ways to call it.

The raw way is LKL's: a number and up to six parameters in, an int out, a negative errno for failure; what does not fit
an int comes back in an object that the caller passes, as in C. `Sys` is the comfortable way: a method for each call,
which raises OSError. User programs have nothing else; the application has both.

Numbers are those of x86-64.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, NoReturn

from lkl_green.errors import KernelBug
from lkl_green.kernel.core_syscalls import CoreSyscalls
from lkl_green.kernel.entry import RESTARTABLE, exit_to_user_mode
from lkl_green.kernel.fork import CLONE_FILES, CLONE_THREAD, CLONE_VFORK
from lkl_green.kernel.signal_syscalls import SignalSyscalls
from lkl_green.kernel.signum import SIGCHLD, exit_code_of
from lkl_green.kernel.syssignal import SignalCalls
from lkl_green.kernel.syssocket import SocketCalls
from lkl_green.kernel.unistd import (
    CLOCK_MONOTONIC,
    LINUX_REBOOT_CMD_POWER_OFF,
    LINUX_REBOOT_MAGIC1,
    LINUX_REBOOT_MAGIC2,
    NR_clock_gettime,
    NR_clone,
    NR_execve,
    NR_exit,
    NR_exit_group,
    NR_getpid,
    NR_getppid,
    NR_gettid,
    NR_kill,
    NR_nanosleep,
    NR_reboot,
    NR_sched_yield,
    NR_tgkill,
    NR_uname,
    NR_wait4,
    Utsname,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task

_INTERRUPTED = -errno.EINTR


class Syscalls:
    """The system call table of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sched = kernel.sched
        self.table: dict[int, Callable[..., Any]] = {}
        self.names: dict[int, str] = {}
        self.count = 0
        for calls in (CoreSyscalls(kernel), SignalSyscalls(kernel)):
            for nr, name, function in calls.table():
                self.install(nr, name, function)

    def install(self, nr: int, name: str, function: Callable[..., Any]) -> None:
        """Add a call; `function(*params)` returns an int or None for 0, and raises OSError."""
        self.table[nr] = function
        self.names[nr] = name

    def dispatch(self, nr: int, params: tuple[Any, ...]) -> int:
        """Run a call in the current task; a negative errno on failure, -ENOSYS for an unknown number (rule 52)."""
        if self._sched.trace is not None:
            return self._dispatch_traced(nr, params)
        try:
            result = self.table[nr](*params)
        except KeyError:
            if nr in self.table:
                raise
            return -errno.ENOSYS
        except OSError as error:
            return -(error.errno or errno.EIO)
        return 0 if result is None else result

    def _dispatch_traced(self, nr: int, params: tuple[Any, ...]) -> int:
        sched = self._sched
        if sched.trace is not None:
            shown = ", ".join(hex(param) if isinstance(param, int) else type(param).__name__ for param in params)
            sched.trace.emit("sys_enter", nr, shown)
        function = self.table.get(nr)
        try:
            result = -errno.ENOSYS if function is None else function(*params)
        except OSError as error:
            result = -(error.errno or errno.EIO)
        if result is None:
            result = 0
        if sched.trace is not None:
            sched.trace.emit("sys_exit", nr, result)
        return int(result)

    def user(self, task: Task) -> Sys:
        """The `sys` object of a user process."""
        return UserSys(self._kernel, task)


class Sys(SocketCalls):
    """System calls as methods that raise OSError; the in-process equivalent of a libc.

    Args:
        call: runs a raw call, `lkl_syscall` or the dispatcher.
    """

    def __init__(self, call: Callable[..., int]) -> None:
        self._raw = call

    def _call(self, nr: int, *params: Any) -> int:
        result = self._raw(nr, *params)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def getpid(self) -> int:
        """Process id: that of the thread group's leader."""
        return self._call(NR_getpid)

    def gettid(self) -> int:
        """Thread id: the task's own pid."""
        return self._call(NR_gettid)

    def getppid(self) -> int:
        """Process id of the parent; 0 if it is not a process."""
        return self._call(NR_getppid)

    def sched_yield(self) -> None:
        """Let other tasks run."""
        self._call(NR_sched_yield)

    def nanosleep(self, duration_ns: int) -> None:
        """Sleep for at least `duration_ns`. Raises InterruptedError if a signal comes first."""
        self._call(NR_nanosleep, duration_ns)

    def clock_gettime(self, clock: int = CLOCK_MONOTONIC) -> int:
        """The clock in ns. Raises OSError(EINVAL) for an unknown one."""
        return self._call(NR_clock_gettime, clock)

    def uname(self) -> Utsname:
        """Name and version of the kernel."""
        buffer = Utsname()
        self._call(NR_uname, buffer)
        return buffer

    def kill(self, pid: int, sig: int) -> None:
        """Send a signal to a process; 0 only asks.

        Raises OSError: ESRCH without such a task, EINVAL for a bad signal, EOPNOTSUPP for one that would stop it.
        """
        self._call(NR_kill, pid, sig)

    def tgkill(self, tgid: int, tid: int, sig: int) -> None:
        """Send a signal to one thread of a process. Raises as `kill()`."""
        self._call(NR_tgkill, tgid, tid, sig)

    def reboot(self, command: int = LINUX_REBOOT_CMD_POWER_OFF) -> None:
        """Halt the kernel."""
        self._call(NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, command)


class UserSys(Sys, SignalCalls):
    """What a user process can do besides: handle signals, make processes, become another program, exit."""

    def __init__(self, kernel: Kernel, task: Task) -> None:
        super().__init__(self._enter)
        self._kernel = kernel
        self._task = task

    def _enter(self, nr: int, *params: Any) -> int:
        """The system call instruction of a user process."""
        kernel = self._kernel
        task = self._task
        if kernel.sched.current is not task:
            raise KernelBug(
                f"system call through the `sys` of {task!r} while {kernel.sched.current!r} runs: "
                "each process uses the `sys` it was given"
            )
        while True:
            result = kernel.syscalls.dispatch(nr, params)
            # First this, as in Linux: what is sent while others run is dealt with before the process goes on.
            kernel.sched.cond_resched()
            if not task.signals and result != _INTERRUPTED:
                return result
            if not exit_to_user_mode(kernel, task, self, result == _INTERRUPTED and nr in RESTARTABLE):
                return result

    def clone(self, main: Callable[..., int | None], *args: Any) -> int:
        """Start a child process at `main(sys, *args)`; its pid."""
        return self._call(NR_clone, SIGCHLD, main, args)

    def vfork(self, main: Callable[..., int | None], *args: Any) -> int:
        """The same, but wait until the child execs or exits."""
        return self._call(NR_clone, SIGCHLD | CLONE_VFORK, main, args)

    def clone_thread(self, main: Callable[..., int | None], *args: Any) -> int:
        """Start a thread of this process: same getpid(), own gettid(). It ends alone when `main` returns."""
        return self._call(NR_clone, CLONE_THREAD | CLONE_FILES, main, args)

    def execve(self, path: str, argv: Sequence[str] = (), envp: Mapping[str, str] | None = None) -> NoReturn:
        """Become another program, which ends the other threads; returns only by raising OSError(ENOENT)."""
        self._call(NR_execve, path, argv, envp)
        raise AssertionError("execve returned")

    def wait4(self, pid: int = -1, options: int = 0) -> tuple[int, Any]:
        """Wait for a child; (pid, exit code), a TermSignal if a signal ended it. An exit code is 0 to 255.

        Raises ChildProcessError without children, InterruptedError if a signal comes first.
        """
        status: list[Any] = [0]
        return self._call(NR_wait4, pid, status, options), exit_code_of(status[0])

    def exit(self, code: int = 0) -> NoReturn:
        """End the process with all its threads, as returning from the program does."""
        self._call(NR_exit_group, code)
        raise AssertionError("exit returned")

    def exit_thread(self, code: int = 0) -> NoReturn:
        """End this thread only, as returning from the function of a thread does."""
        self._call(NR_exit, code)
        raise AssertionError("exit returned")
