"""A bounded queue between kernel threads, interrupt handlers and the application (include/linux/kfifo.h).

Linux's kfifo is a ring buffer with two counters, `in` and `out`, and leaves sleeping to its user. This one has the two
counters and puts its users to sleep. Its elements are objects.

*Hand-over*, as in `lkl_green.kernel.swait`: an element goes to the longest waiting getter before that one runs, and a
free place to the element of the longest waiting putter. So elements come out in the order in which `put()` was called,
and nobody wakes up to find his element gone. Getters wait only at an empty fifo and putters only at a full one. What a
waiter gives or gets stands in a dict under his name; close() serves all with nothing.

Who waits for other things besides, or must not sleep, uses `f_wq`, `poll()` and the `try_` functions.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lkl_green.fs.waitqueue import FileWaitQueue
from lkl_green.kernel.binding import Bindable, kernel_for
from lkl_green.kernel.swait import SimpleWaitQueue
from lkl_green.kernel.task import TASK_INTERRUPTIBLE
from lkl_green.kernel.unistd import EPOLLHUP, EPOLLIN, EPOLLOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.points import Kind
    from lkl_green.kernel.task import Task

T = TypeVar("T")

_NOTHING: Any = object()


class KFifoSide(SimpleWaitQueue):
    """Those who wait at one side of a fifo, and what they give or have got."""

    __slots__ = ("fifo", "parcels")

    def __init__(self, fifo: KFifo[Any], kernel: Kernel, name: str) -> None:
        super().__init__(kernel, name)
        self.fifo = fifo
        self.parcels: dict[Task, Any] = {}

    def untie(self) -> None:
        """Forget waiters that have gone with their kernel, and what they had."""
        super().untie()
        self.parcels = {}

    @property
    def first(self) -> Task | None:
        """Who has waited longest."""
        return self._waiters[0] if self._waiters else None

    def serve_first(self) -> None:
        """Let that one go on."""
        self._serve_first()

    def serve_all(self) -> None:
        """Let all go on, with nothing."""
        while self._waiters:
            self._serve_first()

    def wait(self, timeout_ns: int | None) -> bool:
        """Sleep until served; False if the time is up."""
        return self._wait(TASK_INTERRUPTIBLE, timeout_ns) != 0

    def _pass_on(self) -> None:
        """A getter that was served is killed before it could go on: its element is the next one's."""
        element = self.parcels.pop(self._sched.current, _NOTHING)
        if self is self.fifo._getters and element is not _NOTHING:
            self.fifo._take_back(element)

    def __repr__(self) -> str:
        return self._describe(repr(self.fifo))


class KFifo(Bindable, Generic[T]):
    """A FIFO of up to `size` elements.

    Args:
        size: how many elements it holds.
        kernel: the kernel it belongs to; the current one if left out. Bound at first use if no kernel runs.
        name: shown in `repr` and deadlock reports.

    Attributes:
        size: as given.
        nr_in, nr_out: how many elements were ever put in and taken out (kfifo's `in` and `out`).
        closed: whether nothing more can be put in.
        f_wq: woken, and its watchers told, at each change.
    """

    __slots__ = ("_elements", "_getters", "_name", "_putters", "_sched", "closed", "f_wq", "nr_in", "nr_out", "size")

    VALUES = ("_elements", "closed", "nr_in", "nr_out")

    def __init__(self, size: int, kernel: Kernel | None = None, name: str = "") -> None:
        if size < 1:
            raise ValueError(f"a kfifo of {size} elements: it needs at least one")
        kernel = kernel if kernel is not None else kernel_for(self)
        self._sched = kernel.sched
        self._name = name
        self._elements: deque[T] = deque()
        self.size = size
        self.nr_in = self.nr_out = 0
        self.closed = False
        self.f_wq = FileWaitQueue(kernel, name)
        self._getters = KFifoSide(self, kernel, "getters of")
        self._putters = KFifoSide(self, kernel, "putters of")

    def bind(self, kernel: Kernel) -> None:
        """Belong to a kernel from now on."""
        self._sched = kernel.sched

    def whole(self) -> tuple[Bindable, ...]:
        """Itself and its queues."""
        return self, self.f_wq, self._getters, self._putters

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

    def poll(self) -> int:
        """What would not sleep: EPOLLIN, EPOLLOUT; EPOLLHUP once it is closed."""
        mask = EPOLLIN if self._elements or self.closed else 0
        return mask | (EPOLLHUP if self.closed else 0 if self.is_full else EPOLLOUT)

    # -- putting in

    def put(self, element: T, timeout_ns: int | None = None) -> None:
        """Put an element in, sleeping until there is a place.

        Raises:
            BrokenPipeError: EPIPE, the fifo is closed, maybe meanwhile.
            TimeoutError: ETIME, no place within `timeout_ns`.
            InterruptedError: EINTR, a signal came first.
        """
        self._announce("write")
        if not self.closed and self.is_full:
            self._wait_to_put(element, timeout_ns)
        else:
            self._put(element)
        if self._sched.after is not None:
            self._sched.after()

    def try_put(self, element: T) -> bool:
        """Put an element in if there is a place; whether there was. From interrupt handlers, too (kfifo_put()).

        Raises BrokenPipeError (EPIPE) if the fifo is closed.
        """
        self._announce("write")
        if not self.closed and self.is_full:
            return False
        self._put(element)
        if self._sched.after is not None:
            self._sched.after()
        return True

    def _put(self, element: T) -> None:
        if self.closed:
            raise self._refused()
        self.nr_in += 1
        if self._getters.first is not None:
            self._hand_over(element)
        else:
            self._elements.append(element)
        self.f_wq.wake_up_poll(EPOLLIN)

    def _hand_over(self, element: T) -> None:
        getters = self._getters
        assert getters.first is not None
        self.nr_out += 1
        getters.parcels[getters.first] = element
        getters.serve_first()

    def _wait_to_put(self, element: T, timeout_ns: int | None) -> None:
        parcels, task = self._putters.parcels, self._sched.current
        parcels[task] = element
        try:
            if not self._putters.wait(timeout_ns):
                raise TimeoutError(errno.ETIME, f"{self!r}: no place within the time")
            if task in parcels:
                raise self._refused()
        finally:
            parcels.pop(task, None)

    def _refused(self) -> BrokenPipeError:
        return BrokenPipeError(errno.EPIPE, f"{self!r}: nothing more can be put in")

    # -- taking out

    def get(self, timeout_ns: int | None = None) -> T:
        """Take the oldest element out, sleeping until there is one.

        Raises:
            EOFError: the fifo is closed and empty, maybe since a moment.
            TimeoutError: ETIME, no element within `timeout_ns`.
            InterruptedError: EINTR, a signal came first.
        """
        self._announce("receive")
        if not self._elements and not self.closed:
            return self._wait_to_get(timeout_ns)
        return self._get()

    def try_get(self) -> T:
        """The same without sleeping (kfifo_get()). Raises BlockingIOError (EAGAIN) if there is none, EOFError."""
        self._announce("receive")
        if not self._elements and not self.closed:
            raise BlockingIOError(errno.EAGAIN, f"{self!r}: nothing to get")
        return self._get()

    def _get(self) -> T:
        if not self._elements:
            raise self._ended()
        element = self._elements.popleft()
        self.nr_out += 1
        putters = self._putters
        if putters.first is not None and not self.is_full:
            self._elements.append(putters.parcels.pop(putters.first))
            self.nr_in += 1
            putters.serve_first()
        self.f_wq.wake_up_poll(EPOLLOUT)
        return element

    def _wait_to_get(self, timeout_ns: int | None) -> T:
        getters = self._getters
        if not getters.wait(timeout_ns):
            raise TimeoutError(errno.ETIME, f"{self!r}: no element within the time")
        element: T = getters.parcels.pop(self._sched.current, _NOTHING)
        if element is _NOTHING:
            raise self._ended()
        return element

    def _ended(self) -> EOFError:
        return EOFError(f"{self!r}: everything was taken out")

    def _take_back(self, element: T) -> None:
        """Somebody got it and cannot use it."""
        self.nr_out -= 1
        if self._getters.first is not None:
            self._hand_over(element)
        else:
            self._elements.appendleft(element)

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
        self._getters.serve_all()
        self._putters.serve_all()
        self.f_wq.wake_up_poll(EPOLLIN | EPOLLOUT | EPOLLHUP)

    def _announce(self, kind: Kind) -> None:
        if self._sched.listener is not None:
            self._sched.listener(kind, self)

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<KFifo {self._name or hex(id(self))}{state} {len(self._elements)} of {self.size}>"
