"""epoll (fs/eventpoll.c): a file that knows which of many files are ready, without looking at the others.

Each watched file has an item, which is a watcher on its wait queue. A change puts the item on the ready list; whoever
waits takes items off, asks their files what they are ready for, and

    level-triggered (default)   puts the item back at the end, until its file says that it is not ready;
    edge-triggered (EPOLLET)    does not put it back: the next change does;
    EPOLLONESHOT                besides mutes the item until EPOLL_CTL_MOD;
    EPOLLEXCLUSIVE              of several epolls that watch a file so, a change is told to one that somebody waits for.

So a ready list may hold items whose files are not ready any more, and only asking tells. An item whose file is released
is told so and drops out; as in Linux that is the end of the file, not of the descriptor that it was added by.

An epoll is a file and can be watched by another one. Changes go up from callback to callback, so that there must be no
cycle and no long chain: both are refused with ELOOP when an item is added.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from lkl_green.fs.file import File
from lkl_green.fs.select import UNASKED
from lkl_green.kernel.task import TASK_INTERRUPTIBLE
from lkl_green.kernel.unistd import (
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLHUP,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    EPOLLWAKEUP,
    O_RDWR,
    EpollEvent,
)

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel

EP_MAX_NESTS = 4  # how many epolls may stand above one
_BOTH = EPOLLIN | EPOLLOUT
_EXCLUSIVE_OK = _BOTH | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE  # EPOLLEXCLUSIVE_OK_BITS
_HOW = EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE  # bits that are no events (EP_PRIVATE_BITS)


class EpItem:
    """One watched file (struct epitem)."""

    __slots__ = ("data", "epoll", "events", "fd", "file")

    def __init__(self, epoll: EventPoll, file: File, fd: int, event: EpollEvent) -> None:
        self.epoll = epoll
        self.file = file
        self.fd = fd
        self.set(event)

    def set(self, event: EpollEvent) -> None:
        """What to watch for from now on."""
        self.events = event.events | UNASKED
        self.data = event.data

    def ready(self) -> int:
        """What the file is ready for of what is wanted; 0 while the item is muted."""
        events = self.events & ~_HOW
        return self.file.poll() & events if events else 0

    def file_changed(self, events: int) -> bool:
        """The file may have become ready (ep_poll_callback()); whether a task that waits has been woken for it.

        It is never told of what changes both directions, such as an end, which is everybody's concern.
        """
        if not events & self.events & ~_HOW:
            return False
        waited = self.epoll.f_wq.waitqueue_active()
        self.epoll.item_ready(self)
        return waited and events & _BOTH != _BOTH

    def file_released(self) -> None:
        """The file is gone (eventpoll_release())."""
        self.epoll.drop(self)


class EventPoll(File):
    """An epoll (struct eventpoll).

    Args:
        flags: EPOLL_CLOEXEC, which is the descriptor table's business.
        kernel: the kernel it belongs to; the current one if left out.
        name: shown in `repr` and deadlock reports.
    """

    __slots__ = ("_items", "_ready")

    def __init__(self, flags: int = 0, kernel: Kernel | None = None, name: str = "epoll") -> None:
        if flags & ~EPOLL_CLOEXEC:
            raise OSError(errno.EINVAL, f"epoll flags {flags:#o}: only EPOLL_CLOEXEC is known")
        super().__init__(O_RDWR, kernel, name)
        self._items: dict[tuple[File, int], EpItem] = {}
        self._ready: dict[EpItem, None] = {}

    # -- what is watched

    def ctl(self, operation: int, file: File, event: EpollEvent | None = None, fd: int = -1) -> None:
        """Add, change or remove a file (epoll_ctl()).

        Args:
            operation: EPOLL_CTL_ADD, EPOLL_CTL_MOD or EPOLL_CTL_DEL.
            file: what to watch.
            event: what for, and what to say when it comes; not for EPOLL_CTL_DEL.
            fd: the descriptor, if it is known by one; one file can be watched under each of its descriptors.

        Raises:
            OSError: EEXIST, it is watched already; ENOENT, it is not; EINVAL for an epoll in itself, an unknown
                operation, or EPOLLEXCLUSIVE with EPOLL_CTL_MOD, EPOLLONESHOT or another epoll; ELOOP for a cycle of
                epolls, or a chain of more than five; EBADF.
        """
        if self._sched.listener is not None:
            self._sched.listener("write", self)
        if not self.f_count or not file.f_count:
            raise (self if not self.f_count else file)._bad("use it in an epoll")
        if file is self:
            raise OSError(errno.EINVAL, f"{self!r} cannot watch itself")
        item = self._items.get((file, fd))
        if operation == EPOLL_CTL_ADD:
            if item is not None:
                raise OSError(errno.EEXIST, f"{self!r} watches {file!r} already")
            self._insert(file, fd, _checked(event, file))
            return
        if operation not in (EPOLL_CTL_MOD, EPOLL_CTL_DEL):
            raise OSError(errno.EINVAL, f"epoll operation {operation}: use EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL")
        if item is None:
            raise OSError(errno.ENOENT, f"{self!r} does not watch {file!r}")
        if operation == EPOLL_CTL_DEL:
            file.f_wq.remove_watcher(item)
            self.drop(item)
        else:
            event = _checked(event, file)
            if (item.events | event.events) & EPOLLEXCLUSIVE:
                raise OSError(errno.EINVAL, "EPOLLEXCLUSIVE is said when a file is added, and cannot be changed")
            item.set(event)
            self._look(item)

    def _insert(self, file: File, fd: int, event: EpollEvent) -> None:
        if isinstance(file, EventPoll):
            if file._reaches(self):
                raise OSError(errno.ELOOP, f"{file!r} watches {self!r}: together they would be a cycle")
            if self._height_above() + file._height_below() > EP_MAX_NESTS + 1:
                raise OSError(errno.ELOOP, f"{file!r} in {self!r}: more than {EP_MAX_NESTS + 1} epolls in a chain")
        item = self._items[file, fd] = EpItem(self, file, fd, event)
        file.f_wq.add_watcher(item, bool(event.events & EPOLLEXCLUSIVE))
        self._look(item)

    def _look(self, item: EpItem) -> None:
        """A new wish may be fulfilled already: no change will come to say so."""
        if item.ready():
            self.item_ready(item)

    def _reaches(self, other: EventPoll) -> bool:
        return any(file is other or (isinstance(file, EventPoll) and file._reaches(other)) for file, _ in self._items)

    def _height_below(self) -> int:
        return 1 + max((file._height_below() for file, _ in self._items if isinstance(file, EventPoll)), default=0)

    def _height_above(self) -> int:
        above = (item.epoll._height_above() for item in self.f_wq.watchers if isinstance(item, EpItem))
        return 1 + max(above, default=0)

    def __len__(self) -> int:
        return len(self._items)

    def __bool__(self) -> bool:
        return True  # an epoll that watches nothing is an epoll all the same

    # -- called by items

    def item_ready(self, item: EpItem) -> None:
        """Put the item on the ready list and wake somebody."""
        self._ready[item] = None
        self.f_wq.wake_up_poll(EPOLLIN)

    def drop(self, item: EpItem) -> None:
        """Forget an item that watches no more."""
        self._items.pop((item.file, item.fd), None)
        self._ready.pop(item, None)

    # -- waiting

    def wait(self, maxevents: int = 64, timeout_ns: int | None = None) -> list[EpollEvent]:
        """Wait for events (epoll_wait()).

        Args:
            maxevents: how many to return at most; the others come first next time.
            timeout_ns: for how long; 0 only looks, None waits for good.

        Returns:
            the events, each with the data of its item; none if the time is up.

        Raises:
            InterruptedError: EINTR, a signal came first.
            OSError: EINVAL for a `maxevents` below 1; EBADF, it was closed, maybe meanwhile.
        """
        if self._sched.listener is not None:
            self._announce()
        if maxevents < 1:
            raise OSError(errno.EINVAL, f"epoll_wait() for {maxevents} events")
        while True:
            if not self.f_count:
                raise self._bad("wait for events")
            found = self._collect(maxevents)
            if found or timeout_ns == 0:
                return found
            left = self.f_wq.do_wait(lambda: self._ready or not self.f_count, TASK_INTERRUPTIBLE, timeout_ns, True)
            timeout_ns = None if timeout_ns is None else left

    def _announce(self) -> None:
        """What comes out depends on every file that is watched, and changes what this one reports next."""
        for file, _ in list(self._items):
            if self._sched.listener is not None:
                self._sched.listener("poll", file.shared("poll"))
        if self._sched.listener is not None:
            self._sched.listener("receive", self)

    def _collect(self, maxevents: int) -> list[EpollEvent]:
        """Take up to `maxevents` items off the ready list that are ready indeed (ep_send_events())."""
        found: list[EpollEvent] = []
        again: dict[EpItem, None] = {}
        for item in list(self._ready):
            if len(found) == maxevents:
                break
            del self._ready[item]
            events = item.ready()
            if not events:
                continue
            found.append(EpollEvent(events, item.data))
            if item.events & EPOLLONESHOT:
                item.events &= _HOW
            elif not item.events & EPOLLET:
                again[item] = None
        self._ready.update(again)
        if self._ready and self.f_wq.waitqueue_active():
            self.f_wq.do_wake_up()  # we were woken alone, and there is more
        return found

    def poll(self) -> int:
        """EPOLLIN if `wait()` would return something (ep_eventpoll_poll())."""
        for item in list(self._ready):
            if item.ready():
                return EPOLLIN
            del self._ready[item]
        return 0

    def _release(self) -> None:
        for item in self._items.values():
            item.file.f_wq.remove_watcher(item)
        self._items.clear()
        self._ready.clear()


def _checked(event: EpollEvent | None, file: File) -> EpollEvent:
    if not isinstance(event, EpollEvent):
        raise OSError(errno.EFAULT, f"epoll_ctl() takes an EpollEvent, not {event!r}")
    if event.events & EPOLLEXCLUSIVE:
        if event.events & ~_EXCLUSIVE_OK:
            raise OSError(errno.EINVAL, f"epoll events {event.events:#x}: EPOLLEXCLUSIVE goes with {_EXCLUSIVE_OK:#x}")
        if isinstance(file, EventPoll):
            raise OSError(errno.EINVAL, f"{file!r} is an epoll, and cannot be watched with EPOLLEXCLUSIVE")
    return event
