"""What a ready callback of an event loop is: a task's step, a timer, or neither.

asyncio keeps callbacks in handles and does not say which of them run a task. A task's step is a bound method of the
task: `TaskStepMethWrapper` and `task_wakeup` where tasks are written in C, `__step` and `__wakeup` where they are
written in Python. Other methods of a task, such as `call_soon(task.cancel)`, are ordinary callbacks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType

_STEP_TYPE = "TaskStepMethWrapper"
_STEP_NAMES = frozenset(("task_wakeup", "__step", "__wakeup"))


def task_of(handle: Any) -> asyncio.Task[Any] | None:
    """The task that a callback starts or continues; None if it is not a task's."""
    callback = handle._callback
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return None
    is_step = type(callback).__name__ == _STEP_TYPE or getattr(callback, "__name__", "") in _STEP_NAMES
    return task if is_step else None


def future_of(handle: Any) -> asyncio.Future[Any] | None:
    """The future whose end made a callback ready; None if it was something else.

    Futures call their callbacks with themselves as the only argument.
    """
    args = handle._args
    if args and len(args) == 1 and asyncio.isfuture(args[0]):
        return args[0]
    return None


def code_of(handle: Any) -> CodeType | None:
    """The code of a callback that is a function or method in Python."""
    callback = handle._callback
    callback = getattr(callback, "func", callback)  # a partial
    code: CodeType | None = getattr(getattr(callback, "__func__", callback), "__code__", None)
    return code


def runs_the_loop(task: asyncio.Task[Any]) -> bool:
    """Whether `run_until_complete()` runs the loop until this task ends, as `asyncio.run()` does for its coroutine."""
    waiting: Any = task._callbacks
    return any(getattr(entry[0], "__name__", "") == "_run_until_complete_cb" for entry in waiting or ())
