"""One descriptor for everything that can wake an idle kernel: host descriptors that became ready, and the doorbell.

        kernel files --register()--> +--------+
        other threads ----wake()---> | Poller | --fileno()--> readable: an event loop, or wait(), looks
        signal handlers --wake()---> +--------+

*Edges.* On Linux each descriptor is registered once, edge-triggered, for everything: there is no epoll_ctl() per
request, and the user tries its system call first and sleeps only after EAGAIN. The events are hints; what is true is
what the next system call says. Elsewhere the same hints come from level-triggered selectors. Both kinds of poller stand
in `lkl_green.host.pollers`.

*Collecting and dispatching* are two steps, because waiting is done by whoever is idle, while the callbacks belong into
an interrupt handler of the kernel. An edge that was collected and lost would be lost for good, so collecting is one
call into C (`list.extend` of a lazy `poll`): no signal handler can raise between the system call and the list.

*The doorbell* is an eventfd. `wake()` takes no lock, since a signal handler may have interrupted its holder. Between
`_rung = True` and the system call Python looks for no signals, so that a handler that raises cannot leave the bell
marked as rung and silent. It is never read: edge-triggered, each write is an event of its own. Many wake-ups are one
write.
"""

from __future__ import annotations

import fcntl
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from lkl_green.errors import HostMisuse

if TYPE_CHECKING:
    from collections.abc import Callable

# Event bits, the same numbers for poll() and epoll on Linux.
POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20
POLLRDHUP = 0x2000

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
