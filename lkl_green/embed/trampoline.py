"""Kernel threads whose function is `async def`: their own steps run in the kernel, their awaits in the loop.

    await task, of the loop                  kernel thread
    step: slice  ------------------------->  coroutine.send(): kernel functions, up to the next await
    yield what it yielded, to the loop <---  sleep
    step: slice, with the answer  -------->  coroutine.send(answer)

A coroutine must be stepped inside the task that it awaits in: time-outs, cancel scopes and all of trio look at the
current task. So whenever the thread runs code of its coroutine, it does so in a slice that runs in a step of its await
task. If the coroutine itself sleeps in the kernel, that step ends; when the thread is woken, in whichever slice, a
notifier of the scheduler sends it to sleep once more until the await task makes another step for it.

*Killing.* TaskKilled, too, is raised in the coroutine in a step of the await task only: wherever else the thread runs,
it waits for such a step first, with PF_KILL_BLOCKED. If the coroutine awaits something in the loop, the await task is
cancelled instead, and the coroutine hears of it as it would without a kernel. Either way it cleans up in its own task,
and the thread ends with it. The block has that done before it halts the kernel. After a panic there is no kernel to do
it: the thread leaves at once, and the await task, which is cancelled, steps the coroutine to its end by itself.
"""

from __future__ import annotations

from functools import partial
from inspect import CORO_SUSPENDED, getcoroutinestate
from typing import TYPE_CHECKING, Any

import anyio

from lkl_green.errors import AwaitCancelled, TaskUnwind
from lkl_green.kernel.task import PF_KILL_BLOCKED, TASK_RUNNING, TASK_UNINTERRUPTIBLE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from lkl_green.embed.driver import Driver
    from lkl_green.kernel.task import Task


class Trampoline:
    """One coroutine between its kernel thread and the loop; the await task awaits it.

    Attributes:
        over: the thread is done with the coroutine.
        cancel: cancels the await task.
    """

    __slots__ = (
        "_cancelled",
        "_closed",
        "_coroutine",
        "_driver",
        "_hopping",
        "_stepped",
        "_task",
        "_turn",
        "_waiter",
        "_yielded",
        "cancel",
        "over",
    )

    def __init__(self, driver: Driver, task: Task, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._driver = driver
        self._task = task
        self._coroutine = coroutine
        self._turn: tuple[Any, BaseException | None] | None = None
        self._yielded: Any = None
        self._stepped = False
        self._hopping = False
        self._waiter: Any = None
        self._cancelled: BaseException | None = None
        self._closed = False
        self.over = False
        self.cancel: Callable[[], object]

    def __repr__(self) -> str:
        return getattr(self._coroutine, "__qualname__", repr(self._coroutine))

    # -- in the kernel thread

    def run(self) -> Any:
        """Step the coroutine to its end; its result. Raises what it raises."""
        sched = self._driver.kernel.sched
        sched.notifiers[self._task] = self._sched_in
        sched.post_switch = True
        self._driver.coroutines[self] = None
        try:
            while True:
                value, error = self._await_turn()
                if error is None:
                    self._yielded = self._coroutine.send(value)
                else:
                    self._yielded = self._coroutine.throw(error)
                self._stepped = True
        except StopIteration as stop:
            return stop.value
        finally:
            del sched.notifiers[self._task]
            self._driver.coroutines.pop(self, None)
            self.over = True
            self._driver.outbox.append(self)

    def _await_turn(self) -> tuple[Any, BaseException | None]:
        self._hop(lambda: self._turn is not None, in_loop=True)
        if self._closed:
            raise AwaitCancelled(f"the coroutine of {self._task.comm}-{self._task.pid} was cancelled before it began")
        turn, self._turn = self._turn, None
        assert turn is not None
        return turn

    def _sched_in(self) -> None:
        """The thread was switched to, maybe in the middle of its coroutine, and maybe in a slice of somebody else."""
        if not self._hopping:
            self._hop(lambda: True)
            if self._task.killed:  # TaskKilled is raised now, and that will do: clean-up may await
                self.cancel = _nothing

    def _hop(self, ready: Callable[[], bool], *, in_loop: bool = False) -> None:
        """Sleep until a step of the await task runs this thread.

        Args:
            ready: whether there is something to do in such a step.
            in_loop: the coroutine awaits something in the loop, and can be cancelled there.
        """
        sched, task = self._driver.kernel.sched, self._task
        self._hopping = True
        blocked = task.flags & PF_KILL_BLOCKED
        task.flags |= PF_KILL_BLOCKED
        try:
            while not self._closed and not (ready() and self._driver.stepping is self):
                if ready():
                    self._driver.outbox.append(self)  # wakes the await task
                elif in_loop and task.killed:
                    self._cancel_once()
                task.state = TASK_UNINTERRUPTIBLE
                sched.schedule()
        finally:
            task.state = TASK_RUNNING
            task.flags = task.flags & ~PF_KILL_BLOCKED | blocked
            self._hopping = False

    def _cancel_once(self) -> None:
        cancel, self.cancel = self.cancel, _nothing
        cancel()

    # -- in the loop

    def kill(self) -> None:
        """Take the thread down: the kernel is about to halt."""
        self._driver.kernel.exits.take_down(self._task)
        self._driver.wake()

    def in_loop(self) -> None:
        """The thread wants a step of the await task, or has ended."""
        if self._waiter is not None:
            self._waiter.wake()

    def __await__(self) -> Generator[Any, Any, Any]:
        """What the await task does."""
        value: Any = None
        error: BaseException | None = None
        while True:
            yield from self._step(value, error)
            if self.over:
                if getcoroutinestate(self._coroutine) != CORO_SUSPENDED:
                    return None
                return (yield from self._to_the_end())
            if self._cancelled is not None:
                raised, self._cancelled = self._cancelled, None
                if self._driver.backend.is_cancelled():  # else whoever cancelled has taken it back
                    value, error = None, raised
                    continue
            try:
                value, error = (yield self._yielded), None
            except BaseException as raised:
                if self.over:
                    return (yield from _finish(self._coroutine, partial(self._coroutine.throw, raised)))
                value, error = None, raised

    def _to_the_end(self) -> Generator[Any, Any, Any]:
        """The thread has left its coroutine, because the kernel halts: go on without it, where it is.

        What it has yielded last, the loop still has to hear of; or the loop has answered, and the answer is in `_turn`.
        """
        if self._stepped:
            return (yield from _finish(self._coroutine, lambda: self._yielded))
        value, error = self._turn or (None, None)
        step = partial(self._coroutine.send, value) if error is None else partial(self._coroutine.throw, error)
        return (yield from _finish(self._coroutine, step))

    def _step(self, value: Any, error: BaseException | None) -> Generator[Any, Any, None]:
        driver, task = self._driver, self._task
        self._turn, self._stepped = (value, error), False
        while not self._stepped and not self.over:
            if self._hopping:
                driver.kernel.sched.wake_up_process(task)
            self._waiter = driver.backend.new_waiter()
            driver.stepping, outer = self, driver.stepping
            driver.slice()
            driver.stepping = outer
            if self._stepped or self.over or driver.has_ended():
                break
            try:
                yield from self._wait(task.state == TASK_RUNNING).__await__()
            except driver.backend.cancelled as error:  # asyncio's own, which knows no shields
                self._cancelled = error
        self._waiter = None

    async def _wait(self, runnable: bool) -> None:
        """Let others run. A kernel thread that sleeps in the kernel hears of cancellation at its next await."""
        with anyio.CancelScope(shield=True):
            if runnable:  # the slice has ended before its turn came
                await self._driver.backend.checkpoint()
            else:
                await self._waiter.wait()

    def close(self) -> None:
        """It was never begun, and never will be."""
        self._coroutine.close()
        if not self.over:
            self._closed = True
            self._driver.kernel.sched.wake_up_process(self._task)

    def send(self, _value: object) -> None:
        """Looks like a coroutine, for whoever closes those that are never awaited."""
        raise TypeError("await it")


def _nothing() -> None:
    """The await task has been cancelled already."""


def _finish(coroutine: Coroutine[Any, Any, Any], step: Callable[[], Any]) -> Generator[Any, Any, Any]:
    """Step a coroutine without its thread to its end.

    Args:
        coroutine: it.
        step: the first step; gives what the coroutine yields.
    """
    try:
        yielded = step()
        while True:
            try:
                value = yield yielded
            except BaseException as raised:
                yielded = coroutine.throw(raised)
            else:
                yielded = coroutine.send(value)
    except StopIteration as stop:
        return stop.value
    except TaskUnwind:
        return None
