"""trio.

Tasks for kernel threads are system tasks: they may be given a context, and one that ignores its cancellation keeps
nobody from leaving but the end of `trio.run()`.
"""

# ruff: noqa: D102 - the base classes describe the operations.

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import (
    Abort,
    Task,
    checkpoint,
    current_task,
    current_trio_token,
    disable_ki_protection,
    reschedule,
    spawn_system_task,
    wait_readable,
    wait_task_rescheduled,
)

from lkl_green.embed import scopes
from lkl_green.embed.backend import Alarm, Backend, Block, LoopTask, Waiter
from lkl_green.kernel.fork import Fork

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context


class TrioWaiter(Waiter):
    """The task itself, which is rescheduled."""

    __slots__ = ("_task", "_woken")

    def __init__(self) -> None:
        self._task: Task | None = None
        self._woken = False

    async def wait(self) -> None:
        if self._woken:
            await checkpoint()
            return
        self._task = current_task()
        await wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: object) -> Abort:
        self._task = None
        return Abort.SUCCEEDED

    def wake(self) -> None:
        self._woken = True
        task = self._task
        if task is None:
            return
        if _runs(task):
            # It is an await task in the step in which its coroutine began to wait here: trio has not heard of that yet.
            current_trio_token().run_sync_soon(self.wake)
            return
        self._task = None
        reschedule(task)


def _runs(task: Task) -> bool:
    try:
        return current_task() is task
    except RuntimeError:  # a callback of the loop: no task runs
        return False


class TrioAlarm(Alarm):
    """A cancel scope whose deadline can be moved."""

    __slots__ = ("_scope", "_waiter", "_woken")

    def __init__(self) -> None:
        self._scope: trio.CancelScope | None = None
        self._waiter: TrioWaiter | None = None
        self._woken = False

    async def wait(self, delay_ns: int | None) -> None:
        if self._woken:
            self._woken = False
            await checkpoint()
            return
        self._waiter = TrioWaiter()
        try:
            with trio.CancelScope() as self._scope:
                if delay_ns is not None:
                    self.move_up(delay_ns)
                await self._waiter.wait()
        finally:
            self._scope = self._waiter = None
            self._woken = False

    def wake(self) -> None:
        self._woken = True
        if self._waiter is not None:
            self._waiter.wake()

    def move_up(self, delay_ns: int) -> None:
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + delay_ns / 1e9)


class TrioTask(LoopTask):
    """A system task with a cancel scope around all it does."""

    __slots__ = ("scope",)

    def __init__(self) -> None:
        self.scope = trio.CancelScope()

    def cancel(self) -> None:
        self.scope.cancel()


class TrioBackend(Backend):
    """One running trio loop."""

    __slots__ = ("_token",)

    name = "trio"
    cancelled = trio.Cancelled

    def __init__(self) -> None:
        self._token = current_trio_token()
        # From the frame that Ctrl-C meets, trio looks outwards for one that is marked. The frames of a kernel thread
        # end at its first. If none is marked Ctrl-C waits: a thread that computes could not be interrupted.
        disable_ki_protection(Fork.ret_from_fork)

    def scope_probe(self) -> scopes.ScopeProbe:
        return scopes.of_trio()

    def new_block(self) -> Block:
        return trio.CancelScope()

    def is_here(self) -> bool:
        try:
            return current_trio_token() is self._token
        except RuntimeError:
            return False

    checkpoint = staticmethod(checkpoint)

    def new_waiter(self) -> Waiter:
        return TrioWaiter()

    def new_alarm(self) -> Alarm:
        return TrioAlarm()

    def start(self, main: Callable[[], Coroutine[Any, Any, None]], context: Context, name: str) -> LoopTask:
        task = TrioTask()

        async def scoped() -> None:
            with task.scope:
                await main()

        spawn = partial(spawn_system_task, scoped, name=name, context=context)
        try:
            spawn()
        except (
            RuntimeError
        ):  # the running task is an await task with this context, in which a context cannot be entered
            self._token.run_sync_soon(spawn)
        return task

    def watch(self, fd: int, readable: Callable[[], object]) -> Callable[[], object]:
        scope = trio.CancelScope()

        async def watch() -> None:
            with scope:
                while True:
                    await wait_readable(fd)
                    readable()

        spawn_system_task(watch)
        return scope.cancel

    def call_threadsafe(self, function: Callable[[], object]) -> None:
        self._token.run_sync_soon(function)
