"""The system calls of sockets as methods that raise OSError: what a libc keeps in sys/socket.h.

Like those of files they are ENOSYS in a kernel without.
"""

from __future__ import annotations

from typing import Any

from lkl_green.kernel import unistd
from lkl_green.kernel.sysfile import FileCalls


class SocketCalls(FileCalls):
    """Methods for whatever has a `_call`; a socket is a file, too, for read(), write(), poll() and close()."""

    def socket(self, domain: int = unistd.AF_INET, kind: int = unistd.SOCK_STREAM, protocol: int = 0) -> int:
        """A socket of the host's network. Raises OSError: EMFILE, EAFNOSUPPORT, EPROTONOSUPPORT, EINVAL."""
        return self._call(unistd.NR_socket, domain, kind, protocol)

    def bind(self, fd: int, address: Any) -> None:
        """Give it an address, (host, port) for AF_INET. Raises OSError: EADDRINUSE, EACCES, EADDRNOTAVAIL, EFAULT."""
        self._call(unistd.NR_bind, fd, address)

    def listen(self, fd: int, backlog: int = 128) -> None:
        """Make it accept connections, `backlog` of which may wait. Raises OSError: EADDRINUSE, EOPNOTSUPP."""
        self._call(unistd.NR_listen, fd, backlog)

    def accept(self, fd: int, flags: int = 0) -> tuple[int, Any]:
        """The next connection and who made it (accept4()). Raises OSError: EAGAIN, EINTR, EMFILE, EINVAL."""
        peer: list[Any] = []
        return self._call(unistd.NR_accept4, fd, peer, flags), peer[0]

    def connect(self, fd: int, address: Any) -> None:
        """Connect, and wait until it is done. Raises OSError: EINPROGRESS, ECONNREFUSED, EINTR, EFAULT."""
        self._call(unistd.NR_connect, fd, address)

    def send(self, fd: int, data: bytes | bytearray | memoryview, flags: int = 0) -> int:
        """Send; how many bytes were taken. Raises OSError: EAGAIN, EINTR, EPIPE, ECONNRESET."""
        return self._call(unistd.NR_sendto, fd, data, len(data), flags, None)

    def sendto(self, fd: int, data: bytes | bytearray | memoryview, address: Any, flags: int = 0) -> int:
        """Send a datagram. Raises OSError as `send()`, and EFAULT for a bad address."""
        return self._call(unistd.NR_sendto, fd, data, len(data), flags, address)

    def recv(self, fd: int, count: int, flags: int = 0) -> bytes:
        """Up to `count` bytes, b"" at the end. Raises OSError: EAGAIN, EINTR, ECONNRESET."""
        buffer = bytearray()
        self._call(unistd.NR_recvfrom, fd, buffer, count, flags, None)
        return bytes(buffer)

    def recvfrom(self, fd: int, count: int, flags: int = 0) -> tuple[bytes, Any]:
        """A datagram and who sent it. Raises OSError as `recv()`."""
        buffer, peer = bytearray(), list[Any]()
        self._call(unistd.NR_recvfrom, fd, buffer, count, flags, peer)
        return bytes(buffer), peer[0]

    def getsockname(self, fd: int) -> Any:
        """Its own address. Raises OSError(ENOTSOCK)."""
        name: list[Any] = []
        self._call(unistd.NR_getsockname, fd, name)
        return name[0]

    def getpeername(self, fd: int) -> Any:
        """Whom it is connected to. Raises OSError: ENOTCONN, ENOTSOCK."""
        name: list[Any] = []
        self._call(unistd.NR_getpeername, fd, name)
        return name[0]

    def setsockopt(self, fd: int, level: int, option: int, value: int | bytes) -> None:
        """Set an option. Raises OSError: ENOPROTOOPT, EINVAL, EFAULT."""
        self._call(unistd.NR_setsockopt, fd, level, option, value)

    def getsockopt(self, fd: int, level: int, option: int) -> int:
        """An option that is a number. Raises OSError(ENOPROTOOPT)."""
        value: list[int] = []
        self._call(unistd.NR_getsockopt, fd, level, option, value)
        return value[0]
