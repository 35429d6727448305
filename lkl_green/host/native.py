"""Locks, threads and clocks of the host, as they were before anything replaced them.

`lkl_green.green` replaces attributes of `threading`, `_thread` and `time` in the whole process, so that an ordinary
program runs in kernel threads. The kernel and its hosts must keep the originals meanwhile. So the modules of this
package import them from here, and never read them from the standard library. This module is imported with the package,
before any replacement is installed.

What CPython has in C is held under its own name. `Condition`, `Event` and `Thread` of `threading` are written in
Python, and look up their locks in their module at each call. They would get the replacements even if they were held
here. So there are classes of the same names below, with as much of the interface as the package uses.

Dropped: putting stand-ins for `threading` and `time` into the modules of the package while the replacements are
installed. Modules that were imported meanwhile, and threads that were made before, did not have them.
"""

from __future__ import annotations

import threading
import time as _time
from _thread import (
    TIMEOUT_MAX,
    LockType,
    RLock,
    allocate_lock,
    get_ident,
    get_native_id,
    stack_size,
    start_new_thread,
)
from collections import deque
from contextlib import suppress
from threading import local
from time import monotonic, monotonic_ns, perf_counter, sleep, time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "TIMEOUT_MAX",
    "Condition",
    "Event",
    "LockType",
    "RLock",
    "Thread",
    "allocate_lock",
    "cpu_time_s",
    "get_ident",
    "get_native_id",
    "local",
    "monotonic",
    "monotonic_ns",
    "perf_counter",
    "sleep",
    "stack_size",
    "start_new_thread",
    "thread_name",
    "time",
]

_active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
_active_lock: Any = threading._active_limbo_lock  # type: ignore[attr-defined]
_init_thread = threading.Thread.__init__
_clock_gettime = _time.clock_gettime
_cpu_clock = getattr(_time, "pthread_getcpuclockid", None)  # macOS has none


def thread_name() -> str:
    """The name of the calling OS thread (threading.current_thread().name)."""
    ident = get_ident()
    thread = _active.get(ident)
    return f"OS thread {ident}" if thread is None else thread.name


def cpu_time_s(ident: int) -> float:
    """The CPU time that an OS thread has used, in s; 0 where the system does not tell."""
    return 0.0 if _cpu_clock is None else _clock_gettime(_cpu_clock(ident))


class Condition:
    """A condition variable of OS threads (threading.Condition).

    `with condition.lock` takes its lock. Dropped: `with condition`. Its `__enter__` would be written in Python, and an
    exception out of a signal handler could come between the lock and the block.

    Attributes:
        lock: its lock. An RLock, because that one knows whether the calling thread has it; not to be taken twice.
    """

    __slots__ = ("_waiters", "lock")

    def __init__(self) -> None:
        self.lock = RLock()
        self._waiters: deque[LockType] = deque()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Release the lock, wait to be notified for at most `timeout_s`, take the lock again; whether notified."""
        waiter = allocate_lock()
        waiter.acquire()
        self._waiters.append(waiter)
        try:
            self.lock.release()
            notified = waiter.acquire(timeout=-1 if timeout_s is None else max(timeout_s, 0))
            self.lock.acquire()
        except BaseException:
            if not self.lock._is_owned():  # type: ignore[attr-defined]
                self.lock.acquire()
            raise
        finally:
            with suppress(ValueError):  # not there after a notification
                self._waiters.remove(waiter)
        return notified

    def notify_all(self) -> None:
        """Wake all waiters. The caller holds the lock."""
        while self._waiters:
            self._waiters.popleft().release()


class Event:
    """A flag that OS threads wait for (threading.Event)."""

    __slots__ = ("_changed", "_flag")

    def __init__(self) -> None:
        self._changed = Condition()
        self._flag = False

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._flag

    def set(self) -> None:
        """Set it and wake all waiters."""
        with self._changed.lock:
            self._flag = True
            self._changed.notify_all()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is set, for at most `timeout_s`; whether it is."""
        with self._changed.lock:
            return self._flag or self._changed.wait(timeout_s)

    def _at_fork_reinit(self) -> None:
        """In the child after os.fork(): `threading` calls this for the threads that do not exist there."""
        self._changed = Condition()


class Thread(threading.Thread):
    """An OS thread, also where `threading.Thread` starts kernel threads. It is listed in threading.enumerate().

    Args:
        target: what it runs.
        args: the arguments of `target`.
        name: the name of the thread.
    """

    # The methods as they are at import: their replacements are set in the base class.
    start = threading.Thread.start
    join = threading.Thread.join
    is_alive = threading.Thread.is_alive

    def __init__(self, target: Callable[..., object], args: tuple[Any, ...] = (), *, name: str) -> None:
        _init_thread(self, target=target, args=args, name=name, daemon=True)
        self._started: Any = Event()  # for which start() waits

    def _delete(self) -> None:
        """Leave the list of threads. A host's thread runs tasks, so that a replaced get_ident() names one of these."""
        with _active_lock:
            _active.pop(get_ident(), None)
