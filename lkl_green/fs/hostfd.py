"""A descriptor of the host as a file of the kernel: pipes, sockets, terminals, eventfds, regular files.

*Try first.* A read or write tries the host's system call at once and sleeps only after EAGAIN. The descriptor is
registered with the host's poller when that happens first, edge-triggered and for good, so that a request that finds
its data costs one system call, and one that has to wait costs none more for the waiting.

*Hints.* `_readable` and `_writable` are False only after the host said EAGAIN, or nearly so, and no event has come
since. Events are noted by an interrupt handler, which runs at scheduling points: it cannot come between EAGAIN and
noting EAGAIN, so no edge is lost.

*Regular files* are always ready, and the host makes whoever reads them wait: the kernel stands still meanwhile.

*Closing.* `close()` under a thread that waits ends its wait with EBADF, as for each file. A descriptor that somebody
closes behind the kernel's back says nothing; idle looks for such from time to time, and then the wait ends likewise.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
from typing import TYPE_CHECKING, Any, Protocol

from lkl_green.fs.file import File
from lkl_green.host.poller import POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI, POLLRDHUP
from lkl_green.kernel.unistd import O_ACCMODE, O_NONBLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.host.poller import Poller
    from lkl_green.kernel.kernel import Kernel

_INPUT = POLLIN | POLLPRI | POLLRDHUP | POLLHUP | POLLERR | POLLNVAL
_OUTPUT = POLLOUT | POLLHUP | POLLERR | POLLNVAL
_END = POLLRDHUP | POLLHUP | POLLERR | POLLNVAL
_ASKED = POLLIN | POLLPRI | POLLOUT | POLLRDHUP


class HasFileno(Protocol):
    """An object of the host with a descriptor, such as a socket or what `open()` returns."""

    def fileno(self) -> int:
        """The descriptor."""

    def close(self) -> object:
        """Close it."""


class HostFile(File):
    """What `host_fd()` returns; see there."""

    __slots__ = ("_ended", "_fd", "_give_back", "_lost", "_poller", "_probe", "_readable", "_writable")

    def __init__(self, fd: int, give_back: Callable[[], object], flags: int, kernel: Kernel | None, name: str) -> None:
        super().__init__(flags, kernel, name)
        self._fd = fd
        self._give_back = give_back
        self._poller: Poller | None = None  # once it is watched
        self._probe: select.poll | None = None
        self._readable = self._writable = True
        self._ended = False  # an end or an error is on its way: after a short read there is more to read
        self._lost = False  # somebody else has closed the descriptor

    def fileno(self) -> int:
        """The host's descriptor. Raises OSError(EBADF) if it is closed."""
        if not self.f_count:
            raise self._bad("ask for its descriptor")
        return self._fd

    # -- reading and writing

    def _read(self, count: int) -> bytes:
        while True:
            try:
                return os.read(self._fd, count)
            except BlockingIOError:
                self._wait_for_input()

    def _write(self, data: bytes | bytearray) -> int:
        return self._write_all(data, self._put)

    def _put(self, data: bytes | bytearray | memoryview) -> int:
        return os.write(self._fd, data)

    def _write_all(self, data: bytes | bytearray, put: Callable[[bytes | bytearray | memoryview], int]) -> int:
        """Write everything, as blocking descriptors do; what was taken, if then a signal comes or the reader goes."""
        size = len(data)
        done = 0
        rest: bytes | bytearray | memoryview = data
        while True:
            try:
                done += put(rest)
                if done == size:
                    return done
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno == errno.EPIPE:
                    self.broken_pipe()
                if done:
                    return done
                raise
            try:
                self._wait_for_output()
            except OSError:
                if done and self.f_count:
                    return done
                raise
            rest = memoryview(data)[done:]

    # -- waiting

    def _wait_for_input(self, exclusive: bool = False) -> None:
        """After EAGAIN: sleep until there may be something to read."""
        self._readable = False
        self._watch(POLLIN)
        self.f_wq.wait_event_interruptible(self._has_input, exclusive)
        self._check_there()

    def _wait_for_output(self) -> None:
        """After EAGAIN: sleep until there may be room to write."""
        self._writable = False
        self._watch(POLLOUT)
        self.f_wq.wait_event_interruptible(self._has_room)
        self._check_there()

    def _has_input(self) -> bool:
        return self._readable or not self.f_count

    def _has_room(self) -> bool:
        return self._writable or not self.f_count

    def _check_there(self) -> None:
        if self._lost or not self.f_count:
            how = "by somebody who did not tell the kernel" if self._lost else "meanwhile"
            who = self._sched.current.comm
            raise OSError(errno.EBADF, f"{self!r} was closed {how}, while {who} waited for it; use its close()")

    def _watch(self, events: int) -> None:
        """Be told of changes from now on, and before a sleep."""
        if self.f_flags & O_NONBLOCK:
            raise BlockingIOError(errno.EAGAIN, f"{self!r} is non-blocking and not ready")
        if self._poller is None and not self._register():
            raise OSError(errno.EOPNOTSUPP, f"{self!r} says EAGAIN, but the host cannot watch such a descriptor")
        if self._poller is not None and not self._poller.edge_triggered:
            self._poller.rearm(self._fd, events)

    def _register(self) -> bool:
        self._poller = self._kernel.readiness.watch(self._fd, self._changed)
        return self._poller is not None

    def _changed(self, events: int) -> None:
        """Something may have become ready; in an interrupt."""
        if events & _INPUT:
            self._readable = True
        if events & _OUTPUT:
            self._writable = True
        if events & _END:
            self._ended = True
            if events & POLLNVAL:
                self._lost = True
        self.f_wq.wake_up_poll(events)

    def expect(self) -> None:
        """Say that the host is about to make this ready: a virtual clock waits for it (see kernel/readiness.py)."""
        if self._poller is None:
            self._register()
        self._kernel.readiness.expect(self._fd)

    # -- polling

    def poll(self) -> int:
        """What the host says at this moment."""
        if not self.f_count or self._lost:
            return POLLERR | POLLHUP
        if self._poller is None:
            self._register()  # who asks wants to hear of changes
        if self._probe is None:
            self._probe = select.poll()
            self._probe.register(self._fd, _ASKED)
        found = self._probe.poll(0)
        events = found[0][1] if found else 0
        if events & POLLNVAL:
            self._changed(POLLNVAL)
            return POLLERR | POLLHUP
        missing = (POLLIN | POLLOUT) & ~events
        if missing and self._poller is not None and not self._poller.edge_triggered:
            self._poller.rearm(self._fd, missing)
        return events

    # -- the end

    def _release(self) -> None:
        poller, self._poller = self._poller, None
        try:
            # The number of a lost descriptor may be another file's by now, whose watch that is.
            if poller is not None and not poller.closed and poller.watched.get(self._fd) == self._changed:
                self._kernel.readiness.unwatch(self._fd)
        finally:
            if not self._lost:
                self._give_back()


def host_fd(
    fd: int | HasFileno, *, close: bool = True, flags: int = 0, kernel: Kernel | None = None, name: str = ""
) -> HostFile:
    """Use a descriptor of the host as a file of the kernel. It is set non-blocking, for all who share it.

    Args:
        fd: the descriptor, or an object that has one. What an object has buffered is not seen.
        close: close it with the file; else it gets back whether it blocks.
        flags: O_NONBLOCK to get EAGAIN instead of waiting.
        kernel: the kernel it belongs to; the current one if left out.
        name: shown in `repr` and deadlock reports.

    Raises:
        OSError: EBADF, there is no such descriptor; EINVAL for other flags.
        TypeError: for something else than a descriptor.
        NoCurrentKernel: nobody said which kernel, and none runs.
    """
    if flags & ~O_NONBLOCK:
        raise OSError(errno.EINVAL, f"host_fd flags {flags:#o}: only O_NONBLOCK; how it is open, it says itself")
    number = descriptor_of(fd)
    mode = fcntl.fcntl(number, fcntl.F_GETFL) & O_ACCMODE
    blocking = os.get_blocking(number)
    os.set_blocking(number, False)

    def give_back() -> None:
        if not close:
            os.set_blocking(number, blocking)
        elif isinstance(fd, int):
            os.close(number)
        else:
            fd.close()

    try:
        return HostFile(number, give_back, mode | flags, kernel, name or f"host fd {number}")
    except BaseException:
        os.set_blocking(number, blocking)  # it stays the caller's
        raise


def descriptor_of(fd: Any) -> int:
    """The number of a descriptor or of an object that has one. Raises TypeError, OSError(EBADF)."""
    number = fd if isinstance(fd, int) else getattr(fd, "fileno", lambda: None)()
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{fd!r} is no descriptor: pass an int or an object with fileno()")
    if number < 0:
        raise OSError(errno.EBADF, f"{fd!r} is closed, or was never open")
    return number
