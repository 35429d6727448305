"""asyncio, and uvloop, which is the same from here."""

# ruff: noqa: D102 - the base classes describe the operations.

from __future__ import annotations

import asyncio
import types
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import anyio

from lkl_green.embed import scopes
from lkl_green.embed.backend import Alarm, Backend, Block, LoopTask, Waiter
from lkl_green.host.native import get_ident

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from contextvars import Context
    from types import TracebackType


@types.coroutine
def _bare_yield() -> Generator[None, None, None]:
    """What `asyncio.sleep(0)` does."""
    yield


class AsyncioWaiter(Waiter):
    """A future."""

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def wait(self) -> Awaitable[Any]:
        return self._future

    def wake(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


class AsyncioAlarm(Alarm):
    """A future for each sleep, and a timer handle for its end."""

    __slots__ = ("_future", "_loop", "_timer", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._woken = False

    async def wait(self, delay_ns: int | None) -> None:
        if self._woken:
            self._woken = False
            await _bare_yield()
            return
        self._future = self._loop.create_future()
        if delay_ns is not None:
            self.move_up(delay_ns)
        try:
            await self._future
        finally:
            self._future = None
            self._woken = False
            self._set_timer(None)

    def wake(self) -> None:
        self._woken = True
        future = self._future
        if future is not None and not future.done():
            future.set_result(None)

    def move_up(self, delay_ns: int) -> None:
        when = self._loop.time() + delay_ns / 1e9
        if self._future is not None and (self._timer is None or when < self._timer.when()):
            self._set_timer(self._loop.call_at(when, self.wake))

    def _set_timer(self, timer: asyncio.TimerHandle | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer


class AsyncioBlock:
    """A cancel scope that another task may leave than the one that has entered it, if that one has ended.

    Fixtures of pytest-asyncio, cells of a notebook and `on_startup` hooks are tasks of their own: one of them enters
    the block, another one leaves it. A scope of anyio has to be left by the task that entered it, but it dies with that
    task; whoever leaves then has no scope to leave, and there is nobody to be cancelled.
    """

    __slots__ = ("_scope", "_task")

    def __init__(self) -> None:
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[Any] | None = None

    def cancel(self) -> None:
        if self._task is not None and not self._task.done():
            self._scope.cancel()

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        task = self._task
        if task is not None and task is not asyncio.current_task() and task.done():
            return None
        return self._scope.__exit__(kind, error, trace)


class AsyncioTask(LoopTask):
    """A bare task."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def cancel(self) -> None:
        self._task.cancel()


class AsyncioBackend(Backend):
    """One running asyncio loop."""

    __slots__ = ("_loop", "_thread")

    name = "asyncio"
    cancelled = asyncio.CancelledError

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = get_ident()

    def scope_probe(self) -> scopes.ScopeProbe:
        return scopes.of_asyncio(self._loop)

    def new_block(self) -> Block:
        return AsyncioBlock()

    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def is_here(self) -> bool:
        # On CPython 3.11 asyncio.get_running_loop() makes a system call, getpid(), each time.
        return get_ident() == self._thread and self._loop.is_running()

    def is_cancelled(self) -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    checkpoint = staticmethod(_bare_yield)

    def new_waiter(self) -> Waiter:
        return AsyncioWaiter(self._loop)

    def new_alarm(self) -> Alarm:
        return AsyncioAlarm(self._loop)

    def start(self, main: Callable[[], Coroutine[Any, Any, None]], context: Context, name: str) -> LoopTask:
        # Not loop.create_task(): a factory of the application may be eager, or know no contexts.
        return AsyncioTask(asyncio.Task(main(), loop=self._loop, name=name, context=context))

    def watch(self, fd: int, readable: Callable[[], object]) -> Callable[[], object]:
        self._loop.add_reader(fd, readable)
        return partial(self._loop.remove_reader, fd)

    def call_threadsafe(self, function: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(function)
