"""Files: <linux/fs.h>, <linux/file.h>, <linux/poll.h>."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.fs import pipe as _pipe
from lkl_green.fs import select as _select
from lkl_green.fs import socketpair as _socketpair
from lkl_green.fs.file_table import files_of_current as _files_of_current
from lkl_green.kernel.current import current_kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.fs.file import Buffer, File


def pipe(flags: int = 0) -> tuple[File, File]:
    """A pipe: the end to read from, the end to write to; without descriptors (create_pipe_files())."""
    return _pipe.create_pipe_files(flags)


def socketpair(flags: int = 0) -> tuple[_socketpair.UnixSocket, _socketpair.UnixSocket]:
    """Two connected stream sockets; without descriptors."""
    return _socketpair.create_socketpair(flags)


def kernel_read(file: File, count: int) -> bytes:
    """Up to `count` bytes; b"" at the end. Raises OSError: EAGAIN, EINTR, EBADF."""
    return file.read(count)


def kernel_write(file: File, data: Buffer) -> int:
    """Write; how many bytes were taken. Raises OSError: EPIPE, EAGAIN, EINTR, EBADF."""
    return file.write(data)


def vfs_poll(file: File) -> int:
    """What would not block now, as EPOLL* bits; never sleeps."""
    return file.poll()


def do_poll(wanted: Sequence[tuple[File, int]], timeout_ns: int | None = None) -> list[int]:
    """Wait until one of the files is ready; what each is ready for. Raises InterruptedError (EINTR).

    Args:
        wanted: files, each with the EPOLL* bits to wait for.
        timeout_ns: 0 only looks, None waits for good.
    """
    return _select.do_poll(current_kernel(), wanted, timeout_ns)


def filp_close(file: File) -> None:
    """Give a reference back; the last one closes the file. Raises OSError(EBADF)."""
    file.close()


def fget(fd: int) -> File:
    """The file behind a descriptor of the current task, with a reference for the caller. Raises OSError(EBADF)."""
    return _files_of_current(current_kernel()).fget(fd).get()


def fd_install(file: File) -> int:
    """Give the file, and its reference, the lowest free descriptor of the current task. Raises OSError(EMFILE)."""
    return _files_of_current(current_kernel()).fd_install(file)
