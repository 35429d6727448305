"""Starting user programs from the kernel (kernel/umh.c): `call_usermodehelper()`.

Only a kernel thread may become a user process, and the caller may not want to. So a kthread is asked for, which forks
the thread that execs. If the caller waits for the program's exit, the kthread does the waiting, as Linux's worker does.

The caller must be woken however that thread ends, even if it is taken down before it has run. `vfork()` needs the same:
`vfork_done` is completed by the exec and by each kind of end. So a caller that waits for the exec waits for that.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from lkl_green.kernel.completion import Completion
from lkl_green.kernel.fork import do_exit
from lkl_green.kernel.signum import SIGCHLD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lkl_green.kernel.kernel import Kernel

UMH_NO_WAIT = 0  # do not wait at all
UMH_WAIT_EXEC = 1  # wait for the exec
UMH_WAIT_PROC = 2  # wait for the exit


class _Helper:
    """One call on its way.

    Attributes:
        error: the errno for which the program did not start; ECHILD as long as its thread has not come to the exec.
        code: what it exited with.
        done: completed when the caller need not wait any more.
    """

    def __init__(self, kernel: Kernel, path: str, argv: Sequence[str], envp: Mapping[str, str], wait: int) -> None:
        self._kernel = kernel
        self._path = path
        self._argv = argv
        self._envp = envp
        self._wait = wait
        self.error = errno.ECHILD
        self.code: int = 0
        self.done = Completion(kernel, f"usermode helper {path}")

    def work(self) -> int:
        """The kthread: fork, and wait if that is wanted."""
        kernel = self._kernel
        flags = SIGCHLD if self._wait == UMH_WAIT_PROC else 0
        done: Completion | None = self.done
        try:
            child = kernel.fork.kernel_thread(self._exec, flags=flags)
            if self._wait == UMH_WAIT_EXEC:
                child.vfork_done, done = done, None
            elif self._wait == UMH_WAIT_PROC:
                self.code = kernel.exits.wait4(child.pid)[1]
        except OSError as error:
            self.error = error.errno or errno.ENOMEM
        except BaseException:
            self.error = errno.ECHILD
            raise
        finally:
            if done is not None:
                done.complete()
        return 0

    def _exec(self, _arg: object) -> int:
        """The thread that becomes the program (Linux: call_usermodehelper_exec_async())."""
        self.error = 0  # before the exec, which wakes the caller
        try:
            return self._kernel.exec.kernel_execve(self._path, self._argv, self._envp)
        except OSError as error:
            self.error = error.errno or errno.ENOEXEC
            do_exit(0)
        except BaseException:
            self.error = errno.ECHILD
            raise


def call_usermodehelper(
    kernel: Kernel,
    path: str,
    argv: Sequence[str] = (),
    envp: Mapping[str, str] | None = None,
    wait: int = UMH_WAIT_EXEC,
) -> int:
    """Run a user program as a child of the kernel.

    Args:
        kernel: the kernel.
        path: a registered program.
        argv: its arguments; the path alone if left out.
        envp: its environment.
        wait: UMH_NO_WAIT, UMH_WAIT_EXEC or UMH_WAIT_PROC.

    Returns:
        0, or with UMH_WAIT_PROC the program's exit code, 0 to 255; a TermSignal if a signal ended it.

    Raises:
        OSError: ENOENT if there is no such program (not with UMH_NO_WAIT), EINVAL for another `wait`, ECHILD if the
            thread ended before it became the program, or what fork failed with.
    """
    if wait not in (UMH_NO_WAIT, UMH_WAIT_EXEC, UMH_WAIT_PROC):
        raise OSError(errno.EINVAL, f"wait={wait!r}: use UMH_NO_WAIT, UMH_WAIT_EXEC or UMH_WAIT_PROC")
    # Copied here, so that a mistake in them is the caller's to see.
    helper = _Helper(kernel, path, list(argv), dict(envp or {}), wait)
    kernel.kthreads.kthread_run(helper.work, name="kworker/u:umh")
    if wait == UMH_NO_WAIT:
        return 0
    helper.done.wait_for_completion()
    if helper.error:
        raise OSError(helper.error, "the user program could not be started", path)
    return helper.code
