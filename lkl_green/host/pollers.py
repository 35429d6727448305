"""The two kinds of poller: epoll where Linux has it, and whatever `selectors` has elsewhere.

`EpollPoller` is what the essay in `lkl_green.host.poller` describes. `SelectorPoller` makes edges of levels: it forgets
a descriptor when it has reported it, and `rearm()`, before the user sleeps, remembers it again. (kqueue has edges, too,
but the selectors module hides them.)
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import selectors
import socket
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

from lkl_green.errors import HostMisuse
from lkl_green.host.poller import POLLIN, POLLOUT, POLLRDHUP, Poller

if TYPE_CHECKING:
    from collections.abc import Callable

# How many events one system call may bring: more are there at the next.
MAX_EVENTS = 1024

# Shorter waits are measured out more exactly, at the price of a system call more.
NEAR_S = 0.05

FD_SETSIZE = 1024  # select() knows no higher descriptors


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
