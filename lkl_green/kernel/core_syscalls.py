"""The system calls of processes, time and scheduling.

Each `sys_` method runs in the task that made the call, returns an int or None for 0, and raises OSError.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, NoReturn

from lkl_green.errors import TaskExit
from lkl_green.kernel import unistd
from lkl_green.kernel.fork import CSIGNAL
from lkl_green.kernel.signum import check_signal, exit_byte, wait_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lkl_green.kernel.kernel import Kernel

_REBOOT_COMMANDS = (
    unistd.LINUX_REBOOT_CMD_RESTART,
    unistd.LINUX_REBOOT_CMD_HALT,
    unistd.LINUX_REBOOT_CMD_POWER_OFF,
)


class CoreSyscalls:
    """The calls of one kernel that need nothing but tasks and a clock."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sched = kernel.sched

    def table(self) -> Iterator[tuple[int, str, Callable[..., Any]]]:
        """Number, name and function of each call."""
        for name in dir(self):
            if name.startswith("sys_"):
                call = name.removeprefix("sys_")
                yield getattr(unistd, f"NR_{call}"), call, getattr(self, name)

    # -- identity

    def sys_getpid(self) -> int:
        """Pid of the thread group's leader."""
        return self._sched.current.tgid

    def sys_gettid(self) -> int:
        """The task's own pid."""
        return self._sched.current.pid

    def sys_getppid(self) -> int:
        """Pid of the parent of the thread group's leader."""
        current = self._sched.current
        leader = self._kernel.pids.tasks.get(current.tgid, current)
        return 0 if leader.parent is None else leader.parent.tgid

    def sys_uname(self, buffer: unistd.Utsname) -> None:
        """Fill the buffer."""
        kernel = self._kernel
        buffer.sysname, buffer.nodename, buffer.machine = "Linux", kernel.name, "lkl_green"
        buffer.release, buffer.version = kernel.version, f"#1 {kernel.arch.name}"

    # -- time and scheduling

    def sys_sched_yield(self) -> None:
        """Go to the end of the queue."""
        self._sched.schedule()

    def sys_nanosleep(self, duration_ns: int) -> None:
        """Sleep; EINVAL, EINTR."""
        if duration_ns < 0:
            raise OSError(errno.EINVAL, "negative duration")
        if self._kernel.timers.sleep_interruptible(duration_ns):
            raise InterruptedError(errno.EINTR, "a signal ended the sleep")

    def sys_clock_gettime(self, clock: int) -> int:
        """The kernel's clock in ns; EINVAL. Both clocks start at boot."""
        if clock not in (unistd.CLOCK_REALTIME, unistd.CLOCK_MONOTONIC):
            raise OSError(errno.EINVAL, f"no clock {clock}")
        return self._kernel.timers.now_ns()

    # -- processes

    def sys_clone(self, flags: int, main: Callable[..., Any], args: tuple[Any, ...]) -> int:
        """A new process or thread of the calling user process. EINVAL; EINTR if it is to die itself."""
        if flags & CSIGNAL:
            check_signal(flags & CSIGNAL)
        if self._kernel.signals.fatal_signal_pending(self._sched.current):
            raise InterruptedError(errno.EINTR, "a process that is to die has no more children")
        return self._kernel.fork.clone(flags, main, args).pid

    def sys_execve(self, path: str, argv: list[str], envp: dict[str, str]) -> None:
        """Another program; ENOENT, EINTR."""
        self._kernel.exec.execve(path, argv, envp)

    def sys_exit(self, code: int) -> NoReturn:
        """End the task."""
        raise TaskExit(exit_byte(code))

    def sys_exit_group(self, code: int) -> NoReturn:
        """End all threads of the process."""
        raise TaskExit(self._kernel.signals.do_group_exit(self._sched.current, exit_byte(code)))

    def sys_wait4(self, pid: int, status: list[Any], options: int) -> int:
        """Collect a child; Linux's status word goes to `status[0]`. ECHILD, EINTR."""
        child, code = self._kernel.exits.wait4(pid, options)
        status[0] = wait_status(code)
        return child

    def sys_reboot(self, magic1: int, magic2: int, command: int) -> None:
        """Halt; EINVAL for wrong magic numbers or an unknown command."""
        if (magic1, magic2) != (unistd.LINUX_REBOOT_MAGIC1, unistd.LINUX_REBOOT_MAGIC2):
            raise OSError(errno.EINVAL, "wrong magic numbers")
        if command not in _REBOOT_COMMANDS:
            raise OSError(errno.EINVAL, f"unknown command {command:#x}")
        self._kernel.power_off()
