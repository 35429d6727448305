"""A pair of connected stream sockets (net/unix/af_unix.c): two streams, crosswise.

Both readers and writers of a socket sleep on its one queue, so none of them sleeps exclusively.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from lkl_green.fs.bytestream import LOW_WATER, ByteStream
from lkl_green.fs.file import File
from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.unistd import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDHUP,
    FIONREAD,
    O_CLOEXEC,
    O_NONBLOCK,
    O_RDWR,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
)

if TYPE_CHECKING:
    from typing import Any

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.points import Kind

SOCKET_BUFFER = 212_992  # net.core.wmem_default


class UnixSocket(File):
    """One of a pair."""

    __slots__ = ("_incoming", "_outgoing", "_pair", "_reset")

    def __init__(
        self, incoming: ByteStream, outgoing: ByteStream, pair: object, flags: int, kernel: Kernel, name: str
    ) -> None:
        super().__init__(O_RDWR | flags, kernel, name)
        self._incoming = incoming
        self._outgoing = outgoing
        self._pair = pair
        self._reset = False
        incoming.reader = self
        outgoing.writer = self

    def _read(self, count: int) -> bytes:
        data = self._incoming.read(count)
        if not data and self._reset:
            self._reset = False
            raise ConnectionResetError(errno.ECONNRESET, f"the peer of {self!r} was closed with bytes unread")
        return data

    def _write(self, data: bytes | bytearray) -> int:
        return self._outgoing.write(data)

    def poll(self) -> int:
        """As unix_poll(): an end is readable, a dead peer writable, in that neither would wait."""
        incoming, outgoing = self._incoming, self._outgoing
        ended = incoming.writing_ended or incoming.reading_ended
        broken = outgoing.writing_ended or outgoing.reading_ended
        mask = EPOLLERR if self._reset else 0
        if ended:
            mask |= EPOLLIN | EPOLLRDHUP | (EPOLLHUP if broken else 0)
        elif incoming.readable:
            mask |= EPOLLIN
        if broken or outgoing.writable:
            mask |= EPOLLOUT
        return mask

    def _ioctl(self, request: int, arg: Any) -> int:
        return len(self._incoming) if request == FIONREAD else super()._ioctl(request, arg)

    def shutdown(self, how: int) -> None:
        """End one direction or both (shutdown(2)).

        Args:
            how: SHUT_RD: the peer's writes fail; SHUT_WR: the peer reads the end; SHUT_RDWR.

        Raises:
            OSError: EINVAL for another `how`, EBADF if it is closed.
        """
        if self._sched.listener is not None:
            self._sched.listener("close", self.shared("close"))
        if not self.f_count:
            raise self._bad("shut it down")
        if how not in (SHUT_RD, SHUT_WR, SHUT_RDWR):
            raise OSError(errno.EINVAL, f"shutdown(how={how}): use SHUT_RD, SHUT_WR or SHUT_RDWR")
        if how != SHUT_WR:
            self._incoming.shut_reading()
        if how != SHUT_RD:
            self._outgoing.end_writing()
        self.f_wq.wake_up_poll(EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLRDHUP)  # our own threads that wait

    def shared(self, kind: Kind) -> object:
        """A direction of its own for reads and for writes would miss what closing and shutting down do to both."""
        return self._pair

    def _release(self) -> None:
        if self._incoming.readable:
            peer = self._incoming.writer
            assert isinstance(peer, UnixSocket)
            peer._reset = True
        self._outgoing.end_writing()
        self._incoming.end_reading()


def create_socketpair(
    flags: int = 0, kernel: Kernel | None = None, name: str = "socket", size: int = SOCKET_BUFFER
) -> tuple[UnixSocket, UnixSocket]:
    """Two connected stream sockets (socketpair(AF_UNIX, SOCK_STREAM)).

    Args:
        flags: SOCK_NONBLOCK for both; SOCK_CLOEXEC is the descriptor table's business.
        kernel: the kernel they belong to; the current one if left out.
        name: shown in `repr` and deadlock reports.
        size: how many bytes each direction holds, at least 4096.

    Raises:
        OSError: EINVAL for unknown flags or too small a size.
    """
    if flags & ~(O_NONBLOCK | O_CLOEXEC):
        raise OSError(errno.EINVAL, f"socket flags {flags:#o}: only SOCK_NONBLOCK and SOCK_CLOEXEC are known")
    if size < LOW_WATER:
        raise OSError(errno.EINVAL, f"a socket buffer of {size} bytes: at least {LOW_WATER} are needed")
    if kernel is None:
        kernel = current_kernel()
    there = ByteStream(kernel, name, size, 1, exclusive=False)
    back = ByteStream(kernel, name, size, 1, exclusive=False)
    flags &= O_NONBLOCK
    first = UnixSocket(back, there, there, flags, kernel, f"{name}/0")
    return first, UnixSocket(there, back, there, flags, kernel, f"{name}/1")
