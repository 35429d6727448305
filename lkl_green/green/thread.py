"""`threading.Thread` as a kernel thread.

Starting a thread is one `copy_process()`. `Thread.start()` of CPython waits until the new thread has said that it runs;
here it is known to, so nobody waits, and a schedule has one scheduling point for the start and not six.

*The end.* A task has left its frames when `exit_task()` tells its `kthread` that it ends; that is when `join()` returns
and `is_alive()` becomes false, also for a thread that was dropped before it ever ran.

*The main thread.* The function of pid 1 is what `threading.main_thread()` names, with the ident of the OS thread. The
idents of other threads follow from their pids, so that they are the same in each run.
"""

from __future__ import annotations

import sys
import threading
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from lkl_green.errors import Escape, TaskUnwind
from lkl_green.green import originals
from lkl_green.green.waiter import Waiter, limit_ns, look, rest
from lkl_green.host import native
from lkl_green.kernel.current import current_kernel, running_here
from lkl_green.kernel.taskend import TaskEnd

if TYPE_CHECKING:
    from lkl_green.green.local import Key
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.sched import Scheduler
    from lkl_green.kernel.task import Task

# Above every address of a user's process, which is what a native ident is.
IDENT_BASE = 1 << 48
# Where a Thread has its handle; before CPython 3.13 it had a lock that the interpreter released.
_JOINABLE = sys.version_info >= (3, 13)
_HANDLE = "_os_thread_handle" if sys.version_info >= (3, 14) else "_handle"


class Handle(TaskEnd):
    """What joins a thread, and keeps what belongs to it.

    Attributes:
        kernel, task: whose thread it is.
        thread: the Thread object; None for one of `_thread`.
        done: it has ended.
        locals: the `threading.local` objects it has used.
    """

    __slots__ = ("done", "kernel", "locals", "task", "thread", "waiters")

    task: Task

    def __init__(self, kernel: Kernel, thread: threading.Thread | None) -> None:
        self.kernel = kernel
        self.thread = thread
        self.done = False
        self.locals: WeakSet[Key] | None = None
        self.waiters: list[Waiter] | None = None

    @property
    def name(self) -> str:
        """The name of the Thread object."""
        return "" if self.thread is None else self.thread._name  # type: ignore[attr-defined]

    def thread_exits(self, task: Task, code: Any) -> None:
        """Let those that join it go on."""
        self.done = True
        task.fn = None  # the program may wait for its function to go
        used, self.locals = self.locals, None
        for key in used or ():
            del key.threads[task]
        thread, self.thread = self.thread, None
        if thread is not None and not _JOINABLE:
            thread._is_stopped = True  # type: ignore[attr-defined]
        waiters, self.waiters = self.waiters, None
        for waiter in waiters or ():
            waiter.release()

    def wait(self, kernel: Kernel, obj: object, timeout_ns: int | None) -> bool:
        """Wait for the end; whether it came in time."""
        if self.done:
            return True
        if timeout_ns is not None and timeout_ns <= 0:
            rest(kernel)
            return self.done
        waiter = Waiter(kernel, obj)
        if self.waiters is None:
            self.waiters = []
        self.waiters.append(waiter)
        try:
            waiter.wait(timeout_ns)
        finally:
            if not waiter.released and self.waiters is not None:
                self.waiters.remove(waiter)
        return self.done

    # what Thread from CPython 3.13 on and start_joinable_thread() expect of a _ThreadHandle

    @property
    def ident(self) -> int:
        """The thread's ident."""
        return IDENT_BASE + self.task.pid

    def is_done(self) -> bool:
        """Whether it has ended."""
        return self.done

    def _set_done(self) -> None:
        self.done = True

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end."""
        kernel = running_here.kernel
        if self.done:
            return
        if kernel is None:
            raise Escape(f"joining kernel thread {self.task!r} outside the kernel: run the kernel until it has ended")
        if kernel.sched.listener is not None:
            kernel.sched.listener("join", self)
        if kernel.sched.current is self.task:
            raise RuntimeError("Cannot join current thread")
        self.wait(kernel, self, None if timeout is None or timeout < 0 else limit_ns(timeout))


# -- threading.Thread


def thread_start(self: Any) -> None:
    """Start it as a kernel thread (threading.Thread.start)."""
    kernel = running_here.kernel
    if kernel is None:
        originals.thread_start(self)
        return
    if not self._initialized:
        raise RuntimeError("thread.__init__() not called")
    sched = kernel.sched
    if sched.listener is not None:
        sched.listener("start", self)
    if self._started._flag:  # looked at only now: another thread may have come first
        raise RuntimeError("threads can only be started once")
    handle = Handle(kernel, self)
    try:
        task = kernel.fork.create_thread(handle, _run_thread, self, self._name, _first_context(self))
    except OSError as error:
        raise cannot_start() from error
    handle.task = task
    self._green = handle
    if _JOINABLE:
        setattr(self, _HANDLE, handle)
    self._ident = IDENT_BASE + task.pid
    self._native_id = task.pid
    self._started._flag = True
    wake_new(sched, task)


def wake_new(sched: Scheduler, task: Task) -> None:
    """Let the new thread run at once, as CPython does; with a listener, who is next was decided before the start."""
    sched.wake_up_new_task(task)
    if sched.listener is None:
        if not sched.current.preempt_count:
            sched.schedule()
    elif sched.after is not None:
        sched.after()


def _first_context(thread: Any) -> Context:
    """The context variables a thread starts with: none, unless CPython 3.14 was told that threads inherit them."""
    inherits = getattr(sys.flags, "thread_inherit_context", False) and thread._context is None
    return copy_context() if inherits else Context()


def cannot_start() -> RuntimeError:
    """What CPython raises when the system has no room for another thread."""
    return RuntimeError("can't start new thread")


def _run_thread(thread: Any) -> None:
    """A thread from its first statement to its last (Thread._bootstrap_inner)."""
    given = getattr(thread, "_context", None)  # Thread(context=...), from CPython 3.14 on
    run = thread.run if given is None else partial(given.run, thread.run)
    try:
        run()
    except TaskUnwind:
        raise
    except BaseException as error:
        if current_kernel().sched.current.killed:
            return  # the program is over; CPython's daemons do not get to run their `finally` blocks at all
        if threading.excepthook is fail and not isinstance(error, SystemExit):
            raise
        thread._invoke_excepthook(thread)


def fail(args: Any) -> None:
    """As `threading.excepthook`: an exception that leaves a thread is an oops of the kernel, as in a kernel thread."""


def thread_join(self: Any, timeout: float | None = None) -> None:
    """Wait for its end (threading.Thread.join)."""
    kernel = running_here.kernel
    if kernel is None:
        _join_outside(self, timeout)
        return
    sched = kernel.sched
    handle = self.__dict__.get("_green")
    if handle is not None and sched.current is handle.task:
        raise RuntimeError("cannot join current thread")
    if sched.listener is not None:
        sched.listener("join", self)
    handle = self.__dict__.get("_green")  # another thread may have started it by now
    if handle is not None:
        handle.wait(kernel, self, limit_ns(timeout))
        return
    _refuse_native(self)
    if self._initialized and not self._started._flag:
        raise RuntimeError("cannot join thread before it is started")
    originals.thread_join(self, timeout)


def _join_outside(self: Any, timeout: float | None) -> None:
    handle = self.__dict__.get("_green")
    if handle is not None and not handle.done:
        raise Escape(f"joining {self!r} outside the kernel would never end: run the kernel until it has ended")
    originals.thread_join(self, timeout)


def _refuse_native(thread: Any) -> None:
    """A native thread that still runs ends when it likes: a kernel thread that waits for it stops the kernel."""
    if thread._initialized and thread._started._flag and originals.thread_is_alive(thread):
        if thread is threading.current_thread():
            raise RuntimeError("cannot join current thread")
        raise Escape(
            f"a kernel thread joins {thread!r}, an OS thread outside the kernel, which would stop the whole kernel: "
            "start that thread inside, or join it outside"
        )


def thread_is_alive(self: Any) -> bool:
    """Whether it has begun and not ended (threading.Thread.is_alive)."""
    kernel = running_here.kernel
    if kernel is not None and self._initialized:
        look(kernel, self)
    handle = self.__dict__.get("_green")  # looked at only now: another thread may have started it
    if handle is not None:
        return not handle.done
    if kernel is not None and self._initialized and not self._started._flag:
        return False
    return originals.thread_is_alive(self)


# -- functions of threading


def current_handle() -> Handle | None:
    """The handle of the thread that runs; None outside the kernel, and in a task that is no thread of the program."""
    kernel = running_here.kernel
    if kernel is None:
        return None
    handle = kernel.sched.current.kthread
    return handle if type(handle) is Handle else None


def is_main(task: Task) -> bool:
    """Whether a task is the program's main thread: the function of pid 1, or the test that a test bed calls "main"."""
    return task.pid <= 1 or (task.comm == "main" and type(task.kthread) is not Handle)


def get_ident() -> int:
    """The ident of the current thread (threading.get_ident)."""
    kernel = running_here.kernel
    if kernel is None:
        return native.get_ident()
    task = kernel.sched.current
    return native.get_ident() if is_main(task) else IDENT_BASE + task.pid


def get_native_id() -> int:
    """The thread's pid in the kernel (threading.get_native_id, gettid())."""
    kernel = running_here.kernel
    if kernel is None or is_main(kernel.sched.current):
        return native.get_native_id()
    return kernel.sched.current.pid


class _Stranger(threading.Thread):
    """A Thread object for a task that nobody started as a thread (threading._DummyThread)."""

    def __init__(self, task: Task) -> None:
        super().__init__(name=task.comm, daemon=True)
        me: Any = self
        me._started._flag = True
        me._ident = IDENT_BASE + task.pid
        me._native_id = task.pid

    def is_alive(self) -> bool:
        """It was when it asked, and nobody knows when it ends."""
        return True

    def join(self, timeout: float | None = None) -> None:
        """Refuse."""
        raise RuntimeError("cannot join a dummy thread")


class Strangers:
    """Tasks that are no threads of the program, such as `kthread_run()` makes: a Thread object for each that asks."""

    def __init__(self) -> None:
        self._threads: WeakKeyDictionary[Task, threading.Thread] = WeakKeyDictionary()

    def current_thread(self) -> threading.Thread:
        """The current Thread object (threading.current_thread)."""
        kernel = running_here.kernel
        if kernel is None:
            return originals.current_thread()
        task = kernel.sched.current
        handle = task.kthread
        if type(handle) is Handle and handle.thread is not None:
            return handle.thread
        return threading.main_thread() if is_main(task) else self._of(task)

    def _of(self, task: Task) -> threading.Thread:
        thread = self._threads.get(task)
        if thread is None:
            thread = self._threads[task] = _Stranger(task)
        return thread


def enumerate_threads() -> list[threading.Thread]:
    """All threads that are alive; in a kernel thread, those of its kernel (threading.enumerate)."""
    kernel = running_here.kernel
    if kernel is None:
        return originals.enumerate_threads()
    look(kernel, None)
    return [threading.main_thread(), *threads_of(kernel)]


def active_count() -> int:
    """How many threads are alive (threading.active_count)."""
    return len(enumerate_threads())


def threads_of(kernel: Kernel) -> list[threading.Thread]:
    """The program's threads in a kernel, in order of their start, its main thread left out."""
    handles = [task.kthread for task in kernel.pids]
    return [handle.thread for handle in handles if type(handle) is Handle and handle.thread is not None]
