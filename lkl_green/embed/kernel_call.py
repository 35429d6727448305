"""A call into the kernel: a function of the application, run as a kernel thread.

*Cancelling* the await takes the thread down, not the kernel: TaskKilled is raised at the thread's sleep, so that its
`finally` blocks run, and the caller waits until it has ended. Linux ends killable sleeps by SIGKILL and leaves the
uninterruptible ones alone. Here each sleep of such a thread is treated as killable: a thread that works for a task of
the loop must not delay the cancellation of that task, and msleep() is uninterruptible.
"""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any, NoReturn

from lkl_green.embed.await_task import cancelled_in_loop
from lkl_green.embed.from_kernel import run_coroutine
from lkl_green.errors import KernelHalted, TaskExit, TaskUnwind
from lkl_green.kernel.taskend import Stoppable

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from lkl_green.embed.backend import Waiter
    from lkl_green.embed.driver import Driver
    from lkl_green.kernel.task import Task


class Call(Stoppable):
    """A function on its way through the kernel.

    Attributes:
        fn, args: the function and its arguments, until it runs.
        done: whether the thread has ended; `failed`: with an exception.
        result, error: what the function returned, or raised.
        task: the kernel thread.
        context: its context variables, if the thread was not made for this call.
        waiter: where the caller waits.
        undo: gives back what the function took, if the caller is cancelled and does not get it.
    """

    __slots__ = ("args", "context", "done", "driver", "error", "fn", "result", "task", "undo", "waiter")

    def __init__(
        self,
        driver: Driver,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        undo: Callable[[], object] | None = None,
    ) -> None:
        self.undo = undo
        self.fn: Callable[..., Any] | None = fn
        self.args = args
        self.kthread = None
        self.result: Any = None
        self.driver = driver
        self.done = False
        self.error: BaseException | None = None
        self.waiter: Waiter | None = None
        self.task: Task
        self.context: Context | None = None

    @property
    def failed(self) -> bool:
        """Whether it raised something."""
        return self.error is not None

    # -- in the kernel

    def run(self, _arg: object) -> Any:
        """The thread function."""
        fn, args = self.fn, self.args
        assert fn is not None
        self.fn, self.args = None, ()
        try:
            result = fn(*args) if args else fn()
            if type(result) is CoroutineType:
                result = run_coroutine(result)
        except TaskExit as exit:
            return exit.args[0]
        except Exception as error:  # the caller's to see, and no oops
            self.error = error
            return None
        except self.driver.backend.cancelled as error:  # of something it awaited or asked for its result
            self._was_cancelled(error)
            return None
        except TaskUnwind:
            raise
        except BaseExceptionGroup as group:  # task groups put what cancelled or killed them together with errors
            rest = group.split((TaskUnwind, self.driver.backend.cancelled))[1]
            if rest is None:
                self._was_cancelled(group)
            elif isinstance(rest, Exception):
                self.error = rest
            else:
                self.error = KernelHalted(f"the call was left by {rest!r}, which ends the kernel")
                raise rest from None
            return None
        except BaseException as error:  # meant for the application: it ends the kernel, and the caller goes on no more
            self.error = KernelHalted(f"the call was left by {type(error).__name__}, which ends the kernel")
            raise
        return result

    def _was_cancelled(self, error: BaseException) -> None:
        self.error = _killed(self.task) if self.task.killed else cancelled_in_loop(self.task, error)
        self.error.__cause__ = error

    def thread_exits(self, task: Task, code: Any) -> None:
        """The thread has ended, was killed, or never ran."""
        if self.error is None and (task.killed or self.fn is not None):
            self.error = _killed(task)
        self.ended(code)

    def ended(self, code: Any) -> None:
        """The function has returned, or its thread has died."""
        self.done = True
        if self.error is None:
            self.result = code
        if self.kthread is not None:
            self.kthread.thread_exits(self.task, code)
        if self.waiter is not None:  # else the caller looks at `done` after the slice, which is its own
            self.driver.outbox.append(self)

    # -- in the loop

    def in_loop(self) -> None:
        """The driver deals with the thread's end."""
        self.driver.pending.pop(self, None)
        if self.waiter is not None:
            self.waiter.wake()

    def kernel_has_gone(self) -> None:
        """The kernel has halted, and this thread did not end."""
        if not self.done:
            self.done = True
            self.error = KernelHalted("the kernel has halted during the call, whose thread did not end")
        self.in_loop()

    def kill(self) -> None:
        """Take the thread down, at once if the kernel has nothing else to do."""
        driver = self.driver
        if self.done:
            return
        if driver.has_ended():  # it runs no more, and the block will not halt it before its tasks have ended
            self.kernel_has_gone()
            return
        was_idle = driver.is_idle()
        driver.kernel.exits.take_down(self.task)
        if self.done:
            self.in_loop()
            return
        driver.go_on(was_idle)
        if not self.done and self.task in driver.kernel.reboot.abandoned:  # it slept again and again while killed
            self.kernel_has_gone()


def raise_error(call: Call) -> NoReturn:
    """Raise what the function raised."""
    error, call.error = call.error, None
    assert error is not None
    try:
        raise error
    finally:
        del error  # it has our frame in its traceback


def _killed(task: Task) -> BaseException:
    return KernelHalted(f"{task.comm}-{task.pid}, which ran the call, was taken down; the kernel halts, or was told to")
