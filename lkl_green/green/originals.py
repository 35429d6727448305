"""Methods and functions of `threading`, `_thread` and `queue` that are replaced, as they were before.

The replacements call them outside of kernels. What the kernel itself uses of the host is in `lkl_green.host.native`.
"""

from __future__ import annotations

import _thread
import queue
import threading
from typing import Any

LOCK_TYPES = (type(_thread.allocate_lock()), _thread.RLock)
SimpleQueue: Any = queue.SimpleQueue

condition_wait = threading.Condition.wait
condition_notify = threading.Condition.notify
event_wait = threading.Event.wait
event_set = threading.Event.set
event_clear = threading.Event.clear
semaphore_acquire = threading.Semaphore.acquire
semaphore_release = threading.Semaphore.release
bounded_release = threading.BoundedSemaphore.release
thread_start = threading.Thread.start
thread_join = threading.Thread.join
thread_is_alive = threading.Thread.is_alive
current_thread = threading.current_thread
enumerate_threads = threading.enumerate
new_name = threading._newname  # type: ignore[attr-defined]
thread_count = _thread._count
start_joinable_thread: Any = getattr(_thread, "start_joinable_thread", None)  # from CPython 3.13 on
ThreadHandle: Any = getattr(_thread, "_ThreadHandle", None)
set_name: Any = getattr(_thread, "set_name", None)  # from CPython 3.14 on, where the system can
