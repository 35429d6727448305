"""Sockets of the host for kernel threads and processes: TCP, UDP, Unix; served by the kernel, spoken to by anybody.

The methods are those of Python's sockets, and block the calling task only. Receiving and sending are in
`lkl_green.fs.hostsocket_data`.

Several threads may accept from one listening socket. One of them is woken for a connection, and wakes the next when it
has got one: the host makes one edge of several connections.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from lkl_green.fs.hostsocket_data import SocketData
from lkl_green.host.poller import POLLERR, POLLHUP, POLLOUT
from lkl_green.kernel.unistd import O_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel

_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)
_TRY_NEXT = (errno.ECONNABORTED, errno.EPROTO)


class HostSocket(SocketData):
    """What `host_socket()` returns; see there."""

    __slots__ = ()

    # -- connections

    def bind(self, address: Any) -> None:
        """Give it an address (bind()). Raises OSError: EADDRINUSE, EACCES, EADDRNOTAVAIL, EINVAL, EBADF."""
        self._announce("write", "bind it")
        self._sock.bind(address)

    def listen(self, backlog: int = 128) -> None:
        """Make it accept connections, `backlog` of which may wait (listen()). Raises OSError."""
        self._announce("write", "listen")
        self._sock.listen(backlog)

    def accept(self, flags: int = 0) -> tuple[HostSocket, Any]:
        """The next connection, and who made it (accept4()).

        Args:
            flags: SOCK_NONBLOCK for the new socket; SOCK_CLOEXEC is the descriptor table's business.

        Raises:
            BlockingIOError: EAGAIN, nobody has connected and the socket is non-blocking.
            InterruptedError: EINTR, a signal came first.
            OSError: EBADF if it is closed, EINVAL if it does not listen; EMFILE, ENFILE: the host has no descriptor
                left, and the connection still waits.
        """
        self._announce("receive", "accept")
        if flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC):
            raise OSError(errno.EINVAL, f"accept flags {flags:#o}: only SOCK_NONBLOCK and SOCK_CLOEXEC are known")
        while True:
            if self._readable or self.f_flags & O_NONBLOCK:
                try:
                    sock, peer = self._sock.accept()
                except BlockingIOError:
                    pass
                except OSError as error:
                    if error.errno in _TRY_NEXT:  # it was gone before we came
                        continue
                    raise
                else:
                    return self._accepted(sock, flags), peer
            self._wait_for_connection()

    def _wait_for_connection(self) -> None:
        try:
            self._wait_for_input(exclusive=True)
        except BaseException:
            self._pass_on()  # a wake-up that came all the same is somebody else's
            raise

    def _accepted(self, sock: socket.socket, flags: int) -> HostSocket:
        self._pass_on()
        sock.setblocking(False)
        return HostSocket(sock, flags & O_NONBLOCK, self._kernel, f"{self.f_name}/{sock.fileno()}")

    def _pass_on(self) -> None:
        if self._readable and self.f_count and self.f_wq.waitqueue_active():
            self.f_wq.wake_up()

    def connect(self, address: Any) -> None:
        """Connect, and wait until it is done (connect()).

        Raises:
            BlockingIOError: EINPROGRESS, it is under way and the socket is non-blocking; poll for EPOLLOUT.
            InterruptedError: EINTR, a signal came first; the connection goes on being made.
            OSError: EBADF if it is closed, or what the host says: ECONNREFUSED, ETIMEDOUT, ...
        """
        self._announce("write", "connect")
        code = self._sock.connect_ex(address)
        if code in _UNDER_WAY:
            if self.f_flags & O_NONBLOCK:
                raise BlockingIOError(code, os.strerror(code))
            self._await_connection()
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, f"{os.strerror(code)}: {address!r}")

    def _await_connection(self) -> None:
        self._wait_for_output()
        while not self.poll() & (POLLOUT | POLLERR | POLLHUP):  # the edge was an older one
            self._wait_for_output()
        self._ended = False  # before, it was hung up

    def shutdown(self, how: int) -> None:
        """End one direction or both: SHUT_RD, SHUT_WR, SHUT_RDWR. Raises OSError: ENOTCONN, EBADF."""
        self._announce("write", "shut it down")
        self._sock.shutdown(how)

    # -- names and options

    def getsockname(self) -> Any:
        """Its own address. Raises OSError(EBADF) if it is closed."""
        self._check_open()
        return self._sock.getsockname()

    def getpeername(self) -> Any:
        """Whom it is connected to. Raises OSError: ENOTCONN, EBADF."""
        self._check_open()
        return self._sock.getpeername()

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set an option of the host's socket. Raises OSError: ENOPROTOOPT, EINVAL, EBADF."""
        self._check_open()
        self._sock.setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        """An option of the host's socket; with `size`, as bytes. Raises OSError: ENOPROTOOPT, EBADF."""
        self._check_open()
        return self._sock.getsockopt(level, option, size) if size else self._sock.getsockopt(level, option)

    def _check_open(self) -> None:
        if not self.f_count:
            raise self._bad("ask it")


def host_socket(
    sock: socket.socket | int = socket.AF_INET,
    type: int = socket.SOCK_STREAM,
    proto: int = 0,
    *,
    flags: int = 0,
    kernel: Kernel | None = None,
    name: str = "",
) -> HostSocket:
    """A socket of the host for kernel threads, which closing the file closes.

    Args:
        sock: a Python socket, connected, listening or new, which is the kernel's from now on; or the family of a new
            one, AF_INET for example.
        type: SOCK_STREAM, SOCK_DGRAM, ... of a new one.
        proto: the protocol of a new one.
        flags: SOCK_NONBLOCK to get EAGAIN instead of waiting.
        kernel: the kernel it belongs to; the current one if left out.
        name: shown in `repr` and deadlock reports.

    Raises:
        OSError: EBADF for a closed socket, EINVAL for other flags, EMFILE, EAFNOSUPPORT, ...: what the host says.
        TypeError: for something else than a socket or a family.
        NoCurrentKernel: nobody said which kernel, and none runs.
    """
    if flags & ~SOCK_NONBLOCK:
        raise OSError(errno.EINVAL, f"host_socket flags {flags:#o}: only SOCK_NONBLOCK is known")
    if isinstance(sock, int):
        made = socket.socket(sock, type, proto)
    elif not isinstance(sock, socket.socket):
        raise TypeError(f"{sock!r} is no socket: pass a socket.socket or an address family; host_fd() takes others")
    elif sock.fileno() < 0:
        raise OSError(errno.EBADF, f"{sock!r} is closed, or was never open")
    else:
        made = sock
    timeout = made.gettimeout()
    made.setblocking(False)
    try:
        return HostSocket(made, flags, kernel, name or f"host socket {made.fileno()}")
    except BaseException:
        if made is sock:
            made.settimeout(timeout)  # it stays the caller's
        else:
            made.close()
        raise
