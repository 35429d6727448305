"""Putting the file layer into a kernel that is being built (vfs_caches_init())."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.fs.file_table import FileTable
from lkl_green.fs.hostsocket_syscalls import SocketSyscalls
from lkl_green.fs.syscalls import FileSyscalls

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel


def vfs_init(kernel: Kernel) -> None:
    """Give the kernel files and the system calls for them; before it boots."""
    files = FileTable(kernel)
    kernel.fs = files
    for calls in (FileSyscalls(kernel, files), SocketSyscalls(kernel, files)):
        for nr, name, function in calls.table():
            kernel.syscalls.install(nr, name, function)
