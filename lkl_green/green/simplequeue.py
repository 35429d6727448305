"""`queue.SimpleQueue`, which CPython has in C: a kernel thread that waited in it would stop the whole kernel."""

from __future__ import annotations

import queue
from collections import deque
from types import GenericAlias
from typing import Any

from lkl_green.green.waiter import Waiter, limit_ns, look, rest
from lkl_green.host.native import allocate_lock, monotonic
from lkl_green.kernel.current import running_here


class SimpleQueue:
    """An unbounded queue."""

    __slots__ = ("__weakref__", "_items", "_waiters")

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._waiters: deque[Any] = deque()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put an item; this never waits (queue.SimpleQueue.put)."""
        kernel = running_here.kernel
        if kernel is not None and kernel.sched.current.killed:
            kernel = None  # an executor's weak reference may call this while a thread is unwound: no scheduling point
        if kernel is not None and kernel.sched.listener is not None:
            kernel.sched.listener("put", self)
        self._items.append(item)
        if self._waiters:
            self._waiters.popleft().release()
        if kernel is None:
            return
        if kernel.sched.listener is None:
            rest(kernel)
        elif kernel.sched.after is not None:
            kernel.sched.after()

    def put_nowait(self, item: Any) -> None:
        """The same."""
        self.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest item, waiting for one. Raises queue.Empty (queue.SimpleQueue.get)."""
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        kernel = running_here.kernel
        if kernel is None:
            return self._get_outside(0.0 if not block else timeout)
        sched = kernel.sched
        if sched.listener is not None:
            sched.listener("get", self)
        timeout_ns = limit_ns(timeout) if block else 0
        expires_ns = None if not timeout_ns else kernel.timers.now_ns() + timeout_ns
        while not self._items:
            if timeout_ns is not None and timeout_ns <= 0:
                rest(kernel)
                raise queue.Empty
            waiter = Waiter(kernel, self)
            self._waiters.append(waiter)
            try:
                waiter.wait(timeout_ns)
            except BaseException:
                if waiter.released and self._items and self._waiters:
                    self._waiters.popleft().release()  # somebody else can have what it was woken for
                raise
            finally:
                if not waiter.released:
                    self._waiters.remove(waiter)
            if expires_ns is not None:
                timeout_ns = expires_ns - kernel.timers.now_ns()
        return self._items.popleft()

    def get_nowait(self) -> Any:
        """Take the oldest item. Raises queue.Empty."""
        return self.get(block=False)

    def _get_outside(self, timeout_s: float | None) -> Any:
        expires_s = None if timeout_s is None else monotonic() + timeout_s
        while True:
            try:
                return self._items.popleft()
            except IndexError:
                left_s = -1.0 if expires_s is None else expires_s - monotonic()
            if expires_s is not None and left_s <= 0:
                raise queue.Empty
            waiter = allocate_lock()
            waiter.acquire()
            self._waiters.append(waiter)
            if self._items or not waiter.acquire(timeout=left_s):
                try:
                    self._waiters.remove(waiter)
                except ValueError:  # a put() has taken it off: it is for somebody else, perhaps
                    if self._waiters and self._items:
                        self._waiters.popleft().release()

    def empty(self) -> bool:
        """Whether it holds nothing at present."""
        self._look()
        return not self._items

    def qsize(self) -> int:
        """How many items it holds at present."""
        self._look()
        return len(self._items)

    def _look(self) -> None:
        kernel = running_here.kernel
        if kernel is not None:
            look(kernel, self)

    __class_getitem__: Any = classmethod(GenericAlias)

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    def __repr__(self) -> str:
        return f"<SimpleQueue of {len(self._items)} items at {id(self):#x}>"


def forget_items(items: Any) -> None:
    """Empty a SimpleQueue, this kind or C's, that no thread uses any more. The policy is not asked."""
    if type(items) is SimpleQueue:
        items._items.clear()
        return
    while not items.empty():
        items.get_nowait()
