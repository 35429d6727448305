"""What the host operations hand out, and the words for its misuse.

The semaphores and mutexes of both hosts are the same two structures, which differ only in what waits in their queues,
so that misuse is found by the same tests and told in the same words.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from lkl_green.errors import HostMisuse

if TYPE_CHECKING:
    from collections.abc import Callable


def used_after_free(operation: str, what: str) -> HostMisuse:
    """The error for an operation on something that was freed."""
    return HostMisuse(
        f"{operation}: this {what} was freed. Somebody kept a reference to it; free it after its last user has ended"
    )


def freed_twice(operation: str, what: str) -> HostMisuse:
    """The error for freeing what was freed."""
    return HostMisuse(f"{operation}: this {what} was freed before. It has two owners; let one of them free it")


def not_held(mutex: Mutex) -> HostMisuse:
    """The error for unlocking a mutex of somebody else, or of nobody."""
    if mutex.waiters is None:
        return used_after_free("mutex_unlock", "mutex")
    state = "is not locked" if mutex.count > 0 else "is held by another thread"
    return HostMisuse(
        f"mutex_unlock: this mutex {state}. Unlock in the thread that locked it, once for each time it locked it"
    )


def relocked() -> HostMisuse:
    """The error for locking a mutex that is not recursive for the second time."""
    return HostMisuse(
        "mutex_lock: the calling thread holds this mutex already and would wait for itself. "
        "Unlock it before, or allocate it with mutex_alloc(recursive=True)"
    )


def negative(operation: str, name: str, value: int) -> HostMisuse:
    """The error for a number below zero."""
    return HostMisuse(f"{operation}: {name} is {value}. Probably a subtraction went wrong; it must be 0 or more")


def called_by_host_thread(operation: str) -> HostMisuse:
    """The error for an operation that only the application may call."""
    return HostMisuse(
        f"{operation}: called by a host thread, which could not go on afterwards. Call it from the application"
    )


class HostThread:
    """What a host knows of one thread."""

    __slots__ = ("adopted", "detached", "end", "ended", "joined", "tid")

    def __init__(self, tid: int, adopted: bool) -> None:
        self.tid = tid
        self.adopted = adopted
        self.detached = False
        self.joined = False
        self.ended = False
        # Given once, when the thread ends.
        self.end = Semaphore(0)

    def __repr__(self) -> str:
        words = [word for word in ("adopted", "detached", "joined", "ended") if getattr(self, word)]
        return f"<host thread {self.tid}{''.join(' ' + word for word in words)}>"


class Semaphore:
    """A counting semaphore. A count above 0 means that nobody waits; `waiters` is None once it was freed."""

    __slots__ = ("count", "waiters")

    what = "semaphore"

    def __init__(self, count: int) -> None:
        self.count = count
        self.waiters: deque[Any] | None = deque()

    def __repr__(self) -> str:
        if self.waiters is None:
            return f"<host {self.what}, freed>"
        return f"<host {self.what}, count {self.count}, {len(self.waiters)} waiting>"


class Mutex(Semaphore):
    """A semaphore of count 1 that knows who took it: `holder`, set by the holder itself, `depth` times."""

    __slots__ = ("depth", "holder", "recursive")

    what = "mutex"

    def __init__(self, recursive: bool) -> None:
        super().__init__(1)
        self.recursive = recursive
        self.holder: Any = None
        self.depth = 0


class TlsKey:
    """A key of thread-local storage: each thread's value, and what to do with it when the thread ends."""

    __slots__ = ("destructor", "freed", "values")

    def __init__(self, destructor: Callable[[Any], None] | None) -> None:
        self.destructor = destructor
        self.freed = False
        self.values: dict[HostThread, Any] = {}


class JumpPoint:
    """Where a jump buffer leads: one call of `jmp_buf_set`, in one thread, until it returns."""

    __slots__ = ("thread", "valid")

    def __init__(self, thread: HostThread) -> None:
        self.thread = thread
        self.valid = True
