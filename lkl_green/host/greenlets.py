"""`GreenletHost`: host threads that are greenlets of one OS thread.

**Who may run.** `_ready` holds, in order, the greenlets that may run. A thread that blocks switches directly to
`_ready[0]`; there is no hub between them. One invariant makes this safe:

    A granted thread stands in `_ready` until it runs again, and takes itself out.

So a blocked thread waits by `while ready[0] is not me: ready[0].switch()`. Whatever switches to it before its time
(the application's own greenlet code) just makes it look again; and no moment exists at which a thread is in nobody's
hands. The obvious `ready.popleft().switch()` was dropped: a signal handler that raises between the two calls would lose
the thread that was popped.

**First entry.** A greenlet's C stack starts below whoever switches to it first, and Python's recursion depth is
inherited, too. If threads started each other, a chain of a few hundred generations would be too deep. So a *launcher*
greenlet, entered once in `host_init`, makes all first entries from its shallow stack, and is their parent, so that
control comes back to it when they end. In `_ready`, the launcher stands for the first of `_new`.

**Nothing ready.** As all threads share one OS thread, nobody could ever become ready: `HostDeadlock`, raised in the
thread that tried to block, or, if the last running thread ended, in a greenlet of the application that waits.

**Who am I.** Semaphores and mutexes know greenlets, not records: `getcurrent()` is right whoever switched, and nothing
has to be kept in step with it. So a host thread may block in a greenlet of its own, one whose parents lead to the
thread's.

**Switches by other code.** Code that switches to a greenlet of a blocked thread still runs for another thread; so does
code that runs a greenlet to its end whose parent is a blocked thread. That thread notices it, because nothing is ready
although another thread is not blocked. It raises `ForeignGreenlet` there and waits on.
"""

# ruff: noqa: D102 - HostOps describes the operations.

from __future__ import annotations

import contextvars
from collections import deque
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, getcurrent, greenlet

from lkl_green.errors import ForeignGreenlet, HostDeadlock, HostError, HostThreadExit
from lkl_green.host.common import CommonHost
from lkl_green.host.native import get_ident
from lkl_green.host.objects import (
    HostThread,
    Semaphore,
    called_by_host_thread,
    not_held,
    relocked,
    used_after_free,
)
from lkl_green.host.stacks import os_thread_frame
from lkl_green.host.visitors import Visitors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from lkl_green.host.objects import Mutex

# How often a thread that blocks again while it is unwound is told to exit, before it is given up.
UNWIND_TRIES = 8
APPLICATION = "the application"


class GreenletThread(HostThread):
    """A host thread. A created one has a `greenlet` and its `arg` while it lives, and `fn` until it begins."""

    __slots__ = ("arg", "context", "fn", "greenlet")

    def __init__(self, tid: int, adopted: bool) -> None:
        super().__init__(tid, adopted)
        self.greenlet: greenlet | None = None
        self.fn: Callable[[Any], object] | None = None
        self.arg: Any = None
        self.context: contextvars.Context | None = None


class GreenletHost(CommonHost[GreenletThread]):
    """The host on which a host thread is a greenlet.

    Semaphores, mutexes, `thread_create` and `thread_join` belong to the OS thread that called `host_init`. Everything
    else works from any OS thread.
    """

    _quiet_exits = (HostThreadExit, GreenletExit)

    def __init__(self, console: Callable[[str], object] | None = None) -> None:
        super().__init__(console)
        self._ready: deque[greenlet] = deque()
        self._new: deque[GreenletThread] = deque()
        self._launcher: greenlet | None = None
        self._closing = False
        self._refused: list[greenlet] = []
        # Created threads and the main greenlet, by identity; they end in ways the host sees.
        self._by_greenlet: dict[greenlet, GreenletThread] = {}
        self._visitors: Visitors[GreenletThread] = Visitors()

    # -- life cycle

    def host_init(self) -> None:
        super().host_init()
        # The last owner may have ended without host_cleanup().
        self._ready.clear()
        self._new.clear()
        self._by_greenlet.clear()
        self._launcher = greenlet(self._launch)
        # Enters the launcher's loop, which comes straight back.
        self._ready.append(getcurrent())
        self._launcher.switch()
        self._ready.popleft()

    def host_cleanup(self) -> None:
        self._check_owner("host_cleanup")
        self._refuse_from_within()
        self._unwind_all()
        if self._launcher is not None:
            self._launcher.parent = getcurrent()
            self._launcher.throw()
        self._launcher = None
        self._ready.clear()
        self._by_greenlet.clear()
        super().host_cleanup()

    def _check(self, operation: str) -> None:
        if get_ident() != self._owner:
            raise self._refusal(operation)

    # -- semaphores

    def sem_up(self, sem: Semaphore) -> None:
        waiter = None
        try:
            if get_ident() != self._owner:
                raise self._refusal("sem_up")
            waiters = sem.waiters
            if waiters:
                # Not append(popleft()): an exception of a signal handler between the two would lose the waiter.
                waiter = waiters[0]
                self._ready.append(waiter)
                del waiters[0]
            elif waiters is None:
                raise used_after_free("sem_up", "semaphore")
            else:
                sem.count += 1
        except HostError:
            raise
        except BaseException:
            self._complete_up(sem, waiter)
            raise

    def _complete_up(self, sem: Semaphore, waiter: greenlet | None) -> None:
        """An exception came in the middle of `sem_up`: do what is left of it."""
        if waiter is None:
            self._give(sem)
            return
        if waiter not in self._ready:
            self._ready.append(waiter)
        if sem.waiters and sem.waiters[0] is waiter:
            del sem.waiters[0]

    def sem_down(self, sem: Semaphore) -> None:
        waiters = None
        try:
            if get_ident() != self._owner:
                raise self._refusal("sem_down")
            if sem.count > 0:
                waiters = sem.waiters  # for the handler below: from here on, nothing is to be taken or queued for
                sem.count -= 1
                return
            # What follows is _wait(), spelled out: this is the hot path.
            me = getcurrent()
            ready = self._ready
            waiters = sem.waiters
            if waiters is None:
                raise used_after_free("sem_down", "semaphore")
            waiters.append(me)
            while ready[0] is not me:
                ready[0].switch()
            ready.popleft()
        except BaseException as exc:
            interrupt = self._disturbed(exc, sem, waiters is not None)
            if interrupt is not None:
                raise interrupt

    def _give(self, sem: Semaphore) -> None:
        if sem.waiters:
            waiter = sem.waiters[0]
            try:
                self._ready.append(waiter)
                del sem.waiters[0]
            except BaseException:
                self._complete_up(sem, waiter)
                raise
        elif sem.waiters is not None:
            sem.count += 1

    # -- mutexes

    def mutex_lock(self, mutex: Mutex) -> None:
        if get_ident() != self._owner:
            raise self._refusal("mutex_lock")
        me = getcurrent()
        if mutex.count > 0:
            # In one line, so that no exception comes between a lock that is taken and its holder.
            mutex.count, mutex.holder, mutex.depth = 0, me, 1
            return
        if mutex.waiters is None:
            raise used_after_free("mutex_lock", "mutex")
        if mutex.holder is me:
            if not mutex.recursive:
                raise relocked()
            mutex.depth += 1
            return
        interrupt = self._wait(mutex)
        mutex.holder, mutex.depth = me, 1
        if interrupt is not None:
            raise interrupt

    def mutex_unlock(self, mutex: Mutex) -> None:
        if get_ident() != self._owner:
            raise self._refusal("mutex_unlock")
        if mutex.holder is not getcurrent():
            raise not_held(mutex)
        if mutex.depth > 1:
            mutex.depth -= 1
        elif mutex.waiters:
            mutex.holder, mutex.depth = None, 0
            self._give(mutex)
        else:
            mutex.count, mutex.holder, mutex.depth = 1, None, 0

    # -- threads

    def thread_create(self, fn: Callable[[Any], object], arg: Any) -> int:
        self._check("thread_create")
        if self._launcher is None or self._closing:
            return 0
        thread = self._record(adopted=False)
        try:
            thread.fn = fn
            thread.arg = arg
            thread.context = contextvars.copy_context()
            self._give_greenlet(thread, self._launcher)
            self._ready.append(self._launcher)
            self._new.append(thread)
        except BaseException:
            self._threads.pop(thread.tid, None)  # the launcher passes over an entry without a thread
            if thread in self._new:
                self._new.remove(thread)
            raise
        return thread.tid

    def _wait_for_end(self, thread: GreenletThread) -> BaseException | None:
        return None if thread.ended else self._wait(thread.end)

    def thread_self(self) -> int:
        if get_ident() == self._owner:
            thread = self._by_greenlet.get(getcurrent()) or self._made_by(getcurrent())
            if thread is not None:
                return thread.tid
        return self._current().tid

    def thread_stack(self, tid: int) -> FrameType | None:
        known = [*self._by_greenlet.items(), *self._visitors.items()]
        contexts = [context for context, thread in known if thread.tid == tid]
        if not contexts:
            return self._os_thread_stack(tid)
        running = contexts[0].gr_frame is None and bool(contexts[0])
        if running and self._owner is not None and self._owner != get_ident():
            return os_thread_frame(self._owner)
        return contexts[0].gr_frame

    def _make_thread(self, tid: int, adopted: bool) -> GreenletThread:
        return GreenletThread(tid, adopted)

    def _give_greenlet(self, thread: GreenletThread, launcher: greenlet) -> None:
        thread.greenlet = greenlet(lambda: self._thread_main(thread), parent=launcher)
        thread.greenlet.gr_context = thread.context
        self._by_greenlet[thread.greenlet] = thread

    def _thread_main(self, thread: GreenletThread) -> BaseException | None:
        """Run a created thread; what is returned goes to the launcher, which gives it to the application."""
        try:
            self._new.popleft()
            self._ready.popleft()
            fn, thread.fn = thread.fn, None
            assert fn is not None
            left_by = self._call(fn, thread.arg)
            self._run_destructors(thread)
            self._retire(thread)
        except BaseException as exc:
            left_by = self._main_after_exception(thread, exc)
        # Ctrl-C was meant for the application, not for the thread in which it happened to arrive.
        return left_by if isinstance(left_by, KeyboardInterrupt) else None

    def _main_after_exception(self, thread: GreenletThread, exc: BaseException) -> BaseException | None:
        """An exception came before or after the thread's function: go on from there."""
        if thread.fn is not None:  # it may still be on the queues of those that have not begun
            if thread in self._new:
                self._new.remove(thread)
            if self._launcher is not None and self._ready.count(self._launcher) > len(self._new):
                self._ready.remove(self._launcher)
            thread.fn = None
        left_by = None if isinstance(exc, self._quiet_exits) else self._left_by(exc, thread.arg)
        self._retire(thread)
        return left_by

    def _retire(self, thread: GreenletThread) -> None:
        self._by_greenlet.pop(getcurrent(), None)
        thread.greenlet = thread.arg = thread.context = None
        self._thread_ended(thread)
        self._give(thread.end)

    # -- the calling thread

    def _current(self) -> GreenletThread:
        ident = get_ident()
        if ident == self._owner:
            me = getcurrent()
            return self._by_greenlet.get(me) or self._made_by(me) or self._adopt_greenlet(me, ident)
        return self._by_ident.get(ident) or self._adopt_os_thread()

    def _made_by(self, me: greenlet) -> GreenletThread | None:
        """The created host thread of which `me` is a greenlet of its own: its parents lead there."""
        parent = me.parent
        while parent is not None:
            thread = self._by_greenlet.get(parent)
            if thread is not None:
                return None if thread.adopted else thread
            parent = parent.parent
        return None

    def _adopt_greenlet(self, me: greenlet, ident: int) -> GreenletThread:
        if me.parent is None:
            thread = self._by_greenlet[me] = self._by_ident[ident]
            return thread
        visitor = self._visitors.get(me)
        if visitor is None:
            visitor = self._record(adopted=True)
            self._visitors.add(me, visitor, ident, self._keys)
        return visitor

    def _os_thread_ended(self, ident: int) -> None:
        super()._os_thread_ended(ident)
        # No thread is the owner now, so that _current() finds who calls by the OS thread.
        for visitor in self._visitors.pop_all_of(ident):
            self._by_ident[ident] = visitor
            self._run_destructors(visitor)
        self._by_ident.pop(ident, None)

    # -- waiting

    def _wait(self, sem: Semaphore) -> BaseException | None:
        """Wait until somebody gives the caller `sem`; an exception to be raised afterwards."""
        waiters = None
        try:
            me = getcurrent()
            ready = self._ready
            waiters = sem.waiters
            assert waiters is not None
            waiters.append(me)
            while ready[0] is not me:
                ready[0].switch()
            ready.popleft()
        except BaseException as exc:
            return self._disturbed(exc, sem, waiters is not None)
        return None

    def _disturbed(self, exc: BaseException, sem: Semaphore, queued: bool) -> BaseException | None:
        """An exception came into a wait: undo the wait if it ends the thread, otherwise keep it and wait on."""
        me = getcurrent()
        ready = self._ready
        interrupt: BaseException | None = None
        while True:
            ended = isinstance(exc, (HostError, *self._quiet_exits))
            intruder = None if ready or ended else self._intruder()
            if intruder is None:
                if isinstance(exc, IndexError) and not ready:
                    exc = HostDeadlock(self._describe_deadlock())
                if isinstance(exc, (HostError, *self._quiet_exits)):
                    if queued:
                        self._undo_wait(me, sem)
                    raise exc from interrupt
                interrupt = self._take_interrupt(exc) or interrupt
            try:
                if intruder is not None:
                    intruder.throw(ForeignGreenlet(self._describe_intruder(intruder)))
                if not queued:
                    queued = True
                    self._queue_or_take(me, sem)
                # In neither: the exception came between the last line of the wait and its end.
                if me in ready or me in (sem.waiters or ()):
                    while ready[0] is not me:
                        ready[0].switch()
                    ready.popleft()
            except BaseException as another:
                exc = another
            else:
                return interrupt

    def _queue_or_take(self, me: greenlet, sem: Semaphore) -> None:
        if sem.count > 0:
            sem.count -= 1
        elif sem.waiters is not None:
            sem.waiters.append(me)

    def _undo_wait(self, me: greenlet, sem: Semaphore) -> None:
        if sem.waiters and me in sem.waiters:
            sem.waiters.remove(me)
            return
        if me in self._ready:
            self._ready.remove(me)
        self._give(sem)

    # -- switches by other code

    def _intruder(self) -> greenlet | None:
        """The greenlet of the thread that runs although a blocked one was resumed; None if all are blocked."""
        me = self._by_greenlet.get(getcurrent()) or self._made_by(getcurrent())
        blocked = {id(self._by_greenlet.get(waiter) or self._made_by(waiter)) for waiter, _ in self._waiters()}
        running = [
            context
            for context, thread in self._by_greenlet.items()
            if thread is not me
            and thread.fn is None
            and id(thread) not in blocked
            and not (thread.adopted and me is not None and me.adopted)
        ]
        running.sort(key=lambda context: context.parent is None)  # the application's last
        return running[0] if running else None

    def _describe_intruder(self, intruder: greenlet) -> str:
        return (
            f"BUG: a greenlet switch of {self._name(intruder)} resumed a host thread that is blocked: it switched to a "
            "greenlet in which that thread sleeps, or ran a greenlet of that thread to its end; only the host resumes "
            "its threads"
        )

    # -- the launcher

    def _launch(self) -> None:
        """Enter new threads; when a thread has ended, go on with the next."""
        me = getcurrent()
        ready, new = self._ready, self._new
        found: object = None
        while True:
            try:
                while True:  # inside the `try`, because signal handlers run where a loop jumps back
                    intruder = None if ready else self._intruder()
                    if intruder is not None:
                        found = intruder.throw(ForeignGreenlet(self._describe_intruder(intruder)))
                    elif isinstance(found, BaseException):
                        failure, found = found, None
                        found = self._waiting_application(me).throw(failure)
                    elif not ready:
                        found = HostDeadlock(self._describe_deadlock())
                    elif ready[0] is not me:
                        found = ready[0].switch()
                    elif new:
                        found = self._enter(new[0], me)
                    else:
                        ready.popleft()
            except GreenletExit:
                return
            except BaseException as exc:
                found = exc

    def _enter(self, thread: GreenletThread, launcher: greenlet) -> object:
        assert thread.greenlet is not None
        if thread.greenlet.dead:
            # An exception of a signal handler hit it before its first line, and its function never began.
            del self._by_greenlet[thread.greenlet]
            self._give_greenlet(thread, launcher)
        return thread.greenlet.switch()

    def _waiting_application(self, launcher: greenlet) -> greenlet:
        """The application's greenlet that gets what no host thread can take: the main one, if it waits."""
        waiting = [waiter for waiter, _ in self._waiters() if self._name(waiter) == APPLICATION]
        waiting.sort(key=lambda waiter: waiter.parent is not None)
        assert launcher.parent is not None
        return waiting[0] if waiting else launcher.parent

    # -- reports

    def _waiters(self) -> Iterator[tuple[greenlet, str]]:
        """Each blocked greenlet, and the operation it is blocked in."""
        operations = [(sem, "sem_down") for sem in self._semaphores]
        operations += [(mutex, "mutex_lock") for mutex in self._mutexes]
        operations += [(thread.end, f"thread_join({thread.tid})") for thread in self._threads.values()]
        for sem, operation in operations:
            yield from ((waiter, operation) for waiter in sem.waiters or ())

    def _name(self, context: greenlet) -> str:
        thread = self._by_greenlet.get(context) or self._visitors.get(context)
        if thread is None or thread.adopted:
            return APPLICATION
        return f"host thread {thread.tid}"

    def _describe_deadlock(self) -> str:
        waiting = ", ".join(sorted(f"{self._name(waiter)} in {operation}" for waiter, operation in self._waiters()))
        return (
            f"every host thread waits for another: {waiting}. All share one OS thread, so nobody is left who could "
            "wake one: a sem_up or mutex_unlock is missing, or came from a thread that has ended"
        )

    # -- the end

    def _refuse_from_within(self) -> None:
        context: greenlet | None = getcurrent()
        while context is not None:
            if context is self._launcher:
                raise called_by_host_thread("host_cleanup")
            context = context.parent

    def _unwind_all(self) -> None:
        """End the threads that are left. While this runs, whoever blocks comes back here."""
        self._closing = True
        self._ready.clear()
        self._ready.append(getcurrent())
        left = [thread for thread in self._threads.values() if not thread.ended]
        refused = [thread for thread in left if not self._unwind(thread)]
        self._new.clear()
        self._closing = False
        self._report_unwound(left, refused)

    def _unwind(self, thread: GreenletThread) -> bool:
        context = thread.greenlet
        if context is None or thread.fn is not None:
            thread.greenlet = thread.fn = thread.arg = None
            self._thread_ended(thread)
            return True
        for _ in range(UNWIND_TRIES):
            context.throw(HostThreadExit())
            if thread.ended:
                return True
        # Without this reference it would be told to exit once more, by the garbage collector, and might not return.
        self._refused.append(context)
        return False
