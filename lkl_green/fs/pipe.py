"""Pipes (fs/pipe.c): two files, one that reads and one that writes, and 64 KiB between them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from lkl_green.fs.bytestream import PIPE_BUF, ByteStream
from lkl_green.fs.file import File
from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.unistd import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    FIONREAD,
    O_CLOEXEC,
    O_NONBLOCK,
    O_RDONLY,
    O_WRONLY,
)

if TYPE_CHECKING:
    from typing import Any

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.points import Kind

PIPE_SIZE = 65536


class PipeReader(File):
    """The end of a pipe that is read."""

    __slots__ = ("_stream",)

    def __init__(self, stream: ByteStream, flags: int, kernel: Kernel, name: str) -> None:
        super().__init__(O_RDONLY | flags, kernel, name)
        self._stream = stream
        stream.reader = self

    def _read(self, count: int) -> bytes:
        return self._stream.read(count)

    def poll(self) -> int:
        """EPOLLIN with bytes in the pipe, EPOLLHUP without a writer."""
        stream = self._stream
        return (EPOLLIN if stream.readable else 0) | (EPOLLHUP if stream.writing_ended else 0)

    def _ioctl(self, request: int, arg: Any) -> int:
        return len(self._stream) if request == FIONREAD else super()._ioctl(request, arg)

    def shared(self, kind: Kind) -> object:
        """The pipe."""
        return self._stream

    def _release(self) -> None:
        self._stream.end_reading()


class PipeWriter(File):
    """The end of a pipe that is written."""

    __slots__ = ("_stream",)

    def __init__(self, stream: ByteStream, flags: int, kernel: Kernel, name: str) -> None:
        super().__init__(O_WRONLY | flags, kernel, name)
        self._stream = stream
        stream.writer = self

    def _write(self, data: bytes | bytearray) -> int:
        return self._stream.write(data)

    def poll(self) -> int:
        """EPOLLOUT with room for PIPE_BUF bytes, EPOLLERR without a reader."""
        stream = self._stream
        return (EPOLLOUT if stream.writable else 0) | (EPOLLERR if stream.reading_ended else 0)

    def shared(self, kind: Kind) -> object:
        """The pipe."""
        return self._stream

    def _release(self) -> None:
        self._stream.end_writing()


def create_pipe_files(
    flags: int = 0, kernel: Kernel | None = None, name: str = "pipe", size: int = PIPE_SIZE
) -> tuple[PipeReader, PipeWriter]:
    """A pipe (create_pipe_files()).

    Args:
        flags: O_NONBLOCK for both ends; O_CLOEXEC is the descriptor table's business.
        kernel: the kernel it belongs to; the current one if left out.
        name: shown in `repr` and deadlock reports.
        size: how many bytes it holds, at least PIPE_BUF.

    Returns:
        the end to read from, the end to write to.

    Raises:
        OSError: EINVAL for unknown flags or too small a size.
    """
    if flags & ~(O_NONBLOCK | O_CLOEXEC):
        raise OSError(errno.EINVAL, f"pipe flags {flags:#o}: only O_NONBLOCK and O_CLOEXEC are known")
    if size < PIPE_BUF:
        raise OSError(errno.EINVAL, f"a pipe of {size} bytes: at least {PIPE_BUF} are needed for atomic writes")
    if kernel is None:
        kernel = current_kernel()
    stream = ByteStream(kernel, name, size, PIPE_BUF, exclusive=True)
    flags &= O_NONBLOCK
    return PipeReader(stream, flags, kernel, name), PipeWriter(stream, flags, kernel, name)
