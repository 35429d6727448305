"""Sockets of the host for kernel threads and processes: TCP, UDP, Unix; served by the kernel, spoken to by anybody.

The methods are those of Python's sockets, and block the calling task only. A stream socket saves the system call that
would say EAGAIN: a read that was shorter than asked has emptied the socket, and the next edge comes with the next byte.
That does not hold once an end or an error has been announced, which may have come together with the last bytes, nor for
datagrams (man 7 epoll).

Several threads may accept from one listening socket. One of them is woken for a connection, and wakes the next when it
has got one: the host makes one edge of several connections.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lkl_green.fs.hostfd import HostFile
from lkl_green.host.poller import POLLERR, POLLHUP, POLLOUT
from lkl_green.kernel.unistd import O_NONBLOCK, O_RDWR, SOCK_CLOEXEC, SOCK_NONBLOCK

if TYPE_CHECKING:
    from lkl_green.fs.file import Buffer
    from lkl_green.kernel.kernel import Kernel

_MSG_NOSIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # not every host has it
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)
_TRY_NEXT = (errno.ECONNABORTED, errno.EPROTO)


class HostSocket(HostFile):
    """What `host_socket()` returns; see there."""

    __slots__ = ("_recv", "_send", "_sock", "_stream")

    def __init__(self, sock: socket.socket, flags: int, kernel: Kernel | None, name: str) -> None:
        super().__init__(sock.fileno(), sock.close, O_RDWR | flags, kernel, name)
        self._sock = sock
        self._recv = sock.recv
        self._send = sock.send
        self._stream = sock.type == socket.SOCK_STREAM

    # -- data

    def recv(self, count: int, flags: int = 0) -> bytes:
        """Receive up to `count` bytes; b"" at the end (recv()).

        Args:
            count: how many at most.
            flags: MSG_* of the host.

        Raises:
            BlockingIOError: EAGAIN, it would have to wait and is non-blocking.
            InterruptedError: EINTR, a signal came first.
            OSError: EBADF if it is closed, or what the host says: ECONNRESET, ENOTCONN, ...
        """
        sched = self._sched
        if sched.listener is not None:
            sched.listener("read", self)
        if not self.f_count:
            raise self._bad("receive")
        if flags:
            return self._recv_with_flags(count, flags)
        return self._read(count)

    def _read(self, count: int) -> bytes:
        while True:
            if self._readable or self.f_flags & O_NONBLOCK:
                try:
                    data = self._recv(count)
                except BlockingIOError:
                    pass
                else:
                    if 0 < len(data) < count and self._stream and not self._ended:
                        self._readable = False
                    return data
            self._wait_for_input()

    def _recv_with_flags(self, count: int, flags: int) -> bytes:
        while True:
            try:
                return self._recv(count, flags)
            except BlockingIOError:
                if flags & socket.MSG_DONTWAIT:
                    raise
            self._wait_for_input()

    def recvfrom(self, count: int, flags: int = 0) -> tuple[bytes, Any]:
        """Receive a datagram and who sent it (recvfrom()). Raises as `recv()`."""
        self._announce("read", "receive")
        while True:
            try:
                return self._sock.recvfrom(count, flags)
            except BlockingIOError:
                if flags & socket.MSG_DONTWAIT:
                    raise
            self._wait_for_input()

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Send at least one byte of `data`; how many were sent (send()).

        Args:
            data: what to send.
            flags: MSG_* of the host; with MSG_NOSIGNAL a process gets no SIGPIPE.

        Raises:
            BlockingIOError: EAGAIN, it would have to wait and is non-blocking.
            InterruptedError: EINTR, a signal came first.
            OSError: EBADF if it is closed, or what the host says: EPIPE, ECONNRESET, ...
        """
        self._announce("write", "send")
        while True:
            try:
                return self._send(data, flags)
            except BlockingIOError:
                if flags & socket.MSG_DONTWAIT:
                    raise
            except BrokenPipeError:
                if not flags & _MSG_NOSIGNAL:
                    self.broken_pipe()
                raise
            self._wait_for_output()

    def sendall(self, data: Buffer) -> None:
        """Send all of `data` (like Python's sendall()).

        Raises:
            BlockingIOError: EAGAIN, it is non-blocking; how much was sent is not known.
            OSError: as `send()`; how much was sent is not known.
        """
        sched = self._sched
        if sched.listener is not None:
            sched.listener("write", self)
        if not self.f_count:
            raise self._bad("send")
        try:
            try:
                sent = self._send(data)
            except BlockingIOError:
                sent = 0
            while sent < len(data):
                self._wait_for_output()
                with suppress(BlockingIOError):
                    sent += self._send(memoryview(data)[sent:])
        except BrokenPipeError:
            self.broken_pipe()
            raise

    def _put(self, data: bytes | bytearray | memoryview) -> int:
        return self._send(data)

    def sendto(self, data: Buffer, address: Any, flags: int = 0) -> int:
        """Send a datagram (sendto()); how many bytes were sent. Raises as `send()`."""
        self._announce("write", "send")
        while True:
            try:
                return self._sock.sendto(data, flags, address)
            except BlockingIOError:
                if flags & socket.MSG_DONTWAIT:
                    raise
            self._wait_for_output()

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
        self._announce("read", "accept")
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

    def _announce(self, kind: str, what: str) -> None:
        """The scheduling point before an operation; it must be open."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener(kind, self)
        if not self.f_count:
            raise self._bad(what)

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
