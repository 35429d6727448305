"""What goes through a socket of the host: receiving and sending, for `lkl_green.fs.hostsocket`.

A stream socket saves the system call that would say EAGAIN: a read that was shorter than asked has emptied the socket,
and the next edge comes with the next byte. That does not hold once an end or an error has been announced, which may
have come together with the last bytes, nor for datagrams (man 7 epoll).
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lkl_green.fs.hostfd import HostFile
from lkl_green.kernel.unistd import O_NONBLOCK, O_RDWR

if TYPE_CHECKING:
    from lkl_green.fs.file import Buffer
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.points import Kind

_MSG_NOSIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # not every host has it


class SocketData(HostFile):
    """A socket of the host, as far as its data go."""

    __slots__ = ("_recv", "_send", "_sock", "_stream")

    def __init__(self, sock: socket.socket, flags: int, kernel: Kernel | None, name: str) -> None:
        super().__init__(sock.fileno(), sock.close, O_RDWR | flags, kernel, name)
        self._sock = sock
        self._recv = sock.recv
        self._send = sock.send
        self._stream = sock.type == socket.SOCK_STREAM

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
            sched.listener("receive", self)
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
        self._announce("receive", "receive")
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

    def _announce(self, kind: Kind, what: str) -> None:
        """The scheduling point before an operation; it must be open."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener(kind, self)
        if not self.f_count:
            raise self._bad(what)
