"""Cancel scopes of the event loop that kernel threads leave open across a switch.

A cancel scope belongs to the task of the loop that runs the slice. Between two switches that is as good as anything. A
kernel thread that sleeps inside one leaves the scope to a task that knows nothing of it, and is resumed in another one:
scopes of several threads interleave, deadlines hit whoever happens to run. anyio and trio notice at some later exit,
and blame whoever comes first. Here the innermost scope of the task is looked at before and after a slice: it is the
same, or some kernel thread that sleeps now has left one open.

What the innermost scope is, neither library tells in public: all that reads their insides is here. A probe proves on a
scope of its own that it sees; one that does not, because those insides have changed, is replaced by one that is blind.
"""

from __future__ import annotations

import asyncio
from operator import attrgetter
from types import FunctionType
from typing import TYPE_CHECKING, Any
from weakref import ref

import anyio

from lkl_green.errors import ScopeAcrossSwitch
from lkl_green.kernel.stacktext import kernel_code_line
from lkl_green.kernel.task import TASK_NOLOAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.kernel import Kernel


class ScopeProbe:
    """Tells the innermost cancel scope of the current task, in two steps of which the second is cheap.

    Attributes:
        holder: what keeps the current task's scopes; None as long as nothing does, or if there is no task.
        innermost: the innermost scope that a holder keeps.
    """

    __slots__ = ("holder", "innermost")

    def __init__(self, holder: Callable[[], Any], innermost: Callable[[Any], Any]) -> None:
        self.holder = holder
        self.innermost = innermost

    def look(self) -> Any:
        """The innermost scope of the current task; None if there is none."""
        holder = self.holder()
        return None if holder is None else self.innermost(holder)

    def sees(self) -> bool:
        """Whether it notices a scope that is opened in the current task."""
        try:
            before = self.look()
            with anyio.CancelScope():
                inside = self.look()
            return inside is not before
        except Exception:
            return False

    def close(self, before: Any) -> None:
        """Close what a slice has left open inside of `before`, for the task that has inherited it."""
        for _ in range(100):
            scope = self.look()
            if scope is before or scope is None:
                return
            scope.__exit__(None, None, None)


def of_asyncio(loop: asyncio.AbstractEventLoop) -> ScopeProbe:
    """For tasks of asyncio, whose scopes are anyio's."""
    try:
        get_state = _states_of_anyio().data.get
    except (ImportError, AttributeError):
        return _blind()
    current_task = _current_task()
    last: Any = None  # kept, so that the next reference to the same task is the same object, with its hash

    def holder() -> Any:
        nonlocal last
        task = current_task(loop)
        if task is None:
            return None
        last = ref(task)
        return get_state(last)

    return _proven(ScopeProbe(holder, attrgetter("cancel_scope")))


def _states_of_anyio() -> Any:
    from anyio._backends import _asyncio

    return _asyncio._task_states


def _current_task() -> Callable[[Any], Any]:
    """asyncio.current_task(); CPython 3.11 has it in Python only, and later versions lack the dict it looks into."""
    tasks: Any = asyncio.tasks
    if isinstance(asyncio.current_task, FunctionType) and hasattr(tasks, "_current_tasks"):
        get: Callable[[Any], Any] = tasks._current_tasks.get
        return get
    return asyncio.current_task


def of_trio() -> ScopeProbe:
    """For tasks of trio."""
    from trio.lowlevel import current_task

    return _proven(ScopeProbe(current_task, attrgetter("_cancel_status._scope")))


def _proven(probe: ScopeProbe) -> ScopeProbe:
    return probe if probe.sees() else _blind()


def _blind() -> ScopeProbe:
    return ScopeProbe(lambda: None, lambda _holder: None)


def _is(value: Any, scope: Any) -> bool:
    """Whether a local variable is the scope, or anyio's wrapper of it."""
    return value is scope or getattr(value, "_CancelScope__original", None) is scope


def left_open(kernel: Kernel, scope: Any) -> ScopeAcrossSwitch:
    """A slice has left `scope` open: an error that says who may have opened it."""
    suspects, all_sleepers = [], []
    for task in kernel.pids:
        frame = None if task.state & TASK_NOLOAD else kernel.arch.stack_of(task)
        if frame is None:
            continue
        description = f"{task.comm}-{task.pid} at {kernel_code_line(frame)}"
        all_sleepers.append(description)
        while frame is not None:
            if any(_is(value, scope) for value in frame.f_locals.values()):
                suspects.append(description)
                break
            frame = frame.f_back
    who = ", ".join(suspects) or " or ".join(all_sleepers) or "a kernel thread"
    return ScopeAcrossSwitch(
        f"BUG: cancel scope of the event loop open across a switch: {who}. A kernel thread has no task of its own to "
        "open it in; pass timeout_ns to await_(), or put the scope into a coroutine and await_() that"
    )
