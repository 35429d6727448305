"""Threads and processes, at the level below kthreads: <linux/sched/task.h>, <linux/umh.h>."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.kernel import umh as _umh
from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.umh import UMH_WAIT_EXEC

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def kernel_thread(fn: Callable[[Any], Any], arg: Any = None, flags: int = 0) -> int:
    """Low level: a kernel thread that ends in `do_exit()` or `kernel_execve()`; its pid (rules 75 to 77, 81)."""
    return current_kernel().fork.kernel_thread(fn, arg, flags).pid


def kernel_execve(path: str, argv: Sequence[str] = (), envp: Mapping[str, str] | None = None) -> int:
    """Become a user program; 0, which the thread function then returns (rules 76, 79). Raises OSError(ENOENT)."""
    return current_kernel().exec.kernel_execve(path, argv, envp)


def kernel_wait4(pid: int = -1, options: int = 0) -> tuple[int, Any]:
    """Wait for a child forked with SIGCHLD; (pid, exit code), a TermSignal if a signal ended it.

    The exit code of a process is 0 to 255; that of a kernel thread is what it gave to `do_exit()`. Raises
    ChildProcessError without a child.
    """
    return current_kernel().exits.wait4(pid, options)


def call_usermodehelper(
    path: str, argv: Sequence[str] = (), envp: Mapping[str, str] | None = None, wait: int = UMH_WAIT_EXEC
) -> int:
    """Run a user program as a child of the kernel.

    Returns:
        0, or with UMH_WAIT_PROC the program's exit code, 0 to 255; a TermSignal if a signal ended it.

    Raises:
        OSError: ENOENT without such a program, EINVAL for another `wait`, ECHILD if the thread ended before it became
            the program, or what fork failed with.
    """
    return _umh.call_usermodehelper(current_kernel(), path, argv, envp, wait)
