"""`ThreadHost`: host threads that are OS threads.

`threading.Semaphore` was dropped: it is not FIFO, and an exception that a signal handler raises in its `acquire()` ends
the wait. Here each wait is a `_Waiter`: a flag and a raw lock. Whoever grants sets the flag and then releases the lock;
the waiter believes the flag alone. So the moment between the return of `acquire()` and the next bytecode, in which an
exception may hide whether the lock was obtained, does not matter: the flag knows.

    An exception that comes while a thread waits is kept until the wait is over, or given to `on_interrupt` at once.

Hence an exception that comes out of `sem_down` or `mutex_lock` (other than HostError) means that it was obtained, and
one out of `sem_up` that it was done. What Python leaves open is the very entry of the function: there an exception
comes before anything was done, as if it had come just before the call.

One lock of the host guards all queues. They are held for a few bytecodes, on one interpreter lock; a lock for each
semaphore would buy nothing.
"""

# ruff: noqa: D102 - HostOps describes the operations.

from __future__ import annotations

import contextvars
import os
from typing import TYPE_CHECKING, Any

from lkl_green.errors import HostError, HostThreadExit
from lkl_green.host.common import CommonHost
from lkl_green.host.native import Thread, allocate_lock, get_ident, monotonic, stack_size
from lkl_green.host.objects import HostThread, Mutex, Semaphore, not_held, relocked, used_after_free

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from types import FrameType

    from lkl_green.host.native import LockType

# How often a thread that blocks again while it is unwound is told to exit, before it is given up.
UNWIND_TRIES = 8
UNWIND_TIMEOUT_S = 2.0


class _Waiter:
    """One wait of one thread: `queue` is where it stands, `cancelled` means granted with nothing, `bell` rings once.

    Exceptions that strike are put into `struck` first, and from there given to the hook or kept in `interrupt`.
    """

    __slots__ = ("bell", "cancelled", "granted", "interrupt", "queue", "struck")

    def __init__(self) -> None:
        self.queue: deque[Any] | None = None
        self.granted = False
        self.cancelled = False
        self.bell: LockType
        self.struck: tuple[BaseException, ...] = ()
        self.interrupt: BaseException | None = None


class OsThread(HostThread):
    """A host thread; `os_thread` is that of a created one, `waiter` is its wait, if it is blocked."""

    __slots__ = ("begun", "os_thread", "unwinds", "waiter")

    def __init__(self, tid: int, adopted: bool) -> None:
        super().__init__(tid, adopted)
        self.os_thread: Thread | None = None
        self.begun: bool | None = False  # None: it is not to begin any more
        self.waiter: _Waiter | None = None
        # How often more a wait of this thread is refused, at host_cleanup.
        self.unwinds = 0


class ThreadHost(CommonHost[OsThread]):
    """The host on which a host thread is an OS thread. All operations work from any OS thread.

    Args:
        cpu: pin created threads, and the owner from `host_init` to `host_cleanup`, to this CPU, where the system can.
            As one thread runs at a time, a switch is much cheaper there than one between two CPUs.
        stack_size: of created threads, in bytes; 0 is the system's default.
        console: where `print` writes; standard output by default.
    """

    foreign_threads_run_kernel = True

    def __init__(
        self, cpu: int | None = None, stack_size: int = 0, console: Callable[[str], object] | None = None
    ) -> None:
        super().__init__(console)
        _check_cpu(cpu)
        _check_stack_size(stack_size)
        self._cpu = cpu
        self._stack_size = stack_size
        self._cpus_before: set[int] | None = None
        self._closing = False

    # -- life cycle

    def host_init(self) -> None:
        super().host_init()
        if self._cpu is not None and hasattr(os, "sched_getaffinity"):
            self._cpus_before = os.sched_getaffinity(0)
            self._pin()

    def host_cleanup(self) -> None:
        self._check_owner("host_cleanup")
        self._unwind_all()
        if self._cpus_before is not None:
            os.sched_setaffinity(0, self._cpus_before)
            self._cpus_before = None
        super().host_cleanup()

    def _pin(self) -> None:
        if self._cpu is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {self._cpu})

    # -- semaphores

    def sem_up(self, sem: Semaphore) -> None:
        if not self._give(sem):
            raise used_after_free("sem_up", "semaphore")

    def sem_down(self, sem: Semaphore) -> None:
        interrupt = self._take(sem, "sem_down", _Waiter())
        if interrupt is not None:
            raise interrupt

    # -- mutexes

    def mutex_lock(self, mutex: Mutex) -> None:
        me = self._current()
        if mutex.holder is me:
            if not mutex.recursive:
                raise relocked()
            mutex.depth += 1
            return
        waiter = _Waiter()
        try:
            interrupt = self._take(mutex, "mutex_lock", waiter)
            mutex.holder, mutex.depth = me, 1
        except BaseException:
            if waiter.granted and not waiter.cancelled:
                mutex.holder, mutex.depth = me, 1
            raise
        if interrupt is not None:
            raise interrupt

    def mutex_unlock(self, mutex: Mutex) -> None:
        if mutex.holder is not self._current():
            raise not_held(mutex)
        if mutex.depth > 1:
            mutex.depth -= 1
            return
        with self._lock:
            if not mutex.waiters:
                mutex.count, mutex.holder, mutex.depth = 1, None, 0
                return
        mutex.holder, mutex.depth = None, 0
        self._give(mutex)

    # -- giving and taking

    def _give(self, sem: Semaphore) -> bool:
        """Let the longest waiter go, or count up; whether `sem` exists."""
        waiter = None
        done = False
        try:
            with self._lock:
                if sem.waiters:
                    # No call between here and release(), so that no signal handler can run in between.
                    waiter = sem.waiters[0]
                    waiter.granted = True
                    del sem.waiters[0]
                    waiter.bell.release()
                elif sem.waiters is not None:
                    sem.count, done = sem.count + 1, True
                else:
                    return False
                return True
        except BaseException:
            if not done:
                self._complete_give(sem, waiter)
            raise

    def _complete_give(self, sem: Semaphore, waiter: _Waiter | None) -> None:
        """An exception came in the middle of `_give`: do what is left of it."""
        if waiter is None:
            self._give(sem)
            return
        with self._lock:
            waiter.granted = True
            if sem.waiters and sem.waiters[0] is waiter:
                del sem.waiters[0]
            if waiter.bell.locked():
                waiter.bell.release()

    def _take(self, sem: Semaphore, operation: str, waiter: _Waiter) -> BaseException | None:
        """Count down, or wait for somebody who gives; an exception to be raised afterwards."""
        # The same loop as in _pursue(), around it: a second signal may strike where that one jumps back to its `try`.
        while True:
            try:
                self._pursue(waiter, sem, operation)
                break
            except HostError:
                raise
            except (RecursionError, MemoryError) as exc:
                if not waiter.granted and waiter not in (sem.waiters or ()):
                    raise  # nothing was done, and trying again would end the same
                waiter.struck = (*waiter.struck, exc)
            except BaseException as exc:
                waiter.struck = (*waiter.struck, exc)
        if waiter.cancelled:
            raise HostThreadExit from waiter.interrupt
        return waiter.interrupt

    def _pursue(self, waiter: _Waiter, sem: Semaphore, operation: str) -> None:
        """Wait until granted, whatever strikes meanwhile."""
        while True:
            try:
                self._go_on(waiter, sem, operation)
                return
            except (HostError, RecursionError, MemoryError):
                raise
            except BaseException as exc:
                # No call here: in it, the next signal could strike outside the `try`.
                waiter.struck = (*waiter.struck, exc)

    def _go_on(self, waiter: _Waiter, sem: Semaphore, operation: str) -> None:
        """Go on with a wait from where it stands."""
        while True:
            if waiter.struck:
                waiter.interrupt = self._take_interrupt(waiter.struck[0]) or waiter.interrupt
                waiter.struck = waiter.struck[1:]
            elif waiter.granted:
                return
            elif waiter.queue is None:
                self._line_up(waiter, sem, operation)
            else:
                waiter.bell.acquire(timeout=self._nap_s())

    def _line_up(self, waiter: _Waiter, sem: Semaphore, operation: str) -> None:
        thread = self._current()
        with self._lock:
            # An exception may come in here, and this is called again. What was done is not done twice.
            if waiter.granted:
                return
            if sem.count > 0:
                sem.count, waiter.granted = sem.count - 1, True
                return
            if sem.waiters is None:
                raise used_after_free(operation, sem.what)
            waiter.bell = allocate_lock()
            waiter.bell.acquire()
            if thread.unwinds > 0:
                thread.unwinds -= 1
                waiter.cancelled = waiter.granted = True
            else:
                thread.waiter = waiter
                if waiter not in sem.waiters:
                    sem.waiters.append(waiter)
                waiter.queue = sem.waiters

    # -- threads

    def thread_create(self, fn: Callable[[Any], object], arg: Any) -> int:
        self._check("thread_create")
        if self._closing:
            return 0
        thread = self._record(adopted=False)
        try:
            thread.os_thread = Thread(
                contextvars.copy_context().run, (self._thread_main, thread, fn, arg), name=f"lkl-host-{thread.tid}"
            )
            self._start(thread.os_thread)
            return thread.tid
        except BaseException as error:
            return self._not_started(thread, error)

    def _not_started(self, thread: OsThread, error: BaseException) -> int:
        """`error` came while a thread was started: 0 if there is no more to be had, its tid if it has begun."""
        with self._lock:
            thread.begun = thread.begun or None
        if thread.begun:
            interrupt = self._take_interrupt(error)
            if interrupt is None:
                return thread.tid
            thread.detached = True  # the caller will not know its tid
            raise interrupt
        self._threads.pop(thread.tid, None)
        if isinstance(error, (RuntimeError, MemoryError)):
            return 0
        raise error

    def _start(self, os_thread: Thread) -> None:
        if self._stack_size == 0:
            os_thread.start()
            return
        before = stack_size(self._stack_size)
        try:
            os_thread.start()
        finally:
            stack_size(before)

    def _wait_for_end(self, thread: OsThread) -> BaseException | None:
        # Not Thread.join() alone: up to Python 3.12 an exception in it makes a running thread look as if it had ended.
        interrupt = None if thread.ended else self._take(thread.end, "thread_join", _Waiter())
        assert thread.os_thread is not None
        while thread.os_thread.is_alive():
            try:
                thread.os_thread.join()
            except BaseException as exc:
                interrupt = self._take_interrupt(exc) or interrupt
        return interrupt

    def _thread_main(self, thread: OsThread, fn: Callable[[Any], object], arg: Any) -> None:
        try:
            with self._lock:
                if thread.begun is None:
                    return
                thread.begun = True
            self._by_ident[get_ident()] = thread
            self._pin()
            self._call(fn, arg)
            self._run_destructors(thread)
            self._retire(thread)
        except BaseException as exc:
            self._by_ident[get_ident()] = thread
            if not isinstance(exc, self._quiet_exits):
                self._left_by(exc, arg)
            self._retire(thread)

    def _retire(self, thread: OsThread) -> None:
        self._thread_ended(thread)
        self._by_ident.pop(get_ident(), None)
        self._give(thread.end)

    def thread_stack(self, tid: int) -> FrameType | None:
        return self._os_thread_stack(tid)

    def _make_thread(self, tid: int, adopted: bool) -> OsThread:
        return OsThread(tid, adopted)

    def _current(self) -> OsThread:
        return self._by_ident.get(get_ident()) or self._adopt_os_thread()

    # -- the end

    def _unwind_all(self) -> None:
        """End the threads that are left: each is told to exit where it blocks in a host operation."""
        self._closing = True
        with self._lock:
            left = [thread for thread in self._threads.values() if not thread.ended]
            for thread in left:
                self._cancel(thread)
        deadline = monotonic() + UNWIND_TIMEOUT_S
        for thread in left:
            if thread.os_thread is not None and thread.os_thread.ident is not None:
                thread.os_thread.join(max(0.0, deadline - monotonic()))
        refused = [thread for thread in left if not thread.ended]
        self._closing = False
        self._report_unwound(left, refused)

    def _cancel(self, thread: OsThread) -> None:
        thread.unwinds = UNWIND_TRIES
        waiter = thread.waiter
        if waiter is not None and not waiter.granted and waiter.queue is not None:
            waiter.queue.remove(waiter)
            waiter.cancelled = waiter.granted = True
            waiter.bell.release()


def _check_cpu(cpu: int | None) -> None:
    if cpu is None or not hasattr(os, "sched_getaffinity"):
        return
    allowed = os.sched_getaffinity(0)
    if cpu not in allowed:
        raise ValueError(f"cpu={cpu}: this process may not run there. Choose one of {sorted(allowed)}")


def _check_stack_size(size: int) -> None:
    if size:
        # The only way to ask whether a size is valid is to set it.
        stack_size(stack_size(size))
