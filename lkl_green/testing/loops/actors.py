"""The actors of an event loop: its tasks, its timers, and its other callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from lkl_green.kernel.points import CALLBACK, CANCEL, START
from lkl_green.testing.loops.awaiting import awaits_at
from lkl_green.testing.loops.handles import code_of
from lkl_green.testing.loops.loop_actor import LoopActor
from lkl_green.testing.source import Where

if TYPE_CHECKING:
    import asyncio


class CallbackActor(LoopActor):
    """The first of the callbacks that stay in order."""

    __slots__ = ("handle",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.kind = CALLBACK
        self.handle: Any = None

    def where(self) -> Where | None:
        """The first line of the callback, if it is the program's."""
        code = code_of(self.handle)
        where = None if code is None else Where(code.co_filename, code.co_firstlineno, code.co_qualname)
        return None if where is None or where.in_standard_library else where


class TaskActor(LoopActor):
    """A task of asyncio. It is held weakly: a task that nothing refers to is to be collected as always.

    Attributes:
        runs_loop: whether the loop runs until this task ends.
        cancellation: the actor that cancels it.
    """

    __slots__ = ("_task", "cancellation", "runs_loop")

    def __init__(self, name: str, task: asyncio.Task[Any]) -> None:
        super().__init__(name)
        self._task = ref(task)
        self.runs_loop = False
        self.cancellation = CancelActor(name, self)

    def where(self) -> Where | None:
        """The line at which it waits."""
        task = self._task()
        return None if task is None else awaits_at(task)

    @property
    def can_be_cancelled(self) -> bool:
        """Whether it waits at an `await`, was not cancelled, and is not the one that the loop is run for."""
        task = self._task()
        return (
            task is not None and self.kind != START and not self.runs_loop and not task.done() and not task.cancelling()
        )

    def cancel(self) -> None:
        """Cancel it."""
        task = self._task()
        if task is not None:
            task.cancel()


class CancelActor(LoopActor):
    """The cancellation of a task. It bears the name of the task, and no decision has both as options."""

    __slots__ = ("target",)

    def __init__(self, name: str, target: TaskActor) -> None:
        super().__init__(name)
        self.kind = CANCEL
        self.target = target

    def where(self) -> Where | None:
        """The line at which the task waits."""
        return self.target.where()
