"""The system calls of files: numbers in, and objects where C has a pointer.

    read(fd, buffer: bytearray, count)       fills the buffer from its start, which grows if it is too short
    readv(fd, buffers: list, n)              fills them one after the other; writev() likewise
    pipe2(fds: list, flags)                  leaves the two numbers in the list; so does socketpair()
    poll(fds: list of PollFd, n, timeout_ms) fills `revents`
    select(n, read: set, write: set, ...)    leaves the descriptors that are ready in the sets; None for an empty one
    epoll_wait(epfd, events: list, ...)      leaves EpollEvents in the list

What has a timeout takes ns, None for good, except poll() and epoll_wait(), which take ms, negative for good. A mask of
signals is an int, None to keep that of the process.

As everywhere, each function runs in the task that made the call, returns an int or None for 0, and raises OSError.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from lkl_green.fs.eventfd import EventFd
from lkl_green.fs.eventpoll import EventPoll
from lkl_green.fs.pipe import create_pipe_files
from lkl_green.fs.select import SELECT_SETS, do_poll
from lkl_green.fs.socketpair import create_socketpair
from lkl_green.kernel import unistd
from lkl_green.kernel.unistd import FD_CLOEXEC, O_CLOEXEC, O_NONBLOCK, EpollEvent, PollFd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lkl_green.fs.file import Buffer, File
    from lkl_green.fs.file_table import FileTable
    from lkl_green.kernel.kernel import Kernel

_NS_PER_MS = 1_000_000
UIO_MAXIOV = 1024


class FileSyscalls:
    """The calls of one kernel that take or give descriptors."""

    def __init__(self, kernel: Kernel, files: FileTable) -> None:
        self._kernel = kernel
        self._files = files

    def table(self) -> Iterator[tuple[int, str, Callable[..., Any]]]:
        """Number, name and function of each call."""
        for nr, name in _CALLS:
            yield nr, name, getattr(self, f"sys_{name}")

    def _fget(self, fd: int) -> File:
        return self._files.current_files().fget(fd)

    # -- reading, writing, closing

    def sys_read(self, fd: int, buffer: bytearray, count: int) -> int:
        """Read into the buffer; how many bytes, 0 at the end. EBADF, EFAULT, EAGAIN, EINTR."""
        if not isinstance(buffer, (bytearray, memoryview)):
            raise OSError(errno.EFAULT, f"read() fills a bytearray, not {type(buffer).__name__}")
        if isinstance(buffer, memoryview) and count > len(buffer):
            raise OSError(errno.EFAULT, f"read() of {count} bytes into a memoryview of {len(buffer)}")
        data = self._fget(fd).read(count)
        buffer[: len(data)] = data
        return len(data)

    def sys_write(self, fd: int, data: Buffer, count: int) -> int:
        """Write the first `count` bytes; how many were taken. EBADF, EFAULT, EAGAIN, EINTR, EPIPE."""
        file = self._fget(fd)
        if count < 0:
            raise OSError(errno.EINVAL, f"write of {count} bytes")
        if not isinstance(data, (bytes, bytearray, memoryview)) or count > len(data):
            raise OSError(errno.EFAULT, f"write() of {count} bytes of {type(data).__name__}")
        return file.write(data if count == len(data) else data[:count])

    def sys_readv(self, fd: int, buffers: list[bytearray | memoryview], number: int) -> int:
        """Read once, into the first `number` buffers as long as they are. EBADF, EFAULT, EINVAL, EAGAIN, EINTR."""
        wanted = _iovec(buffers, number)
        for buffer in wanted:
            if not isinstance(buffer, (bytearray, memoryview)) or (isinstance(buffer, memoryview) and buffer.readonly):
                raise OSError(errno.EFAULT, f"readv() fills bytearrays, not {type(buffer).__name__}")
        data = memoryview(self._fget(fd).read(sum(map(len, wanted))))
        done = 0
        for buffer in wanted:
            part = data[done : done + len(buffer)]
            buffer[: len(part)] = part
            done += len(part)
        return done

    def sys_writev(self, fd: int, buffers: list[Buffer], number: int) -> int:
        """Write the first `number` buffers as one. EBADF, EFAULT, EINVAL, EAGAIN, EINTR, EPIPE."""
        wanted = _iovec(buffers, number)
        file = self._fget(fd)
        for buffer in wanted:
            if not isinstance(buffer, (bytes, bytearray, memoryview)):
                raise OSError(errno.EFAULT, f"writev() of {type(buffer).__name__}")
        return file.write(b"".join(wanted))

    def sys_close(self, fd: int) -> None:
        """Give a number back. EBADF."""
        self._files.current_files().close(fd)

    def sys_ioctl(self, fd: int, request: int, arg: Any = None) -> int:
        """Whatever the file can do besides. EBADF, ENOTTY."""
        return self._fget(fd).ioctl(request, arg)

    # -- numbers

    def sys_dup(self, fd: int) -> int:
        """Another number for the same file. EBADF, EMFILE."""
        return self._files.current_files().dup(fd)

    def sys_dup2(self, fd: int, number: int) -> int:
        """This number for the same file, whatever it was. EBADF."""
        files = self._files.current_files()
        if fd == number:
            files.fget(fd)
            return fd
        return files.dup_to(fd, number)

    def sys_dup3(self, fd: int, number: int, flags: int) -> int:
        """The same, with O_CLOEXEC. EBADF, EINVAL for equal numbers or other flags."""
        _only(flags, O_CLOEXEC, "dup3")
        return self._files.current_files().dup_to(fd, number, bool(flags))

    def sys_fcntl(self, fd: int, command: int, arg: int = 0) -> int:
        """F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL. EBADF, EINVAL."""
        files = self._files.current_files()
        file = files.fget(fd)
        if command in (unistd.F_DUPFD, unistd.F_DUPFD_CLOEXEC):
            return files.dup(fd, arg, command == unistd.F_DUPFD_CLOEXEC)
        if command == unistd.F_GETFD:
            return FD_CLOEXEC if fd in files.close_on_exec else 0
        if command == unistd.F_GETFL:
            return file.f_flags
        if command == unistd.F_SETFD:
            files.set_close_on_exec(fd, bool(arg & FD_CLOEXEC))
        elif command == unistd.F_SETFL:
            file.set_flags(arg)
        else:
            raise OSError(errno.EINVAL, f"no fcntl command {command}")
        return 0

    # -- new files

    def sys_pipe(self, fds: list[int]) -> None:
        """pipe2() without flags."""
        self.sys_pipe2(fds, 0)

    def sys_pipe2(self, fds: list[int], flags: int) -> None:
        """A pipe: the number to read from, the number to write to. EMFILE, EINVAL."""
        self._files.current_files().check_room(2)
        fds[:] = self._install(create_pipe_files(flags, self._kernel), flags)

    def sys_socketpair(self, domain: int, kind: int, protocol: int, fds: list[int]) -> None:
        """Two connected AF_UNIX stream sockets. EMFILE, EAFNOSUPPORT, EPROTONOSUPPORT, EINVAL."""
        if domain != unistd.AF_UNIX:
            raise OSError(errno.EAFNOSUPPORT, f"socketpair of domain {domain}: only AF_UNIX is there")
        flags = kind & (O_NONBLOCK | O_CLOEXEC)
        if kind & ~flags != unistd.SOCK_STREAM or protocol:
            raise OSError(errno.EPROTONOSUPPORT, f"socketpair of type {kind}, protocol {protocol}: only SOCK_STREAM, 0")
        self._files.current_files().check_room(2)
        fds[:] = self._install(create_socketpair(flags, self._kernel), flags)

    def sys_eventfd2(self, count: int, flags: int) -> int:
        """An eventfd; its number. EMFILE, EINVAL."""
        self._files.current_files().check_room(1)
        return self._install((EventFd(count, flags, self._kernel),), flags)[0]

    def _install(self, files: tuple[File, ...], flags: int) -> list[int]:
        table = self._files.current_files()
        return [table.fd_install(file, bool(flags & O_CLOEXEC)) for file in files]

    def sys_shutdown(self, fd: int, how: int) -> None:
        """End a direction of a socket. EBADF, ENOTSOCK, EINVAL."""
        file = self._fget(fd)
        shutdown = getattr(file, "shutdown", None)
        if shutdown is None:
            raise OSError(errno.ENOTSOCK, f"{file!r} is no socket")
        shutdown(how)

    # -- waiting

    def sys_poll(self, fds: list[PollFd], number: int, timeout_ms: int) -> int:
        """Wait for descriptors, negative for good; how many are ready. EINTR, EINVAL."""
        return self._poll(fds, number, None if timeout_ms < 0 else timeout_ms * _NS_PER_MS)

    def sys_ppoll(
        self, fds: list[PollFd], number: int, timeout_ns: int | None = None, sigmask: int | None = None
    ) -> int:
        """The same with a timeout in ns, and meanwhile another mask. EINTR, EINVAL."""
        return self._kernel.signals.with_sigmask(sigmask, lambda: self._poll(fds, number, timeout_ns))

    def _poll(self, fds: list[PollFd], number: int, timeout_ns: int | None) -> int:
        if not 0 <= number <= len(fds) or (timeout_ns is not None and timeout_ns < 0):
            raise OSError(errno.EINVAL, f"poll of {number} of {len(fds)} descriptors for {timeout_ns} ns")
        open_files = self._files.current_files()
        watched: list[PollFd] = []
        wanted: list[tuple[File, int]] = []
        invalid = 0
        for entry in fds[:number]:
            entry.revents = 0
            if entry.fd < 0:
                continue
            try:
                file = open_files.fget(entry.fd)
            except OSError:
                entry.revents = unistd.POLLNVAL
                invalid += 1
                continue
            watched.append(entry)
            wanted.append((file, entry.events))
        found = do_poll(self._kernel, wanted, 0 if invalid else timeout_ns)
        for entry, revents in zip(watched, found, strict=True):
            entry.revents = revents
        return invalid + sum(1 for revents in found if revents)

    def sys_select(
        self,
        number: int,
        read: set[int] | None,
        write: set[int] | None,
        exceptional: set[int] | None,
        timeout_ns: int | None = None,
    ) -> int:
        """Wait for descriptors below `number`; how many are left in the sets. EBADF, EINTR, EINVAL."""
        sets = [set() if wanted is None else wanted for wanted in (read, write, exceptional)]
        if number < 0 or (timeout_ns is not None and timeout_ns < 0):
            raise OSError(errno.EINVAL, f"select of descriptors below {number} for {timeout_ns} ns")
        asked = dict.fromkeys(sorted(fd for fd in set[int]().union(*sets) if fd < number), 0)
        for wanted, events in zip(sets, SELECT_SETS, strict=True):
            for fd in wanted & asked.keys():
                asked[fd] |= events
        files = [(self._fget(fd), events) for fd, events in asked.items()]
        found = dict(zip(asked, do_poll(self._kernel, files, timeout_ns, unasked=0), strict=True))
        for wanted, events in zip(sets, SELECT_SETS, strict=True):
            wanted.intersection_update([fd for fd in wanted if found.get(fd, 0) & events])
        return sum(map(len, sets))

    def sys_pselect6(
        self,
        number: int,
        read: set[int] | None,
        write: set[int] | None,
        exceptional: set[int] | None,
        timeout_ns: int | None = None,
        sigmask: int | None = None,
    ) -> int:
        """The same, and meanwhile another mask. EBADF, EINTR, EINVAL."""
        select = self.sys_select
        return self._kernel.signals.with_sigmask(sigmask, lambda: select(number, read, write, exceptional, timeout_ns))

    def sys_epoll_create1(self, flags: int) -> int:
        """An epoll; its number. EMFILE, EINVAL."""
        self._files.current_files().check_room(1)
        return self._install((EventPoll(flags, self._kernel),), flags)[0]

    def sys_epoll_ctl(self, epfd: int, operation: int, fd: int, event: EpollEvent | None) -> None:
        """Add, change or remove a descriptor. EBADF, EEXIST, ENOENT, EINVAL, ELOOP, EFAULT."""
        self._epoll(epfd).ctl(operation, self._fget(fd), event, fd)

    def sys_epoll_wait(self, epfd: int, events: list[EpollEvent], maxevents: int, timeout_ms: int) -> int:
        """Wait for events, negative for good; how many are in the list. EBADF, EINTR, EINVAL."""
        timeout_ns = None if timeout_ms < 0 else timeout_ms * _NS_PER_MS
        events[:] = self._epoll(epfd).wait(maxevents, timeout_ns)
        return len(events)

    def sys_epoll_pwait(
        self, epfd: int, events: list[EpollEvent], maxevents: int, timeout_ms: int, sigmask: int | None = None
    ) -> int:
        """The same, and meanwhile another mask. EBADF, EINTR, EINVAL."""
        wait = self.sys_epoll_wait
        return self._kernel.signals.with_sigmask(sigmask, lambda: wait(epfd, events, maxevents, timeout_ms))

    def _epoll(self, epfd: int) -> EventPoll:
        file = self._fget(epfd)
        if not isinstance(file, EventPoll):
            raise OSError(errno.EINVAL, f"{file!r} is no epoll")
        return file


def _iovec(buffers: list[Any], number: int) -> list[Any]:
    """The buffers of a readv() or writev(). EINVAL (import_iovec())."""
    if not 0 <= number <= min(len(buffers), UIO_MAXIOV):
        raise OSError(errno.EINVAL, f"{number} of {len(buffers)} buffers; {UIO_MAXIOV} at most")
    return buffers[:number]


def _only(flags: int, known: int, what: str) -> None:
    if flags & ~known:
        raise OSError(errno.EINVAL, f"{what} flags {flags:#o}: only {known:#o} are known")


_CALLS = tuple(
    (getattr(unistd, f"NR_{name}"), name)
    for name in (function.removeprefix("sys_") for function in vars(FileSyscalls) if function.startswith("sys_"))
)
