"""The system calls of sockets, for processes that serve or call the host's network.

    accept4(fd, peer: list, flags)                       leaves the peer's address in the list
    recvfrom(fd, buffer: bytearray, count, flags, peer)  the same; None if nobody wants to know
    getsockname(fd, name: list), getpeername(fd, name)   likewise; getsockopt(fd, level, option, value: list)

Addresses are Python's: (host, port) for AF_INET. A host should be numeric: a name is looked up by the host's resolver,
for which the whole kernel waits.
"""

from __future__ import annotations

import errno
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lkl_green.fs.hostsocket import HostSocket, host_socket
from lkl_green.kernel import unistd
from lkl_green.kernel.unistd import O_CLOEXEC, SOCK_CLOEXEC, SOCK_NONBLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lkl_green.fs.file import Buffer
    from lkl_green.fs.file_table import FileTable
    from lkl_green.kernel.kernel import Kernel

_FLAGS = SOCK_NONBLOCK | SOCK_CLOEXEC


class SocketSyscalls:
    """The calls of one kernel on sockets of the host."""

    def __init__(self, kernel: Kernel, files: FileTable) -> None:
        self._kernel = kernel
        self._files = files

    def table(self) -> Iterator[tuple[int, str, Callable[..., Any]]]:
        """Number, name and function of each call."""
        for function in vars(SocketSyscalls):
            if function.startswith("sys_"):
                name = function.removeprefix("sys_")
                yield getattr(unistd, f"NR_{name}"), name, getattr(self, function)

    def _socket(self, fd: int) -> HostSocket:
        file = self._files.current_files().fget(fd)
        if not isinstance(file, HostSocket):
            raise OSError(errno.ENOTSOCK, f"{file!r} is no socket of the host")
        return file

    def _install(self, sock: HostSocket, flags: int) -> int:
        try:
            return self._files.current_files().fd_install(sock, bool(flags & O_CLOEXEC))
        except OSError:
            sock.close()
            raise

    # -- connections

    def sys_socket(self, domain: int, kind: int, protocol: int) -> int:
        """A socket of the host; its number. EMFILE, EAFNOSUPPORT, EPROTONOSUPPORT, EINVAL."""
        self._files.current_files().check_room(1)
        with _host_errors():
            sock = host_socket(domain, kind & ~_FLAGS, protocol, flags=kind & SOCK_NONBLOCK, kernel=self._kernel)
        return self._install(sock, kind)

    def sys_bind(self, fd: int, address: Any) -> None:
        """Give it an address. EADDRINUSE, EACCES, EADDRNOTAVAIL, EFAULT, EBADF, ENOTSOCK."""
        with _host_errors():
            self._socket(fd).bind(address)

    def sys_listen(self, fd: int, backlog: int) -> None:
        """Make it accept connections. EADDRINUSE, EOPNOTSUPP, EBADF, ENOTSOCK."""
        self._socket(fd).listen(backlog)

    def sys_accept(self, fd: int, peer: list[Any] | None = None) -> int:
        """accept4() without flags."""
        return self.sys_accept4(fd, peer, 0)

    def sys_accept4(self, fd: int, peer: list[Any] | None, flags: int) -> int:
        """The next connection; its number. EAGAIN, EINTR, EMFILE, EINVAL, EBADF, ENOTSOCK."""
        listener = self._socket(fd)
        self._files.current_files().check_room(1)
        sock, address = listener.accept(flags)
        number = self._install(sock, flags)
        if peer is not None:
            peer[:] = [address]
        return number

    def sys_connect(self, fd: int, address: Any) -> None:
        """Connect, and wait until it is done. EINPROGRESS, ECONNREFUSED, EINTR, EFAULT, EBADF, ENOTSOCK."""
        with _host_errors():
            self._socket(fd).connect(address)

    # -- data

    def sys_sendto(self, fd: int, data: Buffer, count: int, flags: int = 0, address: Any = None) -> int:
        """Send the first `count` bytes; how many were taken. EAGAIN, EINTR, EPIPE, EFAULT, EBADF, ENOTSOCK."""
        sock = self._socket(fd)
        if not isinstance(data, (bytes, bytearray, memoryview)) or not 0 <= count <= len(data):
            raise OSError(errno.EFAULT, f"sendto() of {count} bytes of {type(data).__name__}")
        part = memoryview(data)[:count]
        with _host_errors():
            return sock.send(part, flags) if address is None else sock.sendto(part, address, flags)

    def sys_recvfrom(
        self, fd: int, buffer: bytearray, count: int, flags: int = 0, peer: list[Any] | None = None
    ) -> int:
        """Receive into the buffer; how many bytes, 0 at the end. EAGAIN, EINTR, ECONNRESET, EFAULT, EBADF, ENOTSOCK."""
        sock = self._socket(fd)
        if not isinstance(buffer, (bytearray, memoryview)) or count < 0:
            raise OSError(errno.EFAULT, f"recvfrom() of {count} bytes into {type(buffer).__name__}")
        if peer is None:
            data = sock.recv(count, flags)
        else:
            data, address = sock.recvfrom(count, flags)
            peer[:] = [address]
        buffer[: len(data)] = data
        return len(data)

    # -- names and options

    def sys_getsockname(self, fd: int, name: list[Any]) -> None:
        """Its own address. EBADF, ENOTSOCK."""
        name[:] = [self._socket(fd).getsockname()]

    def sys_getpeername(self, fd: int, name: list[Any]) -> None:
        """Whom it is connected to. ENOTCONN, EBADF, ENOTSOCK."""
        name[:] = [self._socket(fd).getpeername()]

    def sys_setsockopt(self, fd: int, level: int, option: int, value: int | bytes) -> None:
        """Set an option. ENOPROTOOPT, EINVAL, EFAULT, EBADF, ENOTSOCK."""
        with _host_errors():
            self._socket(fd).setsockopt(level, option, value)

    def sys_getsockopt(self, fd: int, level: int, option: int, value: list[Any]) -> None:
        """An option that is a number. ENOPROTOOPT, EBADF, ENOTSOCK."""
        value[:] = [self._socket(fd).getsockopt(level, option)]


@contextmanager
def _host_errors() -> Iterator[None]:
    """What Python says of wrong addresses in its own way, as an errno; a resolver's code is none."""
    try:
        yield
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, f"{error.strerror}: use a numeric address") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise OSError(errno.EFAULT, str(error)) from error
