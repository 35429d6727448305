"""One descriptor for everything that can wake an idle kernel: host descriptors that became ready, and the doorbell.

        kernel files --register()--> +--------+
        other threads ----wake()---> | Poller | --fileno()--> readable: an event loop, or wait(), looks
        signal handlers --wake()---> +--------+

*Edges.* On Linux each descriptor is registered once, edge-triggered, for everything: there is no epoll_ctl() per
request, and the user tries its system call first and sleeps only after EAGAIN. The events are hints; what is true is
what the next system call says. Elsewhere `SelectorPoller` gives the same hints from level-triggered selectors: it
forgets a descriptor when it has reported it, and `rearm()`, before the user sleeps, remembers it again. (kqueue has
edges, too, but the selectors module hides them.)

*Collecting and dispatching* are two steps, because waiting is done by whoever is idle, while the callbacks belong into
an interrupt handler of the kernel. An edge that was collected and lost would be lost for good, so collecting is one
call into C (`list.extend` of a lazy `poll`): no signal handler can raise between the system call and the list.

*The doorbell* is an eventfd. `wake()` takes no lock, since a signal handler may have interrupted its holder. Between
`_rung = True` and the system call Python looks for no signals, so that a handler that raises cannot leave the bell
marked as rung and silent. It is never read: edge-triggered, each write is an event of its own. Many wake-ups are one
write.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import selectors
import socket
from abc import ABC, abstractmethod
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

from lkl_green.errors import HostMisuse

if TYPE_CHECKING:
    from collections.abc import Callable

# Event bits, the same numbers for poll() and epoll on Linux.
POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20
POLLRDHUP = 0x2000

# How many events one system call may bring: more are there at the next.
MAX_EVENTS = 1024

# Shorter waits are measured out more exactly, at the price of a system call more.
NEAR_S = 0.05

FD_SETSIZE = 1024  # select() knows no higher descriptors

# Longer waits are cut: select.epoll takes seconds as a C int of milliseconds.
LONGEST_S = 86_400.0


class Poller(ABC):
    """Watches host descriptors and a doorbell; made by `HostOps.poller()` on first use.

    Attributes:
        ready: what was collected and not dispatched: (descriptor, event bits).
        watched: who is told, by descriptor.
        edge_triggered: whether `rearm()` does nothing.
    """

    edge_triggered = True

    def __init__(self) -> None:
        self.ready: list[tuple[int, int]] = []
        self.watched: dict[int, Callable[[int], None]] = {}
        self.closed = True  # until it is complete
        self._rung = False
        self._bell = -1

    # -- what a kind of poller adds

    @abstractmethod
    def fileno(self) -> int:
        """The one descriptor to watch: readable when a watched one is ready or the doorbell was rung."""

    @abstractmethod
    def _add(self, fd: int) -> bool:
        """Watch; False for what is always ready. Raises FileExistsError if it is watched."""

    @abstractmethod
    def _remove(self, fd: int) -> None:
        """Watch no more; the descriptor may have been closed."""

    @abstractmethod
    def _collect(self, timeout_s: float | None) -> None:
        """Wait, and append to `ready`, in one step that no signal handler interrupts."""

    @abstractmethod
    def _ring(self) -> None:
        """Make `fileno()` readable."""

    @abstractmethod
    def _close(self) -> None:
        """Give the descriptors back."""

    def rearm(self, fd: int, events: int) -> None:  # noqa: B027 - edges need nothing
        """To be called before sleeping for `events` of a registered descriptor, unless `edge_triggered`."""

    # -- descriptors

    def register(self, fd: int, callback: Callable[[int], None]) -> bool:
        """Watch a descriptor for everything until `unregister()`.

        Args:
            fd: a non-blocking host descriptor.
            callback: called by `dispatch()` with event bits, which are hints. POLLNVAL: it was closed by somebody else.

        Returns:
            False for what is always ready and cannot be watched, such as a regular file.

        Raises:
            HostMisuse: it is watched already, or the poller is closed.
            OSError: EBADF, there is no such descriptor; ENOMEM, ENOSPC: the host gives out.
        """
        self._check_open("register")
        try:
            if not self._add(fd):
                return False
        except FileExistsError:
            raise HostMisuse(
                f"register: descriptor {fd} is watched already. Use the file that was made for it, or a duplicate "
                "(os.dup()) for a second one"
            ) from None
        closed = self.watched.get(fd)
        self.watched[fd] = callback
        if closed is not None:  # its number was free again, so somebody has closed what it stood for
            closed(POLLNVAL)
        return True

    def unregister(self, fd: int) -> None:
        """Watch a descriptor no more; before it is closed. Raises HostMisuse if it is not watched."""
        self._check_open("unregister")
        if self.watched.pop(fd, None) is None:
            raise HostMisuse(f"unregister: descriptor {fd} is not watched. Unregister once what register() took")
        self._remove(fd)

    def audit(self) -> None:
        """Find descriptors that somebody closed without saying so: the system forgets them silently."""
        for fd in self.watched:
            try:
                fcntl.fcntl(fd, fcntl.F_GETFD)
            except OSError:
                self.ready.append((fd, POLLNVAL))

    # -- waiting

    def wait(self, timeout_ns: int | None) -> bool:
        """Collect what is ready, and wait for it if nothing is; dispatches nothing.

        Args:
            timeout_ns: how long at most; 0 only looks, None has no limit (but may return early after a day).

        Returns:
            whether the doorbell was heard or `ready` holds something.
        """
        self._check_open("wait")
        if self._rung and self._hear():
            return True
        if not self.ready:
            self._collect(None if timeout_ns is None else min(max(timeout_ns, 0) / 1e9, LONGEST_S))
            if self._rung and self._hear():
                return True
        return bool(self.ready)

    def look(self) -> bool:
        """Collect without waiting; whether the doorbell was heard or `ready` holds something."""
        if not self.ready:
            self._collect(0)
        return (self._rung and self._hear()) or bool(self.ready)

    def dispatch(self) -> None:
        """Call the callbacks of what was collected. If one raises, the others are left for the next time."""
        ready, self.ready = iter(self.ready), []
        watched = self.watched
        try:
            for fd, events in ready:
                callback = watched.get(fd)
                if callback is not None:  # it may have been unregistered since
                    callback(events)
        except BaseException:
            self.ready[:0] = ready
            raise

    def poll(self, timeout_ns: int | None) -> bool:
        """`wait()` and `dispatch()`; whether anything happened."""
        happened = self.wait(timeout_ns)
        self.dispatch()
        return happened

    # -- doorbell

    def wake(self) -> None:
        """End a `wait()`, or the next one; from any OS thread and from signal handlers. Not an error once closed."""
        if self._rung:
            return
        self._rung = True
        try:
            self._ring()
        except BaseException:
            self._rung = False
            raise

    def _hear(self) -> bool:
        """Take the doorbell out of `ready`, if it has arrived there."""
        for place, (fd, _) in enumerate(self.ready):
            if fd == self._bell:
                del self.ready[place]
                self._rung = False
                return True
        return False

    # -- the end

    def close(self) -> None:
        """Give the descriptors back; what is watched is left as it is. Again is no error."""
        if self.closed:
            return
        self.closed = True
        self._rung = True  # from now on, wake() does nothing
        self.watched.clear()
        self.ready.clear()
        self._close()

    def __del__(self) -> None:
        self.close()

    def _check_open(self, operation: str) -> None:
        if self.closed:
            raise HostMisuse(f"{operation}: this poller is closed: its kernel has halted")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self.closed else f'watches {len(self.watched)} descriptors'}>"


class EpollPoller(Poller):
    """The poller of Linux."""

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()
        try:
            self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except BaseException:
            self._epoll.close()
            raise
        self._epoll.register(self._bell, select.EPOLLIN | select.EPOLLET)
        self.closed = False
        self._is_selectable = self._epoll.fileno() < FD_SETSIZE
        self._everything = select.EPOLLIN | select.EPOLLOUT | select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLET

    def fileno(self) -> int:
        """The epoll's own descriptor."""
        self._check_open("fileno")
        return self._epoll.fileno()

    def _add(self, fd: int) -> bool:
        try:
            self._epoll.register(fd, self._everything)
        except PermissionError:  # EPERM: it has no poll operation
            return False
        return True

    def _remove(self, fd: int) -> None:
        try:
            self._epoll.unregister(fd)
        except OSError as error:
            # Closed before, and gone from the epoll with it; or its number means something else by now.
            if error.errno not in (errno.ENOENT, errno.EBADF):
                raise

    def _collect(self, timeout_s: float | None) -> None:
        if timeout_s and timeout_s < NEAR_S and self._is_selectable:
            # epoll_wait() counts in milliseconds: a timer soon would be late by half of one. select() in microseconds.
            select.select((self._epoll,), (), (), timeout_s)
            timeout_s = 0
        self.ready.extend(chain.from_iterable(map(self._epoll.poll, (timeout_s,), (MAX_EVENTS,))))

    def _ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def _close(self) -> None:
        self._epoll.close()
        os.close(self._bell)


class SelectorPoller(Poller):
    """A poller on whatever `selectors` has; also on Linux, for tests."""

    edge_triggered = False

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        super().__init__()
        self._selector = selectors.DefaultSelector() if selector is None else selector
        self._ear, self._button = socket.socketpair()
        self._ear.setblocking(False)
        self._button.setblocking(False)
        self._bell = self._ear.fileno()
        self._selector.register(self._bell, selectors.EVENT_READ)
        self.closed = False

    def fileno(self) -> int:
        """The selector's own descriptor. Raises HostMisuse for one that has none: poll() and select()."""
        self._check_open("fileno")
        fileno: Callable[[], int] | None = getattr(self._selector, "fileno", None)
        if fileno is None:
            raise HostMisuse(
                f"fileno: a {type(self._selector).__name__} has no descriptor; drive this kernel by pause()"
            )
        return fileno()

    def _add(self, fd: int) -> bool:
        if fd in self.watched:
            raise FileExistsError
        fcntl.fcntl(fd, fcntl.F_GETFD)
        try:
            self._selector.register(fd, selectors.EVENT_READ | selectors.EVENT_WRITE)
        except PermissionError:
            return False
        except KeyError:
            raise FileExistsError from None
        return True

    def _remove(self, fd: int) -> None:
        with suppress(KeyError):  # reported, and not rearmed
            self._selector.unregister(fd)

    def rearm(self, fd: int, events: int) -> None:
        """Watch for `events` again, and for what is watched for still."""
        wanted = (selectors.EVENT_READ if events & ~POLLOUT else 0) | (selectors.EVENT_WRITE if events & POLLOUT else 0)
        key = self._selector.get_map().get(fd)
        if key is None:
            self._selector.register(fd, wanted)
        elif key.events & wanted != wanted:
            self._selector.modify(fd, key.events | wanted)

    def _collect(self, timeout_s: float | None) -> None:
        # Level-triggered: what an exception loses here is found again.
        for key, events in self._selector.select(timeout_s):
            if key.fd == self._bell:
                self._drain()
            elif key.events == events:
                self._selector.unregister(key.fd)
            else:
                self._selector.modify(key.fd, key.events & ~events)
            bits = (POLLIN if events & selectors.EVENT_READ else 0) | (POLLOUT if events & selectors.EVENT_WRITE else 0)
            # A selector does not tell the end of the stream from data: let the user find out.
            self.ready.append((key.fd, bits | POLLRDHUP if bits & POLLIN else bits))

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while self._ear.recv(64):
                pass

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # full, so it is readable
            self._button.send(b"\0")

    def _close(self) -> None:
        self._selector.close()
        self._ear.close()
        self._button.close()


def make_poller() -> Poller:
    """The best poller of this machine. Raises OSError: EMFILE, ENFILE, ENOMEM."""
    return EpollPoller() if hasattr(select, "epoll") and hasattr(os, "eventfd") else SelectorPoller()
