"""Kernel threads for everybody: create, run, stop, park (kernel/kthread.c, rules 95 to 106).

Anyone may want a kernel thread, but only kernel threads may have one, and a child of whoever happens to ask would
inherit who knows what. So `kthread_create()` leaves a request with kthreadd, pid 2, whose children all kthreads are:

    creator                     kthreadd                        the new thread
    queue request, wake ------> kernel_thread(kthread)
    wait                        "created" ------+               (has not run, sleeps uninterruptibly)
    <-------------------------------------------+
    wake_up_process() ----------------------------------------> parkme; threadfn(); exit with its result

Between creation and that wake-up the creator may bind, park or stop the thread; a thread stopped there never runs its
function (rule 97). Linux lets the new thread run up to that point and say "created" itself. Nobody can tell the
difference, and a thread that is only created costs two switches and a stack less this way.
"""

from __future__ import annotations

import errno
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from lkl_green.kernel.callback import check_callback, check_result
from lkl_green.kernel.completion import Completion
from lkl_green.kernel.task import (
    PF_EXITING,
    PF_NEWBORN,
    TASK_COMM_LEN,
    TASK_IDLE,
    TASK_PARKED,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    Task,
)
from lkl_green.kernel.taskend import TaskEnd, not_a_kthread

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from lkl_green.kernel.kernel import Kernel


_FIRST_WAKE_UP = "its first wake_up_process()"


class KThread(TaskEnd):
    """What makes a kernel thread a kthread: how it is stopped and parked (Linux: `struct kthread`).

    Attributes:
        fn, args: the thread function and its arguments, until it runs.
        should_stop, should_park: whether the thread was asked to stop, or to park.
        parked: completed when the thread has parked; None if nothing waits for that.
        exited: completed when the thread has ended, with `result`.
    """

    __slots__ = ("args", "exited", "fn", "parked", "result", "should_park", "should_stop")

    should_stop: bool
    should_park: bool

    def __init__(self, kernel: Kernel, name: str, fn: Callable[..., Any] | None, args: tuple[Any, ...]) -> None:
        self.fn = fn
        self.args = args
        self.should_stop = False
        self.should_park = False
        self.exited = Completion(kernel, name)
        self.parked: Completion | None = None
        self.result: Any = 0

    def thread_exits(self, task: Task, code: Any) -> None:
        """The thread ends with `code`."""
        self.result = code
        self.exited.complete_all()

    def to_kthread(self, kernel: Kernel, task: Task) -> KThread:
        """Itself."""
        return self


class _CreateRequest:
    """A kthread_create() on its way through kthreadd."""

    __slots__ = ("args", "context", "done", "error", "failed", "fn", "name", "task")

    def __init__(self, kernel: Kernel, fn: Callable[..., Any], args: tuple[Any, ...], name: str) -> None:
        self.fn = fn
        self.args = args
        self.name = name
        self.context: Context | None = copy_context()
        self.task: Task | None = None
        self.error: OSError | None = None
        self.done: Completion | None = Completion(kernel, name)
        self.failed: Callable[[OSError], object] | None = None  # for a request that nobody waits for


class KThreads:
    """kthreadd and its children, in one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._requests: deque[_CreateRequest] = deque()
        self._kthread = self._run_kthread  # bound once, not once for each thread
        self.kthreadd: Task

    # -- kthreadd

    def run_kthreadd(self, _arg: object) -> None:
        """Thread function of kthreadd (rule 106). Whatever ends it is a panic: later requests would wait for ever."""
        sched = self._kernel.sched
        task = sched.current
        requests = self._requests
        try:
            while True:
                task.state = TASK_IDLE  # before the test: a request queued after it wakes us
                if not requests:
                    sched.schedule()
                task.state = TASK_RUNNING
                while requests:
                    self._serve(requests.popleft())
        except BaseException as error:
            self._kernel.faults.must_not_end(task, error)
            raise

    def _serve(self, request: _CreateRequest) -> None:
        """Make one thread, and tell its creator."""
        kernel = self._kernel
        done = request.done
        if done is None:  # the creator was killed while it waited (rule 99)
            return
        try:
            kthread = KThread(kernel, request.name, request.fn, request.args)
            task = kernel.fork.copy_process(0, None, self._kthread, kthread, request.name, None, request.context)
        except OSError as error:
            request.error = error
            if request.failed is not None:
                request.failed(error)
        else:
            task.kthread = kthread
            task.state = TASK_UNINTERRUPTIBLE
            task.waiting_for = _FIRST_WAKE_UP
            request.task = task
            if request.failed is not None:
                kernel.sched.try_to_wake_up(task)
        done.complete()

    def _run_kthread(self, kthread: KThread) -> Any:
        """What a new kthread runs first (Linux: kthread()); ret_from_fork takes the result for its exit code."""
        self._kernel.sched.current.waiting_for = None
        if kthread.should_stop:
            return -errno.EINTR
        if kthread.should_park:
            self.parkme()
        fn, args = kthread.fn, kthread.args
        assert fn is not None
        kthread.fn, kthread.args = None, ()
        # A call with * is one more C stack frame, to be saved at every switch.
        result = fn(*args) if args else fn()
        if result is not None:
            check_result(fn, result)
        return result

    # -- creating

    def kthread_create(self, fn: Callable[..., Any], *args: Any, name: str = "kthread") -> Task:
        """Make a kernel thread that will call `fn(*args)` once it is woken (rules 95, 96).

        Args:
            fn: the thread function; its result is the thread's exit code.
            args: its arguments; they also fill the `%` fields of `name`.
            name: the thread's comm, cut to 15 characters.

        Raises:
            OSError: ENOMEM or EAGAIN from fork, EINTR if the caller was killed while it waited.
            SchedulingWhileAtomic: the caller must not sleep; nothing was asked for.
            TypeError: `fn` is not a plain function.
        """
        check_callback(fn, "thread function")
        kernel = self._kernel
        if kernel.sched.current.preempt_count:
            kernel.sched.might_sleep()
        request = _CreateRequest(kernel, fn, args, format_name(name, args))
        done = request.done
        assert done is not None
        self._requests.append(request)
        try:
            kernel.sched.try_to_wake_up(self.kthreadd)
            done.wait_for_completion_killable()
        except BaseException as error:
            if not isinstance(error, InterruptedError) or not done.completion_done():
                self._withdraw(request)
                raise
        if request.error is not None:
            raise request.error
        assert request.task is not None
        return request.task

    def _withdraw(self, request: _CreateRequest) -> None:
        """The creator ends and will not wake the thread: it is not made, or dropped if it has been (rule 99)."""
        request.done = None
        if request.task is not None:
            self.drop_unwoken(request.task)

    def drop_unwoken(self, task: Task) -> None:
        """Drop a thread that waits for its first wake-up, for a creator that ends before it could wake it."""
        if task.state == TASK_UNINTERRUPTIBLE and task.flags & PF_NEWBORN:
            self._kernel.exits.take_down(task)

    def kthread_run(self, fn: Callable[..., Any], *args: Any, name: str = "kthread") -> Task:
        """`kthread_create()` and `wake_up_process()`. Raises OSError as the former does."""
        task = self.kthread_create(fn, *args, name=name)
        try:
            self._kernel.sched.wake_up_process(task)
        except BaseException:
            self.drop_unwoken(task)
            raise
        return task

    def kthread_run_nowait(
        self, fn: Callable[..., Any], *args: Any, name: str, failed: Callable[[OSError], object]
    ) -> None:
        """`kthread_run()` where sleeping is forbidden: leave the request with kthreadd and do not wait.

        The thread runs as soon as it exists, with the context variables of kthreadd, because those of whoever happened
        to be interrupted are none of its business. If it cannot be made, kthreadd calls `failed(error)`.
        """
        request = _CreateRequest(self._kernel, fn, args, format_name(name, args))
        request.context = None
        request.failed = failed
        self._requests.append(request)
        self._kernel.sched.try_to_wake_up(self.kthreadd)

    # -- stopping

    def kthread_stop(self, task: Task) -> Any:
        """Ask a kthread to stop and wait until it has; its thread function's result (rule 97).

        A thread that was never woken does not run its function; the result is -EINTR.
        """
        kthread = self._kthread_of(task)
        kthread.should_stop = True
        self.kthread_unpark(task)
        self._kernel.sched.wake_up_process(task)
        kthread.exited.wait_for_completion()
        return kthread.result

    def should_stop(self) -> bool:
        """Whether the current kthread was asked to stop; outside a kthread a warning and False (rule 100)."""
        kthread = self._kernel.sched.current.kthread
        if kthread is None:
            self._kernel.printk.warn(f"kthread_should_stop() in {self._kernel.sched.current!r}, which is no kthread")
            return False
        return kthread.should_stop

    def should_park(self) -> bool:
        """Whether the current kthread was asked to park."""
        kthread = self._kernel.sched.current.kthread
        if kthread is None:
            self._kernel.printk.warn(f"kthread_should_park() in {self._kernel.sched.current!r}, which is no kthread")
            return False
        return kthread.should_park

    # -- parking

    def parkme(self) -> None:
        """Park the current kthread for as long as it is asked to (rules 101, 102)."""
        sched = self._kernel.sched
        task = sched.current
        kthread = self._kthread_of(task)
        while True:
            task.state = TASK_PARKED
            if not kthread.should_park:
                break
            if kthread.parked is not None:
                task.preempt_count += 1  # who waits for it shall find it parked, not preempted on its way there
                kthread.parked.complete_all()
                task.preempt_count -= 1
            task.waiting_for = "kthread_unpark()"
            sched.schedule()
        task.waiting_for = None
        task.state = TASK_RUNNING

    def kthread_park(self, task: Task) -> int:
        """Ask a kthread to park and wait until it has (rule 103).

        Returns:
            0; with a warning -ENOSYS for one that exits, -EBUSY for one that is asked already.
        """
        kthread = self._kthread_of(task)
        if task.flags & PF_EXITING:
            self._kernel.printk.warn(f"kthread_park() of {task!r}, which exits")
            return -errno.ENOSYS
        if kthread.should_park:
            self._kernel.printk.warn(f"kthread_park() of {task!r}, which was asked to park before")
            return -errno.EBUSY
        kthread.should_park = True
        if task is not self._kernel.sched.current:
            kthread.parked = Completion(self._kernel, f"parking of {task.comm}")
            self._kernel.sched.wake_up_process(task)
            kthread.parked.wait_for_completion()
        return 0

    def kthread_unpark(self, task: Task) -> None:
        """Let a parked kthread go on (rule 104)."""
        self._kthread_of(task).should_park = False
        self._kernel.sched.wake_up_state(task, TASK_PARKED)

    def _kthread_of(self, task: Task) -> KThread:
        if task.kthread is None:
            raise not_a_kthread(task)
        return task.kthread.to_kthread(self._kernel, task)

    def late_kthread(self, task: Task) -> KThread:
        """The KThread of a thread that was made without one; it may have ended already."""
        kthread = KThread(self._kernel, f"the end of {task.comm}", None, ())
        if task.flags & PF_EXITING:
            kthread.thread_exits(task, task.exit_code)
        return kthread

    # -- boot

    def fork_kthread(self, fn: Callable[[Any], Any], name: str) -> Task:
        """A kthread made at boot without kthreadd, which is not running yet. Raises OSError as fork does."""
        kernel = self._kernel
        end = KThread(kernel, name, None, ())
        task = kernel.fork.create_thread(end, fn, None, name, parent=self.kthreadd)
        kernel.sched.wake_up_new_task(task)
        return task


def format_name(name: str, args: tuple[Any, ...]) -> str:
    """A kthread's comm: printf-formatted with the thread function's arguments, cut as Linux cuts it (rule 96)."""
    if "%" in name:
        fields = name.count("%") - 2 * name.count("%%")
        name %= args[:fields]
    return name[: TASK_COMM_LEN - 1]
