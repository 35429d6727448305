"""What both hosts share of threads: their records, from the first call to the join.

A host thread is known by a `HostThread` record. `thread_create` makes one. Any other OS thread that calls a host
operation is *adopted* on its first call and keeps its tid. A `threading.local` holds an object that is freed when the
adopted thread ends. The callback of a weak reference to it runs the TLS destructors there, while the thread can still
call the host. Dropped: `__del__` of that object. It also ran whenever a host was freed, and Python ignores exceptions
in it: the KeyboardInterrupt of a signal handler could get lost there.
"""

# ruff: noqa: D102 - HostOps describes the operations.

from __future__ import annotations

import sys
import weakref
from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from lkl_green.errors import HostError, HostMisuse, HostThreadExit, WrongHostThread
from lkl_green.host.native import get_ident, local
from lkl_green.host.objects import Mutex, Semaphore, called_by_host_thread, freed_twice, negative
from lkl_green.host.ops import LiveObjects
from lkl_green.host.stacks import os_thread_frame
from lkl_green.host.thread_locals import ThreadLocals, ThreadT, allocate
from lkl_green.host.whole import whole_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from lkl_green.host.poller import Poller


class _ThreadEnd:
    """Is kept in a `threading.local`, so that it is freed when its OS thread ends."""

    __slots__ = ("__weakref__",)


def _thread_end_freed(host: weakref.ref[CommonHost[Any]], ident: int, _thread_end: object) -> None:
    """The OS thread `ident` ends; or the host was freed, and its `threading.local` with it."""
    living = host()
    if living is not None and get_ident() == ident and not sys.is_finalizing():
        living._os_thread_ended(ident)


class CommonHost(ThreadLocals[ThreadT]):
    """The part of a host that does not depend on what its threads are."""

    def __init__(self, console: Callable[[str], object] | None = None) -> None:
        super().__init__(console)
        self._owner: int | None = None
        self._lock = whole_lock()
        self._last_tid = 0
        self._threads: dict[int, ThreadT] = {}
        self._by_ident: dict[int, ThreadT] = {}
        # In this order: when a host is freed, its weak references are freed first, and no callback runs.
        self._thread_ends: dict[int, weakref.ref[_ThreadEnd]] = {}
        self._at_thread_end = local()
        # Dicts for their order: reports must not differ from run to run.
        self._semaphores: dict[Semaphore, None] = {}
        self._mutexes: dict[Mutex, None] = {}

    # -- what a host adds

    @abstractmethod
    def _make_thread(self, tid: int, adopted: bool) -> ThreadT:
        """Make the host's kind of record."""

    def _check(self, operation: str) -> None:
        """Raise unless the calling OS thread may use semaphores, mutexes and threads now."""
        if self._owner is None:
            raise self._refusal(operation)

    def _refusal(self, operation: str) -> HostMisuse | WrongHostThread:
        if self._owner is None:
            return HostMisuse(
                f"{operation}: no kernel uses this host now. Call host_init() first, and nothing after host_cleanup()"
            )
        return WrongHostThread(
            f"{operation}: OS thread {get_ident()} called, but this host belongs to OS thread {self._owner}, which "
            "called host_init(). Hand the work over to that thread, for example with idle_wake()"
        )

    # -- life cycle

    def host_init(self) -> None:
        if self._owner is not None:
            raise HostMisuse("host_init: a kernel uses this host already. Call host_cleanup() before, or make another")
        self._doorbell.acquire(blocking=False)
        ident = get_ident()
        if ident not in self._by_ident:
            self._adopt_os_thread()
        self._owner = ident

    def host_cleanup(self) -> None:
        self._check_owner("host_cleanup")
        self._timers.close()
        self._close_poller()
        self._owner = None

    def _check_owner(self, operation: str) -> None:
        if self._owner is not None and not self._current().adopted:
            raise called_by_host_thread(operation)
        if get_ident() != self._owner:
            raise self._refusal(operation)

    def live(self) -> LiveObjects:
        return LiveObjects(
            semaphores=len(self._semaphores),
            mutexes=len(self._mutexes),
            threads=len(self._threads),
            tls_keys=len(self._keys),
            timers=self._timers.count,
            memory=len(self._memory),
            descriptors=0 if self.made_poller is None else len(self.made_poller.watched),
        )

    def poller(self) -> Poller:
        self._check("poller")
        return super().poller()

    # -- semaphores and mutexes: allocation

    def sem_alloc(self, count: int) -> Semaphore | None:
        self._check("sem_alloc")
        if count < 0:
            raise negative("sem_alloc", "count", count)
        return allocate(self._semaphores, lambda: Semaphore(count))

    def sem_free(self, sem: Semaphore) -> None:
        self._check("sem_free")
        self._check_unused("sem_free", sem)
        self._semaphores.pop(sem, None)  # first: after an exception in here, it may be freed once more
        sem.count, sem.waiters = 0, None

    def mutex_alloc(self, recursive: bool) -> Mutex | None:
        self._check("mutex_alloc")
        return allocate(self._mutexes, lambda: Mutex(recursive))

    def mutex_free(self, mutex: Mutex) -> None:
        self._check("mutex_free")
        self._check_unused("mutex_free", mutex)
        if mutex.count == 0:
            raise HostMisuse("mutex_free: this mutex is locked. Its holder would unlock what is gone; unlock it first")
        self._mutexes.pop(mutex, None)
        mutex.count, mutex.waiters = 0, None

    def _check_unused(self, operation: str, sem: Semaphore) -> None:
        if sem.waiters is None:
            raise freed_twice(operation, sem.what)
        if sem.waiters:
            raise HostMisuse(
                f"{operation}: {len(sem.waiters)} thread(s) wait for this {sem.what} and could never be woken. "
                "Wake them and let them leave first"
            )

    # -- threads: records

    def _record(self, adopted: bool) -> ThreadT:
        with self._lock:
            self._last_tid += 1
            thread = self._make_thread(self._last_tid, adopted)
            if not adopted:
                self._threads[thread.tid] = thread
        return thread

    def _adopt_os_thread(self) -> ThreadT:
        ident = get_ident()
        thread = self._by_ident[ident] = self._record(adopted=True)
        thread_end = _ThreadEnd()
        self._thread_ends[ident] = weakref.ref(thread_end, partial(_thread_end_freed, weakref.ref(self), ident))
        self._at_thread_end.sentinel = thread_end
        return thread

    def _os_thread_ended(self, ident: int) -> None:
        if ident == self._owner:
            # Its kernel died with it. The system may give this identifier to an unrelated thread.
            self._owner = None
        self._thread_ends.pop(ident, None)
        thread = self._by_ident.get(ident)
        if thread is not None:
            self._run_destructors(thread)
            del self._by_ident[ident]

    @abstractmethod
    def _wait_for_end(self, thread: ThreadT) -> BaseException | None:
        """Wait until a created thread is gone; an exception to be raised afterwards."""

    def thread_join(self, tid: int) -> int:
        self._check("thread_join")
        thread = self._claim_for_join(tid)
        try:
            interrupt = self._wait_for_end(thread)
        except BaseException:
            # Not an interrupt, which is raised below: the wait was undone, so that somebody else may join.
            thread.joined = False
            raise
        self._threads.pop(tid, None)
        if interrupt is not None:
            raise interrupt
        return 0

    def _claim_for_join(self, tid: int) -> ThreadT:
        """The record of a thread that the caller may join; nobody else may from now on."""
        if tid == 0:
            raise HostMisuse("thread_join(0): 0 is not a thread but the failure of thread_create(). Check its result")
        if tid == self.thread_self():
            raise HostMisuse(f"thread_join({tid}): the calling thread would wait for itself. Join from another thread")
        with self._lock:
            thread = self._threads.get(tid)
            if thread is not None and not thread.detached and not thread.joined:
                thread.joined = True
                return thread
        if not 0 < tid <= self._last_tid:
            raise HostMisuse(f"thread_join({tid}): no thread ever had this tid. Pass what thread_create() returned")
        raise HostMisuse(
            f"thread_join({tid}): this thread was joined before, or it is detached, or thread_create() did not make "
            "it. Join each thread that thread_create() made once, unless it detaches itself"
        )

    def _thread_ended(self, thread: ThreadT) -> None:
        with self._lock:
            thread.ended = True
            if thread.detached:
                self._threads.pop(thread.tid, None)

    def _report_unwound(self, left: list[ThreadT], refused: list[ThreadT]) -> None:
        """Tell of threads that had not ended at host_cleanup, and forget those that have now."""
        for thread in left:
            if thread not in refused:
                self._threads.pop(thread.tid, None)
        if left:
            tids = ", ".join(str(thread.tid) for thread in left)
            self._report(f"host_cleanup: host thread(s) {tids} had not ended and were told to exit\n")
        if refused:
            tids = ", ".join(str(thread.tid) for thread in refused)
            self._report(f"host_cleanup: host thread(s) {tids} did not exit, and are left as they are\n")

    def thread_detach(self) -> None:
        thread = self._current()
        with self._lock:
            if thread.joined:
                raise HostMisuse(
                    f"thread_detach: another thread joins host thread {thread.tid} already. Either join or detach it"
                )
            thread.detached = True

    def thread_exit(self) -> NoReturn:
        if self._current().adopted:
            raise HostMisuse(
                "thread_exit: thread_create() did not make the calling thread, so it is not this host's to end. "
                "Return from its function"
            )
        raise HostThreadExit

    def thread_self(self) -> int:
        return self._current().tid

    def thread_equal(self, a: int, b: int) -> bool:
        return a == b

    def _os_thread_stack(self, tid: int) -> FrameType | None:
        for ident, thread in list(self._by_ident.items()):
            if thread.tid == tid and ident != get_ident():
                return os_thread_frame(ident)
        return None

    def gettid(self) -> int:
        return self._current().tid

    def _call(self, fn: Callable[[Any], object], arg: Any) -> BaseException | None:
        """Call a host thread's function; report what leaves it and return it."""
        try:
            fn(arg)
        except self._quiet_exits:
            return None
        except BaseException as exc:
            return self._left_by(exc, arg)
        return None

    def _left_by(self, exc: BaseException, arg: Any) -> BaseException | None:
        """An exception left a host thread's function: the hook may go on, or it is reported and returned."""
        try:
            if self.on_exception is None:
                raise exc
            self.on_exception(arg, exc)
        except self._quiet_exits:
            return None
        except BaseException as exc:
            self._report_exception(f"host thread {self.thread_self()} ended by an exception")
            return exc
        return None

    # -- exceptions that come while a thread waits

    def _take_interrupt(self, exc: BaseException) -> BaseException | None:
        """Give an exception to the hook; what is to be raised when the wait is over. A HostError goes on at once."""
        if isinstance(exc, HostError):
            raise exc
        if self.on_interrupt is None:
            return exc
        try:
            self.on_interrupt(exc)
        except BaseException as from_hook:
            return from_hook
        return None
