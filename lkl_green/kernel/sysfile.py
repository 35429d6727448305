"""The system calls of files as methods that raise OSError: the part of `Sys` that a libc keeps in its unistd.

Like a libc it knows numbers and structures and nothing of what is behind them; in a kernel without files each of these
is ENOSYS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.kernel import unistd
from lkl_green.kernel.signum import sigset
from lkl_green.kernel.unistd import EpollEvent, PollFd

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class FileCalls:
    """Methods for whatever has a `_call`."""

    def _call(self, nr: int, *params: Any) -> int:
        raise NotImplementedError

    def read(self, fd: int, count: int) -> bytes:
        """Up to `count` bytes, b"" at the end. Raises OSError: EBADF, EAGAIN, EINTR, EINVAL."""
        buffer = bytearray()
        self._call(unistd.NR_read, fd, buffer, count)
        return bytes(buffer)

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        """Write; how many bytes were taken. Raises OSError: EBADF, EAGAIN, EINTR, EPIPE, EFAULT."""
        return self._call(unistd.NR_write, fd, data, len(data))

    def readv(self, fd: int, buffers: Sequence[bytearray | memoryview]) -> int:
        """Read once, into these buffers, as long as they are; how many bytes. Raises OSError as `read()`."""
        return self._call(unistd.NR_readv, fd, list(buffers), len(buffers))

    def writev(self, fd: int, buffers: Sequence[bytes | bytearray | memoryview]) -> int:
        """Write these buffers as one; how many bytes were taken. Raises OSError as `write()`."""
        return self._call(unistd.NR_writev, fd, list(buffers), len(buffers))

    def close(self, fd: int) -> None:
        """Give a number back. Raises OSError(EBADF)."""
        self._call(unistd.NR_close, fd)

    def ioctl(self, fd: int, request: int, arg: Any = None) -> int:
        """Whatever the file can do besides. Raises OSError: EBADF, ENOTTY."""
        return self._call(unistd.NR_ioctl, fd, request, arg)

    def dup(self, fd: int) -> int:
        """Another number for the same file. Raises OSError: EBADF, EMFILE."""
        return self._call(unistd.NR_dup, fd)

    def dup2(self, fd: int, number: int) -> int:
        """This number for the same file, whatever it was. Raises OSError(EBADF)."""
        return self._call(unistd.NR_dup2, fd, number)

    def dup3(self, fd: int, number: int, flags: int = 0) -> int:
        """The same, with O_CLOEXEC. Raises OSError: EBADF, EINVAL for equal numbers."""
        return self._call(unistd.NR_dup3, fd, number, flags)

    def fcntl(self, fd: int, command: int, arg: int = 0) -> int:
        """F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL. Raises OSError: EBADF, EINVAL."""
        return self._call(unistd.NR_fcntl, fd, command, arg)

    def pipe2(self, flags: int = 0) -> tuple[int, int]:
        """A pipe: the number to read from, the number to write to. Raises OSError: EMFILE, EINVAL."""
        fds: list[int] = []
        self._call(unistd.NR_pipe2, fds, flags)
        return fds[0], fds[1]

    def socketpair(
        self, domain: int = unistd.AF_UNIX, kind: int = unistd.SOCK_STREAM, protocol: int = 0
    ) -> tuple[int, int]:
        """Two connected stream sockets. Raises OSError: EMFILE, EAFNOSUPPORT, EPROTONOSUPPORT."""
        fds: list[int] = []
        self._call(unistd.NR_socketpair, domain, kind, protocol, fds)
        return fds[0], fds[1]

    def shutdown(self, fd: int, how: int) -> None:
        """End a direction of a socket. Raises OSError: EBADF, ENOTSOCK, EINVAL."""
        self._call(unistd.NR_shutdown, fd, how)

    def eventfd(self, count: int = 0, flags: int = 0) -> int:
        """A counter. Raises OSError: EMFILE, EINVAL."""
        return self._call(unistd.NR_eventfd2, count, flags)

    def poll(self, wanted: Iterable[tuple[int, int]], timeout_ms: int = -1) -> list[tuple[int, int]]:
        """Wait until a descriptor is ready; (fd, revents) of those that are.

        Args:
            wanted: descriptors, each with POLL* bits.
            timeout_ms: 0 only looks, a negative one waits for good.

        Raises:
            OSError: EINTR.
        """
        fds = [PollFd(fd, events) for fd, events in wanted]
        self._call(unistd.NR_poll, fds, len(fds), timeout_ms)
        return [(entry.fd, entry.revents) for entry in fds if entry.revents]

    def ppoll(
        self,
        wanted: Iterable[tuple[int, int]],
        timeout_ns: int | None = None,
        sigmask: Iterable[int] | None = None,
    ) -> list[tuple[int, int]]:
        """The same with a timeout in ns, None for good; while it waits, `sigmask` are the signals that are blocked."""
        fds = [PollFd(fd, events) for fd, events in wanted]
        self._call(unistd.NR_ppoll, fds, len(fds), timeout_ns, _mask(sigmask))
        return [(entry.fd, entry.revents) for entry in fds if entry.revents]

    def select(
        self,
        read: Iterable[int],
        write: Iterable[int] = (),
        exceptional: Iterable[int] = (),
        timeout_ns: int | None = None,
        sigmask: Iterable[int] | None = None,
    ) -> tuple[list[int], list[int], list[int]]:
        """Wait until a descriptor is ready; those that are, like Python's select().

        Args:
            read: descriptors to wait for until they can be read, or are at their end.
            write: likewise, until they can be written.
            exceptional: likewise, until there is urgent data.
            timeout_ns: 0 only looks, None waits for good.
            sigmask: the signals that are blocked while it waits; those of the process if left out.

        Raises:
            OSError: EBADF, EINTR, EINVAL.
        """
        sets = (set(read), set(write), set(exceptional))
        number = max(set[int]().union(*sets), default=-1) + 1
        self._call(unistd.NR_pselect6, number, *sets, timeout_ns, _mask(sigmask))
        return sorted(sets[0]), sorted(sets[1]), sorted(sets[2])

    def epoll_create1(self, flags: int = 0) -> int:
        """An epoll. Raises OSError: EMFILE, EINVAL."""
        return self._call(unistd.NR_epoll_create1, flags)

    def epoll_ctl(self, epfd: int, operation: int, fd: int, events: int = 0, data: object = None) -> None:
        """Add, change or remove a descriptor.

        Args:
            epfd: the epoll.
            operation: EPOLL_CTL_ADD, EPOLL_CTL_MOD or EPOLL_CTL_DEL.
            fd: the descriptor.
            events: EPOLL* bits.
            data: what `epoll_wait()` is to say; `fd` if left out.

        Raises:
            OSError: EBADF, EEXIST, ENOENT, EINVAL, ELOOP.
        """
        event = EpollEvent(events, fd if data is None else data)
        self._call(unistd.NR_epoll_ctl, epfd, operation, fd, event)

    def epoll_wait(
        self, epfd: int, maxevents: int = 64, timeout_ms: int = -1, sigmask: Iterable[int] | None = None
    ) -> list[tuple[Any, int]]:
        """Wait for events; (data, events) of each.

        Args:
            epfd: the epoll.
            maxevents: how many to return at most.
            timeout_ms: 0 only looks, a negative one waits for good.
            sigmask: the signals that are blocked while it waits (epoll_pwait()).

        Raises:
            OSError: EBADF, EINTR, EINVAL.
        """
        events: list[EpollEvent] = []
        if sigmask is None:
            self._call(unistd.NR_epoll_wait, epfd, events, maxevents, timeout_ms)
        else:
            self._call(unistd.NR_epoll_pwait, epfd, events, maxevents, timeout_ms, sigset(sigmask))
        return [(event.data, event.events) for event in events]


def _mask(signals: Iterable[int] | None) -> int | None:
    return None if signals is None else sigset(signals)
