"""Host tasks: the kernel's view of the application's threads that make system calls (rules 48 to 57).

Each OS thread that calls `lkl_syscall()` has one task in the kernel, a thread of init named host0, host1, ...: made at
its first call, used again for later ones, gone when the OS thread has ended. Which context runs the call differs:

- The owner's OS thread cannot run it itself: its stack is swapper's. Its host task has a context of its own, and the
  caller runs `lkl_run()` and `pause()` until the call is done.
- A foreign OS thread borrows its host task, LKL's way, where the architecture can do that (OS threads and semaphores).
  Elsewhere its call runs in a context of the host task's own, and the thread waits.

The kernel sees the same either way: a task that sleeps uninterruptibly outside of calls, is woken for each, and sleeps
again. No other wake-up ends that sleep, not even a stray one by somebody who waited for the task to say something in
its last call: its OS thread is elsewhere, and the kernel would switch to nobody. A foreign call is *posted*, and taken
in at the kernel's named points like an interrupt. So is the end of a foreign thread: its last words are left in the
same box, and it does not wait for an answer, because whoever joins it may be the one who would have to run the kernel.
"""

from __future__ import annotations

import errno
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from lkl_green.arch.base import TIF_HOST_THREAD
from lkl_green.errors import (
    Deadlock,
    HostError,
    HostMisuse,
    HostThreadExit,
    TaskExit,
    TaskKilled,
    TaskUnwind,
    WrongThread,
)
from lkl_green.host.native import allocate_lock
from lkl_green.kernel.current import running_here
from lkl_green.kernel.fork import THREAD_FLAGS
from lkl_green.kernel.hostcall import HostTask, Post, Request
from lkl_green.kernel.state import SystemState
from lkl_green.kernel.task import PF_NEWBORN, TASK_OUTSIDE, TASK_RUNNING

if TYPE_CHECKING:
    from contextvars import Context

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task

_RUNNING, _HALTED = SystemState.RUNNING, SystemState.HALTED

# What a host task between two calls waits for; such a task is not deadlocked.
OUTSIDE = "the application's next system call"


class HostTasks:
    """The host tasks of one kernel. Raises OSError(ENOMEM) if the host has no TLS key for it.

    Attributes:
        posts: what foreign threads have left and the kernel has not taken in.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.posts: deque[Post] = deque()
        self._alive: dict[HostTask, None] = {}
        self._id = 0
        self._of_owner: HostTask | None = None
        key = kernel.host.tls_alloc(self._thread_ends)
        if key is None:
            raise OSError(errno.ENOMEM, "the host gave no TLS key for host tasks")
        self._key = key

    # -- the application's side

    def syscall_of_owner(self, nr: int, params: tuple[Any, ...]) -> int:
        """A call by the application on the owner's OS thread, which may run the kernel: do so until it is done."""
        kernel = self._kernel
        host_task = self._of_owner
        if host_task is None or host_task.task is None:
            try:
                host_task = self._of_this_thread(borrowed=False)
                if host_task.task is None:
                    self._new_host_task(host_task, 0, copy_context())
            except OSError as error:
                return -(error.errno or errno.ENOMEM)
            self._of_owner = host_task
        request = Request(nr, params)
        self._start(host_task, request)
        while not request.done:
            status = kernel.loop.run_until_idle()
            if not request.done and kernel.sched.system_state is not _HALTED:
                if kernel.loop.hopeless(status):
                    raise Deadlock(kernel.reports.deadlock(f"system call {nr} of the application never returns"))
                kernel.loop.pause(status)
        return request.outcome()

    def syscall_of_foreign(self, nr: int, params: tuple[Any, ...]) -> int:
        """A call by another OS thread: post it and wait."""
        kernel = self._kernel
        if kernel.owner.forked_away:
            raise kernel.owner.forked("lkl_syscall()")
        self._check_owner_is_free()
        try:
            host_task = self._of_this_thread(borrowed=kernel.arch.can_borrow())
        except OSError as error:
            return -(error.errno or errno.ENOMEM)
        except HostMisuse:
            if kernel.halted:  # since lkl_syscall() looked
                return -errno.ESHUTDOWN
            raise
        request = Request(nr, params)
        request.answered = allocate_lock()
        request.answered.acquire()
        post = Post(host_task, request, kernel.host.thread_self())
        if not self._leave(post):
            return -errno.ESHUTDOWN
        if host_task.borrowed:
            kept = self._wait_until_accepted(post)
            while not request.done:
                assert host_task.task is not None
                try:
                    kernel.arch.borrow(host_task.task, lambda: self._run_borrowed(host_task))
                except (HostError, HostThreadExit):
                    raise
                except BaseException as error:
                    kept = error
            if kept is not None:
                raise kept
        request.answered.acquire()
        return request.outcome()

    def _wait_until_accepted(self, post: Post) -> BaseException | None:
        """Wait until the kernel has taken a post in; returns an exception to be raised after the call.

        An exception that comes before that takes the post back, and is raised at once. Afterwards the kernel waits for
        this thread, which has to make its call first.
        """
        kept: BaseException | None = None
        while not post.is_accepted:
            try:
                post.accepted.acquire()
            except BaseException as error:
                kept = error
                try:
                    self.posts.remove(post)
                except ValueError:
                    continue
                raise
        return kept

    def _check_owner_is_free(self) -> None:
        """Raises WrongThread for a kernel thread whose own kernel keeps the owner's OS thread from ever answering."""
        caller = running_here.kernel
        if caller is not None and caller.has_same_owner(self._kernel):
            raise WrongThread(
                f"lkl_syscall() of kernel {self._kernel.name} by a kernel thread of {caller.name}: one OS thread runs "
                "both, and waits for the caller; let the application make the call, or give each kernel an OS thread"
            )

    def new_thread_group_leader(self) -> None:
        """Make the calling thread's future host task a process of its own (LKL_TASK_NEW_TGID, rule 51).

        Raises OSError(EBUSY) if it has made a system call already.
        """
        if self._kernel.host.tls_get(self._key) is not None:
            raise OSError(errno.EBUSY, "this thread has a host task already")
        host_task = self._of_this_thread(borrowed=self._kernel.is_foreign() and self._kernel.arch.can_borrow())
        host_task.new_group = True

    def _of_this_thread(self, borrowed: bool) -> HostTask:
        host = self._kernel.host
        host_task: HostTask | None = host.tls_get(self._key)
        if host_task is None or (host_task.ended and host_task.task is None):
            host_task = HostTask(borrowed, False)
            if host.tls_set(self._key, host_task):
                raise OSError(errno.ENOMEM, "the host gave no memory for a host task")
        return host_task

    def _leave(self, post: Post) -> bool:
        """Put a post into the box; False if the kernel has halted and will not look any more."""
        kernel = self._kernel
        self.posts.append(post)
        if kernel.sched.system_state is _HALTED:
            self.refuse_all()
            return False
        if not kernel.clock.is_virtual:  # there it is taken in when idle, and a checkpoint would end a time slice
            kernel.sched.checkpoint = 0
        kernel.host.doorbell()
        return True

    def _thread_ends(self, host_task: HostTask) -> None:
        """TLS destructor, on the ending OS thread (rule 53)."""
        if not self._kernel.halted:
            self._leave(Post(host_task, None, 0))

    # -- the kernel's side

    def take_posts(self) -> None:
        """Take in what foreign threads have left; at a named point of the kernel."""
        posts = self.posts
        if self._kernel.sched.system_state is not _RUNNING:
            # The host tasks are being taken down, on other threads than their own: they must not be given calls.
            self.refuse_all()
            return
        while posts:
            post = posts.popleft()
            if post.request is None:
                self._end(post.host_task)
            else:
                self._accept(post, post.request)

    def _accept(self, post: Post, request: Request) -> None:
        host_task = post.host_task
        try:
            if host_task.task is None:
                self._new_host_task(host_task, post.tid, post.context)
            assert host_task.task is not None
            if host_task.borrowed:
                host_task.task.tid = post.tid  # always refreshed, before the switch (rule 35)
            self._start(host_task, request)
        except OSError as error:
            request.answer(-(error.errno or errno.ENOMEM))
        except BaseException:
            self._accept_after_exception(post, request)
            raise
        post.accept()

    def _accept_after_exception(self, post: Post, request: Request) -> None:
        """An exception came while a post was taken in: refuse it if it has no task yet, else start its task."""
        task = post.host_task.task
        if task is None:
            request.answer(-errno.EINTR)
        else:
            post.host_task.request = request
            task.tid = post.tid if post.host_task.borrowed else task.tid
            task.waiting_for = None
            self._kernel.sched.wake_up_state(task, TASK_OUTSIDE)
        post.accept()

    def _start(self, host_task: HostTask, request: Request) -> None:
        host_task.request = request
        task = host_task.task
        assert task is not None
        # If not, it is in a call that its caller left with an exception, and finds this one next.
        if task.waiting_for is OUTSIDE:
            task.waiting_for = None
            self._kernel.sched.wake_up_state(task, TASK_OUTSIDE)

    def _new_host_task(self, host_task: HostTask, tid: int, context: Context) -> None:
        """A thread of init, or a process of its own, that sleeps outside the kernel (rules 50, 51)."""
        kernel = self._kernel
        task = kernel.fork.copy_process(
            0 if host_task.new_group else THREAD_FLAGS,
            None,
            self._serve,
            host_task,
            name=f"host{self._id}",
            parent=kernel.init_task,
            thread_flags=TIF_HOST_THREAD if host_task.borrowed else 0,
            context=context,
        )
        self._id += 1
        if host_task.borrowed:
            task.tid = tid
            task.flags &= ~PF_NEWBORN  # it begins in the middle of its OS thread's life, not in ret_from_fork
        task.waiting_for = OUTSIDE
        task.state = TASK_OUTSIDE
        host_task.task = task
        self._alive[host_task] = None

    def _end(self, host_task: HostTask) -> None:
        """The OS thread of a host task has ended: let the task exit."""
        host_task.ended = True
        task = host_task.task
        if task is None or task.exit_state:
            return
        try:
            if host_task.borrowed:
                self._kernel.arch.orphan_thread(task)
        except OSError:
            self._kernel.printk.warn(f"{task.comm}-{task.pid} stays until halt: no host thread for it to exit on")
            return
        self._kernel.sched.wake_up_state(task, TASK_OUTSIDE)

    def outside(self, task: Task) -> bool:
        """Whether a task is a host task between two calls."""
        return task.waiting_for is OUTSIDE

    # -- running calls

    def _serve(self, host_task: HostTask) -> None:
        """Thread function of a host task that has a context of its own."""
        sched = self._kernel.sched
        task = sched.current
        try:
            while not host_task.ended:
                request = host_task.request
                if request is not None:
                    self._run(host_task, request)
                    continue
                task.waiting_for = OUTSIDE
                task.state = TASK_OUTSIDE
                sched.schedule()
                task.state = TASK_RUNNING
            raise TaskExit(0)
        finally:
            self._died(host_task)

    def _run(self, host_task: HostTask, request: Request) -> None:
        """Run one call and answer it, whatever comes out of it."""
        host_task.request, host_task.serving = None, request
        try:
            request.answer(self._kernel.syscalls.dispatch(request.nr, request.params))
        except TaskKilled:
            request.answer(-errno.ESHUTDOWN)
            raise
        except TaskUnwind:
            request.answer(-errno.EINTR)
            raise
        except BaseException as error:
            # A mistake in the caller's arguments is the caller's to see; the host task lives on.
            request.answer(-errno.EFAULT, error)
        host_task.serving = None

    def _run_borrowed(self, host_task: HostTask) -> Task | None:
        """One call on the caller's own OS thread; the task to run next if the host task was taken down in it."""
        kernel = self._kernel
        task = host_task.task
        request = host_task.request
        assert task is not None
        outer, running_here.kernel = running_here.kernel, kernel  # the caller may be a kernel thread of another kernel
        try:
            if request is not None:
                kernel.sched.schedule_tail()
                self._run(host_task, request)
        except TaskExit as exit:
            return self._exit(host_task, task, exit.args[0])
        except BaseException as error:
            return self._exit(host_task, task, kernel.faults.task_died(task, error))
        finally:
            running_here.kernel = outer
        if task.killed:  # and the call swallowed it
            return self._exit(host_task, task, -errno.ESHUTDOWN)
        task.waiting_for = OUTSIDE
        task.state = TASK_OUTSIDE
        return None

    # -- the end

    def _exit(self, host_task: HostTask, task: Task, code: Any) -> Task:
        """The current task ends on a borrowed thread; the task to run next."""
        exits = self._kernel.exits
        try:
            self._died(host_task)
            return exits.exit_task(task, code)
        except BaseException as error:
            return exits.exit_after_exception(task, error)

    def _died(self, host_task: HostTask) -> None:
        """The task is gone: its OS thread gets another one if it calls again, and an answer if it waits."""
        host_task.task = None
        self._alive.pop(host_task, None)
        for request in (host_task.request, host_task.serving):
            if request is not None and not request.done:
                request.answer(-errno.ESHUTDOWN)
        host_task.request = host_task.serving = None

    def dropped(self, task: Task) -> None:
        """A task is dropped that never ran; if it is a host task, its OS thread waits for its first call."""
        if isinstance(task.arg, HostTask):
            self._died(task.arg)

    def refuse_all(self) -> None:
        """The kernel has halted: answer whatever is still in the box."""
        while self.posts:
            try:
                post = self.posts.popleft()
            except IndexError:  # another OS thread does the same
                return
            if post.request is not None:
                post.request.answer(-errno.ESHUTDOWN)
            post.accept()

    def cleanup(self) -> None:
        """Answer whoever still waits, even for a task that did not end, and give the TLS key back."""
        self.refuse_all()
        for host_task in list(self._alive):
            self._died(host_task)
        self._kernel.host.tls_free(self._key)
