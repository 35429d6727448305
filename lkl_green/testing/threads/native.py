"""What `threading` and `time` were before anything was replaced.

The kernel itself stands on OS threads and the host's clock, and must go on doing so while the program it runs does not.
Modules of this package take what they need from here; those below, which write `threading.Lock()`, are given `Native`
in place of the module for as long as the replacements are installed.
"""

from __future__ import annotations

import _thread
import threading
import time
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
new_name = threading._newname  # type: ignore[attr-defined]

sleep = time.sleep
monotonic = time.monotonic
monotonic_ns = time.monotonic_ns


def event() -> threading.Event:
    """An Event on a native lock, which the replacements leave alone."""
    made = threading.Event()
    made._cond = threading.Condition(allocate_lock())  # type: ignore[attr-defined]
    return made


class HostThread(threading.Thread):
    """A Thread that is an OS thread wherever it is started."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._started = event()

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
        "Event": event,
        "Thread": HostThread,
        "local": Local,
        "get_ident": get_ident,
        "current_thread": current_thread,
        "enumerate": enumerate_threads,
    }
    clocks = {name: getattr(time, name) for name in vars(time) if not name.startswith("__")}
    return {"threading": Native(threading, originals), "time": Native(time, clocks)}
