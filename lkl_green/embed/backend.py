"""What the embedding asks of an event loop.

anyio gives one API for asyncio (with uvloop) and trio, and the embedding uses it wherever a figure does not forbid it.
It does where something happens on each call into the kernel: a fresh `anyio.Event` takes three times as long as what it
wraps, and a task group's child five times as long as a bare task. These few operations are here, once for each loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextvars import Context
    from types import TracebackType

    from lkl_green.embed.scopes import ScopeProbe


class Block(Protocol):
    """A cancel scope."""

    def cancel(self) -> None:
        """Cancel what is inside."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None: ...


class Waiter(ABC):
    """One task waits here, once; another wakes it, before or after."""

    __slots__ = ()

    @abstractmethod
    def wait(self) -> Awaitable[Any]:
        """Wait until woken. Cancellation ends it."""

    @abstractmethod
    def wake(self) -> None:
        """Wake it; on the loop's OS thread. Once is enough, more does nothing."""


class Alarm(ABC):
    """Where the driver's task sleeps: until it is woken or the time has come."""

    __slots__ = ()

    @abstractmethod
    async def wait(self, delay_ns: int | None) -> None:
        """Sleep for at most `delay_ns`; not at all if it was woken since the last time."""

    @abstractmethod
    def wake(self) -> None:
        """End the sleep, or the next one; on the loop's OS thread."""

    @abstractmethod
    def move_up(self, delay_ns: int) -> None:
        """End the sleep that is under way in `delay_ns` at the latest."""


class LoopTask(ABC):
    """A task of the event loop that awaits something for a kernel thread."""

    __slots__ = ()

    @abstractmethod
    def cancel(self) -> None:
        """Cancel it, by the loop's own means."""


class Backend(ABC):
    """One running event loop.

    Attributes:
        name: "asyncio" or "trio".
        cancelled: what cancellation raises in a task.
    """

    name: str
    cancelled: type[BaseException]

    @abstractmethod
    def scope_probe(self) -> ScopeProbe:
        """Tells the innermost cancel scope of the current task; see `lkl_green.embed.scopes`."""

    @abstractmethod
    def new_block(self) -> Block:
        """What `running()` opens around its block."""

    @abstractmethod
    def is_here(self) -> bool:
        """Whether the caller runs in this loop."""

    def is_closed(self) -> bool:
        """Whether nothing will ever run in this loop any more."""
        return False

    def is_cancelled(self) -> bool:
        """Whether the running task, to which a cancellation was delivered, is still meant to be cancelled."""
        return True

    @staticmethod
    @abstractmethod
    def checkpoint() -> Awaitable[Any]:
        """Let the loop run other tasks; cancellation is raised here."""

    @abstractmethod
    def new_waiter(self) -> Waiter:
        """A place for one task to wait."""

    @abstractmethod
    def new_alarm(self) -> Alarm:
        """A place for the driver to sleep."""

    @abstractmethod
    def start(self, main: Callable[[], Coroutine[Any, Any, None]], context: Context, name: str) -> LoopTask:
        """Run `main()` in a task of its own, which belongs to nobody but the caller.

        Args:
            main: lets no exception out but the loop's cancellation.
            context: the context the task runs in, the object itself.
            name: the task's name.
        """

    @abstractmethod
    def watch(self, fd: int, readable: Callable[[], object]) -> Callable[[], object]:
        """Call `readable()` for as long as a descriptor is; returns what ends it, before the descriptor is closed."""

    @abstractmethod
    def call_threadsafe(self, function: Callable[[], object]) -> None:
        """Call a function in the loop soon; from any OS thread and from signal handlers.

        Raises RuntimeError if the loop has gone.
        """
