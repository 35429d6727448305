"""The OS thread that runs a kernel, and what becomes of the kernel without it.

The owner is the OS thread that called `lkl_start_kernel()`. There are two ways to be without it:

- *It ends, and has not halted the kernel.* A value under a key of thread-local storage tells of that, as it tells of
  the end of other threads that make system calls. If tasks are OS threads, the ending thread halts the kernel there and
  then. If they are greenlets, no other OS thread can run them, and an ending one must not switch to them: the tasks are
  left as they are. In both cases callers that wait for a system call are answered, and the next call says what has
  happened.
- *The process forks.* Only the thread that called `os.fork()` exists in the child. A kernel on OS threads has none of
  its threads there, and a kernel of another thread has no owner. The process id tells; it is looked at where OS
  threads are involved anyway, and costs nothing elsewhere. Dropped: `os.register_at_fork()`, which cannot be undone and
  needs a list of all kernels of the process.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

from lkl_green.errors import KernelHalted, OwnerGone
from lkl_green.host.native import thread_name

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel


class Owner:
    """Watches over the owner of one kernel; made on its OS thread. Raises OSError(ENOMEM).

    Attributes:
        gone: the thread has ended without halting the kernel, and no caller has been told yet.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._pid = os.getpid()
        self._thread = thread_name()
        self.gone = False
        host = kernel.host
        key = host.tls_alloc(self._thread_ends)
        if key is None:
            raise OSError(errno.ENOMEM, "the host gave no TLS key for the kernel's owner")
        self._key = key
        if host.tls_set(key, self):
            host.tls_free(key)
            raise OSError(errno.ENOMEM, "the host gave no memory for the kernel's owner")

    def cleanup(self) -> None:
        """The kernel has halted: give the key back."""
        self._kernel.host.tls_free(self._key)

    # -- the end of the thread

    def _thread_ends(self, _owner: object) -> None:
        """TLS destructor, on the ending OS thread."""
        kernel = self._kernel
        if kernel.halted or sys.is_finalizing():
            return
        self.gone = True
        kernel.reboot.owner_ended()

    def check(self, what: str) -> None:
        """Raises OwnerGone if the owner's OS thread has ended without halting the kernel."""
        if self.gone:
            raise OwnerGone(
                f"{what}: kernel {self._kernel.name} was run by OS thread {self._thread!r}, which has ended without "
                "lkl_sys_halt(), so nothing can run it any more. Let the thread that starts a kernel halt it, for "
                "instance by `with lkl_start_kernel(...) as kernel:`"
            )

    # -- the child of a fork

    @property
    def forked_away(self) -> bool:
        """Whether this process is a child of the one in which the kernel was started."""
        return os.getpid() != self._pid

    def is_left_behind(self) -> bool:
        """Whether the kernel was started before a fork and cannot run in this process, which is the child."""
        kernel = self._kernel
        return self.forked_away and (kernel.host.foreign_threads_run_kernel or not kernel.is_owned_here())

    def forked(self, what: str) -> KernelHalted:
        """The error for using a kernel that has not come along into the child of a fork."""
        return KernelHalted(
            f"{what}: kernel {self._kernel.name} was started in process {self._pid}, and this is process "
            f"{os.getpid()}, made by os.fork(): the OS threads that the kernel needs exist in the first only. Start a "
            "kernel of its own in the child, or fork before the kernel is started"
        )
