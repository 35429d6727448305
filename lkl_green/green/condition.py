"""Condition, Event and Semaphore: the methods that wait and wake, as one operation each.

The classes of `threading` are written in Python on top of its locks, so they would work unchanged. But each of their
operations is half a dozen on locks, which a schedule explorer would have to interleave, and which cost as much. So the
methods are replaced, in the classes themselves: subclasses and instances made before know them, too. The attributes
keep their meaning (`_flag`, `_value`, the deque `_waiters`), so that both kinds of method can work on one object.

A method works as the original does outside of kernels, and on an object that stands on a native lock. `adopt()` leaves
only those native locks that are held.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lkl_green.green import originals
from lkl_green.green.waiter import Waiter, limit_ns, look, rest
from lkl_green.kernel.current import running_here

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.kernel import Kernel


class Methods:
    """The replaced methods.

    Args:
        adopt: exchanges the lock of a Condition that was made earlier.
    """

    def __init__(self, adopt: Callable[[Any], None]) -> None:
        self._adopt = adopt

    def table(self) -> list[tuple[type, str, Any]]:
        """(class, attribute, replacement) for each."""
        adopt = self._adopt

        def enter(self: Any) -> Any:
            if type(self._lock) in originals.LOCK_TYPES and running_here.kernel is not None:
                adopt(self)
            return self._lock.__enter__()

        condition, event = threading.Condition, threading.Event
        semaphore, bounded = threading.Semaphore, threading.BoundedSemaphore
        return [
            (condition, "__enter__", enter),
            (condition, "wait", condition_wait),
            (condition, "notify", condition_notify),
            (event, "wait", event_wait),
            (event, "set", event_set),
            (event, "clear", event_clear),
            (event, "is_set", event_is_set),
            (semaphore, "acquire", semaphore_acquire),
            (semaphore, "__enter__", semaphore_acquire),
            (semaphore, "release", semaphore_release),
            (bounded, "release", bounded_release),
        ]


# What a Condition takes over from its lock, if the lock has it.
_OF_THE_LOCK = ("_release_save", "_acquire_restore", "_is_owned")


def exchange_lock(condition: Any, lock: Any) -> None:
    """Give a Condition another lock. It is then as if it had been made with this one, apart from who waits for it."""
    waiters = condition._waiters
    for name in _OF_THE_LOCK:
        vars(condition).pop(name, None)
    threading.Condition.__init__(condition, lock)
    condition._waiters = waiters


def put_back(condition: Any, attributes: dict[str, Any]) -> None:
    """Give a Condition the attributes that it had before `exchange_lock()`."""
    vars(condition).clear()
    vars(condition).update(attributes)


# -- Condition


def condition_wait(self: Any, timeout: float | None = None) -> bool:
    """Release the lock, wait to be notified, take the lock again (threading.Condition.wait)."""
    kernel = running_here.kernel
    if kernel is None or type(self._lock) in originals.LOCK_TYPES:
        return originals.condition_wait(self, timeout)
    if not self._is_owned():
        raise RuntimeError("cannot wait on un-acquired lock")
    if kernel.sched.listener is not None:
        kernel.sched.listener("wait", self)
    waiter = Waiter(kernel, self)
    self._waiters.append(waiter)
    state = self._release_save()
    try:
        return waiter.wait(limit_ns(timeout))
    finally:
        if not waiter.released:
            _withdraw(self._waiters, waiter)
        self._acquire_restore(state)


def condition_notify(self: Any, n: int = 1) -> None:
    """Wake up to `n` waiters (threading.Condition.notify)."""
    kernel = running_here.kernel
    if kernel is not None and kernel.sched.listener is not None and type(self._lock) not in originals.LOCK_TYPES:
        kernel.sched.listener("notify", self)
    originals.condition_notify(self, n)
    if kernel is not None and kernel.sched.after is not None:
        kernel.sched.after()


def _withdraw(waiters: Any, waiter: Waiter) -> None:
    with suppress(ValueError):  # a notify() that was interrupted has taken it off
        waiters.remove(waiter)


# -- Event


def event_wait(self: Any, timeout: float | None = None) -> bool:
    """Wait until it is set (threading.Event.wait)."""
    kernel = running_here.kernel
    if kernel is None or _is_native(self):
        return originals.event_wait(self, timeout)
    sched = kernel.sched
    if sched.listener is not None:
        sched.listener("wait_event", self)
    if not self._flag:
        return _wait_in(self._cond._waiters, kernel, self, limit_ns(timeout)).released  # it may be clear again by now
    if sched.listener is None:
        rest(kernel)
    return True


def event_set(self: Any) -> None:
    """Set it and wake all who wait (threading.Event.set)."""
    kernel = running_here.kernel
    if kernel is None or _is_native(self):
        originals.event_set(self)
        return
    if kernel.sched.listener is not None:
        kernel.sched.listener("notify", self)
    self._flag = True
    waiters = self._cond._waiters
    while waiters:
        waiters.popleft().release()
    if kernel.sched.after is not None:
        kernel.sched.after()


def event_clear(self: Any) -> None:
    """Reset it (threading.Event.clear)."""
    kernel = running_here.kernel
    if kernel is None or _is_native(self):
        originals.event_clear(self)
        return
    if kernel.sched.listener is not None:
        kernel.sched.listener("write", self)
    self._flag = False


def event_is_set(self: Any) -> bool:
    """Whether it is set (threading.Event.is_set)."""
    kernel = running_here.kernel
    if kernel is not None and not _is_native(self):
        look(kernel, self)
    return bool(self._flag)


def _is_native(self: Any) -> bool:
    return type(self._cond._lock) in originals.LOCK_TYPES


def _wait_in(waiters: Any, kernel: Kernel, obj: object, timeout_ns: int | None) -> Waiter:
    waiter = Waiter(kernel, obj)
    waiters.append(waiter)
    try:
        waiter.wait(timeout_ns)
    finally:
        if not waiter.released:
            _withdraw(waiters, waiter)
    return waiter


# -- Semaphore


def semaphore_acquire(self: Any, blocking: bool = True, timeout: float | None = None) -> bool:
    """Take one (threading.Semaphore.acquire)."""
    kernel = running_here.kernel
    if kernel is None or _is_native(self):
        return originals.semaphore_acquire(self, blocking, timeout)
    if not blocking and timeout is not None:
        raise ValueError("can't specify timeout for non-blocking acquire")
    sched = kernel.sched
    if sched.listener is not None:
        sched.listener("down" if blocking else "down_trylock", self)
    if self._value == 0 and not _wait_for_value(self, kernel, limit_ns(timeout) if blocking else 0):
        return False
    self._value -= 1
    return True


def _wait_for_value(self: Any, kernel: Kernel, timeout_ns: int | None) -> bool:
    expires_ns = None if not timeout_ns else kernel.timers.now_ns() + timeout_ns
    while self._value == 0:
        if timeout_ns is not None and timeout_ns <= 0:
            rest(kernel)
            return False
        _wait_in(self._cond._waiters, kernel, self, timeout_ns)
        if expires_ns is not None:
            timeout_ns = expires_ns - kernel.timers.now_ns()
    return True


def semaphore_release(self: Any, n: int = 1) -> None:
    """Give `n` back (threading.Semaphore.release)."""
    kernel = running_here.kernel
    if kernel is None or _is_native(self):
        originals.semaphore_release(self, n)
        return
    if n < 1:
        raise ValueError("n must be one or more")
    if kernel.sched.listener is not None:
        kernel.sched.listener("up", self)
    _give(self, n, kernel)


def bounded_release(self: Any, n: int = 1) -> None:
    """The same; ValueError above the initial value (threading.BoundedSemaphore.release)."""
    kernel = running_here.kernel
    if kernel is None or _is_native(self):
        originals.bounded_release(self, n)
        return
    if n < 1:
        raise ValueError("n must be one or more")
    if kernel.sched.listener is not None:
        kernel.sched.listener("up", self)
    if self._value + n > self._initial_value:
        raise ValueError("Semaphore released too many times")
    _give(self, n, kernel)


def _give(self: Any, n: int, kernel: Kernel) -> None:
    self._value += n
    waiters = self._cond._waiters
    # All compete where a schedule explorer wants to see every order; see lkl_green.green.lock.
    for _ in range(n if kernel.sched.listener is None else len(waiters)):
        if waiters:
            waiters.popleft().release()
    if kernel.sched.listener is None:
        rest(kernel)
    elif kernel.sched.after is not None:
        kernel.sched.after()
