"""What `threading` and `time` were before anything was replaced.

The kernel itself stands on OS threads and the host's clock, and must go on doing so while the program it runs does not.
Modules of this package take what they need from here; those below, which write `threading.Lock()`, are given `Native`
in place of the module for as long as the replacements are installed.
"""

from __future__ import annotations

import _thread
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

allocate_lock = _thread.allocate_lock
get_ident = _thread.get_ident
get_native_id = _thread.get_native_id
LOCK_TYPES = (type(_thread.allocate_lock()), _thread.RLock)
Local = threading.local
RLock = _thread.RLock

condition_wait = threading.Condition.wait
condition_notify = threading.Condition.notify
condition_enter = threading.Condition.__enter__
event_wait = threading.Event.wait
event_set = threading.Event.set
event_clear = threading.Event.clear
event_is_set = threading.Event.is_set
semaphore_acquire = threading.Semaphore.acquire
semaphore_release = threading.Semaphore.release
bounded_release = threading.BoundedSemaphore.release
thread_start = threading.Thread.start
thread_join = threading.Thread.join
thread_is_alive = threading.Thread.is_alive
current_thread = threading.current_thread
enumerate_threads = threading.enumerate
thread_count = _thread._count
start_new_thread = _thread.start_new_thread
start_joinable_thread: Any = getattr(_thread, "start_joinable_thread", None)  # from CPython 3.13 on
ThreadHandle: Any = getattr(_thread, "_ThreadHandle", None)
set_name: Any = getattr(_thread, "set_name", None)  # from CPython 3.14 on, where the system can
_active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
_active_lock: Any = threading._active_limbo_lock  # type: ignore[attr-defined]
new_name = threading._newname  # type: ignore[attr-defined]

sleep = time.sleep
monotonic = time.monotonic
monotonic_ns = time.monotonic_ns


def called_by_kernel() -> bool:
    """Whether the caller of the method that asks is the kernel itself, whose own threads and locks stay native."""
    return str(sys._getframe(2).f_globals.get("__name__")).startswith("lkl_green.")


def thread_set_ident(self: Any) -> None:
    """What an OS thread does first (Thread._set_ident); it may run tasks of a kernel, and is none of them."""
    self._ident = get_ident()


def thread_delete(_self: Any) -> None:
    """What an OS thread does last (Thread._delete)."""
    with _active_lock:
        _active.pop(get_ident(), None)


class HostCondition:
    """A Condition of OS threads, wherever it is used; the kernel's hosts need no more of it."""

    def __init__(self, lock: Any = None) -> None:
        self._lock = allocate_lock() if lock is None else lock
        self._waiters: deque[Any] = deque()
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __enter__(self) -> bool:
        return bool(self._lock.__enter__())

    def __exit__(self, *_error: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait to be notified, take it again."""
        waiter = allocate_lock()
        waiter.acquire()
        self._waiters.append(waiter)
        self._lock.release()
        try:
            return waiter.acquire(timeout=-1 if timeout is None else max(timeout, 0))
        finally:
            self._lock.acquire()
            with suppress(ValueError):
                self._waiters.remove(waiter)

    def notify(self, n: int = 1) -> None:
        """Wake up to `n` waiters."""
        for _ in range(min(n, len(self._waiters))):
            self._waiters.popleft().release()

    def notify_all(self) -> None:
        """Wake all waiters."""
        self.notify(len(self._waiters))


class HostEvent:
    """An Event of OS threads, wherever it is used."""

    def __init__(self) -> None:
        self._changed = HostCondition()
        self._flag = False

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._flag

    def set(self) -> None:
        """Set it and wake all who wait."""
        with self._changed:
            self._flag = True
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set."""
        with self._changed:
            return self._flag or self._changed.wait(timeout)


class HostThread(threading.Thread):
    """A Thread that is an OS thread wherever it is started."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._started: Any = HostEvent()

    start = thread_start
    join = thread_join
    is_alive = thread_is_alive


class Native:
    """Stands in for a module in the kernel's own code, with the originals.

    Args:
        module: the module.
        originals: what to give in place of the module's present attributes.
    """

    def __init__(self, module: Any, originals: dict[str, Any]) -> None:
        self.__dict__.update(originals)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def native_modules() -> dict[str, Native]:
    """Stand-ins for the modules that the kernel's own code uses; made before anything is replaced."""
    originals = {
        "Lock": allocate_lock,
        "RLock": RLock,
        "Condition": HostCondition,
        "Event": HostEvent,
        "Thread": HostThread,
        "local": Local,
        "get_ident": get_ident,
        "current_thread": current_thread,
        "enumerate": enumerate_threads,
    }
    clocks = {name: getattr(time, name) for name in vars(time) if not name.startswith("__")}
    return {"threading": Native(threading, originals), "time": Native(time, clocks)}
