"""A bounded queue between kernel threads, interrupt handlers and the application (include/linux/kfifo.h).

Linux's kfifo is a ring buffer with two counters, `in` and `out`, and leaves sleeping to its user. This one has the two
counters and the two wait queues that every user of it needs. Its elements are objects.

Getters and putters sleep exclusively: each element wakes one getter, each free place one putter. Whoever finds it taken
in between sleeps again.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from lkl_green.fs.waitqueue import FileWaitQueue
from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.task import TASK_INTERRUPTIBLE
from lkl_green.kernel.unistd import EPOLLHUP, EPOLLIN, EPOLLOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lkl_green.kernel.kernel import Kernel

T = TypeVar("T")

_EVERYBODY = 1 << 30


class KFifo(Generic[T]):
    """A FIFO of up to `size` elements.

    Args:
        size: how many elements it holds.
        kernel: the kernel it belongs to; the current one if left out.
        name: shown in `repr` and deadlock reports.

    Attributes:
        size: as given.
        nr_in, nr_out: how many elements were ever put in and taken out (kfifo's `in` and `out`).
        closed: whether nothing more can be put in.
        getters, putters: where they sleep; who must not sleep can watch these (`add_watcher()`).
    """

    __slots__ = ("_elements", "_kernel", "_name", "_sched", "closed", "getters", "nr_in", "nr_out", "putters", "size")

    def __init__(self, size: int, kernel: Kernel | None = None, name: str = "") -> None:
        if size < 1:
            raise ValueError(f"a kfifo of {size} elements: it needs at least one")
        self._kernel = kernel = kernel if kernel is not None else current_kernel()
        self._sched = kernel.sched
        self._name = name
        self._elements: deque[T] = deque()
        self.size = size
        self.nr_in = self.nr_out = 0
        self.closed = False
        self.getters = FileWaitQueue(kernel, f"{name} getters")
        self.putters = FileWaitQueue(kernel, f"{name} putters")

    def __len__(self) -> int:
        return len(self._elements)

    def __bool__(self) -> bool:
        return True  # an empty fifo is a fifo all the same

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to get."""
        return not self._elements

    @property
    def is_full(self) -> bool:
        """Whether there is no place to put anything."""
        return len(self._elements) >= self.size

    # -- putting in

    def put(self, element: T, timeout_ns: int | None = None) -> None:
        """Put an element in, sleeping until there is a place.

        Raises:
            BrokenPipeError: EPIPE, the fifo is closed, maybe meanwhile.
            TimeoutError: ETIME, no place within `timeout_ns`.
            InterruptedError: EINTR, a signal came first.
        """
        self._announce("write")
        if not self.closed and len(self._elements) >= self.size:
            self._wait(self.putters, lambda: self.closed or not self.is_full, timeout_ns)
        self._put(element)

    def try_put(self, element: T) -> bool:
        """Put an element in if there is a place; whether there was. From interrupt handlers, too (kfifo_put()).

        Raises BrokenPipeError (EPIPE) if the fifo is closed.
        """
        self._announce("write")
        if not self.closed and len(self._elements) >= self.size:
            return False
        self._put(element)
        return True

    def _put(self, element: T) -> None:
        if self.closed:
            raise BrokenPipeError(errno.EPIPE, f"{self!r}: nothing more can be put in")
        self._elements.append(element)
        self.nr_in += 1
        self.getters.wake_up_poll(EPOLLIN)
        self._pass_on(self.putters, not self.is_full)

    # -- taking out

    def get(self, timeout_ns: int | None = None) -> T:
        """Take the oldest element out, sleeping until there is one.

        Raises:
            EOFError: the fifo is closed and empty, maybe since a moment.
            TimeoutError: ETIME, no element within `timeout_ns`.
            InterruptedError: EINTR, a signal came first.
        """
        self._announce("read")
        if not self._elements and not self.closed:
            self._wait(self.getters, lambda: self._elements or self.closed, timeout_ns)
        return self._get()

    def try_get(self) -> T:
        """The same without sleeping (kfifo_get()). Raises BlockingIOError (EAGAIN) if there is none, EOFError."""
        self._announce("read")
        if not self._elements and not self.closed:
            raise BlockingIOError(errno.EAGAIN, f"{self!r}: nothing to get")
        return self._get()

    def _get(self) -> T:
        if not self._elements:
            raise EOFError(f"{self!r}: everything was taken out")
        element = self._elements.popleft()
        self.nr_out += 1
        self.putters.wake_up_poll(EPOLLOUT)
        self._pass_on(self.getters, self._elements)
        return element

    def peek(self) -> T:
        """The oldest element, which stays (kfifo_peek()). Raises BlockingIOError (EAGAIN) if there is none."""
        if not self._elements:
            raise BlockingIOError(errno.EAGAIN, f"{self!r}: nothing to look at")
        return self._elements[0]

    def __iter__(self) -> Iterator[T]:
        """Take out whatever comes, until the fifo is closed and empty."""
        while True:
            try:
                yield self.get()
            except EOFError:
                return

    # -- the end

    def close(self) -> None:
        """Nothing more goes in; what is in it can still be taken out. Closing again does no harm."""
        self._announce("close")
        self.closed = True
        self.getters.wake_up_poll(EPOLLIN | EPOLLHUP, _EVERYBODY)
        self.putters.wake_up_poll(EPOLLOUT | EPOLLHUP, _EVERYBODY)

    # -- waiting

    def _announce(self, kind: str) -> None:
        if self._sched.listener is not None:
            self._sched.listener(kind, self)

    def _wait(self, queue: FileWaitQueue, ready: Callable[[], object], timeout_ns: int | None) -> None:
        if not queue.do_wait(ready, TASK_INTERRUPTIBLE, timeout_ns, True):
            raise TimeoutError(errno.ETIME, f"{self!r}: timed out")

    @staticmethod
    def _pass_on(queue: FileWaitQueue, more: object) -> None:
        """One of several was woken and has come late or early: there is something for the next one, too."""
        if more and queue.waitqueue_active():
            queue.do_wake_up()

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<KFifo {self._name or hex(id(self))}{state} {len(self._elements)} of {self.size}>"
