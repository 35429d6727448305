"""Cancel scopes of the event loop that kernel threads leave open across a switch.

A cancel scope belongs to the task of the loop that runs the slice. Between two switches that is as good as anything. A
kernel thread that sleeps inside one leaves the scope to a task that knows nothing of it, and is resumed in another one:
scopes of several threads interleave, deadlines hit whoever happens to run. anyio and trio notice at some later exit,
and blame whoever comes first. Here the innermost scope of the task is looked at before and after a slice: it is the
same, or some kernel thread that sleeps now has left one open.

What the innermost scope is, neither library tells in public; where their insides have changed, nothing is detected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.errors import ScopeAcrossSwitch
from lkl_green.kernel.task import TASK_NOLOAD
from lkl_green.kernel.watchdog import kernel_code_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.kernel import Kernel


def of_asyncio() -> Callable[[], Any]:
    """A function that tells the innermost cancel scope of anyio in the current task of asyncio."""
    import asyncio

    try:
        from anyio._backends._asyncio import _task_states
    except ImportError:
        return lambda: None
    states: Any = _task_states
    current_task = asyncio.current_task

    def innermost() -> Any:
        task = current_task()
        state = None if task is None else states.get(task)
        return None if state is None else state.cancel_scope

    return innermost


def of_trio() -> Callable[[], Any]:
    """A function that tells the innermost cancel scope of the current task of trio."""
    from trio.lowlevel import current_task

    def innermost() -> Any:
        status = getattr(current_task(), "_cancel_status", None)
        return getattr(status, "_scope", None)

    return innermost


def close(innermost: Callable[[], Any], before: Any) -> None:
    """Close what a slice has left open, for the task that has inherited it."""
    for _ in range(100):
        scope = innermost()
        if scope is before or scope is None:
            return
        scope.__exit__(None, None, None)


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
