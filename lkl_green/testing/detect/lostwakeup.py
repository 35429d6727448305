"""Lost wake-ups: a task sleeps, and what it sleeps for has happened.

Two things give it away. The condition of a `wait_event()` stands in the sleeper's own frame: if it is true now, nobody
has woken the queue since. And a notification that came before the wait began is gone: condition variables and wait
queues remember none. (Semaphores and completions do, so that the order does not matter with them.) A wait in a loop
that looks at something before it waits again misses nothing by that.
"""

from __future__ import annotations

import ast
import linecache
from typing import TYPE_CHECKING, Any

from lkl_green.kernel.points import kinds
from lkl_green.kernel.stacktext import own_code_frame, task_frames
from lkl_green.kernel.wait import WaitQueueHead
from lkl_green.testing.source import Where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.waitfor import Wait
    from lkl_green.testing.detect.evidence import Evidence

# Notifications that are not remembered, and what waits for them.
_FORGOTTEN = kinds(lambda point: point.forgotten and not point.waits)
_WAITS = kinds(lambda point: point.forgotten and point.waits)
_DO_WAIT = WaitQueueHead.do_wait.__code__


def hints(kernel: Kernel, waits: Iterable[Wait], evidence: Evidence) -> Iterator[str]:
    """A line for each sleeper that seems to have missed its wake-up."""
    for wait in waits:
        name = evidence.task(wait.task)
        condition = _condition(kernel.arch.stack_of(wait.task))
        if condition is not None:
            if _holds(condition):
                yield (
                    f"lost wake-up? {name} sleeps in wait_event(), and its condition ({_where(condition)}) is true "
                    f"now: who made it true did not wake {evidence.told(wait.obj)} afterwards"
                )
            continue
        missed = "" if _looks_again(kernel.arch.stack_of(wait.task)) else _missed(wait, name, evidence)
        if missed:
            yield missed


def _looks_again(frame: FrameType | None) -> bool:
    """Whether the wait stands in a loop with a condition: then a notification that came earlier is not missed."""
    waiting = own_code_frame(frame)
    if waiting is None:
        return False
    try:
        tree = ast.parse("".join(linecache.getlines(waiting.f_code.co_filename)))
    except SyntaxError:
        return False
    loops = (node for node in ast.walk(tree) if isinstance(node, ast.While) and not isinstance(node.test, ast.Constant))
    return any(loop.body[0].lineno <= waiting.f_lineno <= (loop.body[-1].end_lineno or 0) for loop in loops)


def _condition(frame: FrameType | None) -> Callable[[], object] | None:
    """The condition that a suspended wait_event() waits for."""
    for each in task_frames(frame):
        if each.f_code is _DO_WAIT:
            condition: Callable[[], object] = each.f_locals["condition"]
            return condition
    return None


def _holds(condition: Callable[[], object]) -> bool:
    """Whether it is true now. It is called where no kernel runs, and may not like that: then there is no hint."""
    try:
        return bool(condition())
    except Exception:
        return False


def _where(condition: Any) -> str:
    code = getattr(condition, "__code__", None)
    return repr(condition) if code is None else str(Where(code.co_filename, code.co_firstlineno, code.co_qualname))


def _missed(wait: Wait, name: str, evidence: Evidence) -> str:
    obj = evidence.names.object(wait.obj)
    began = None
    for number, step in enumerate(evidence.steps):
        if step.actor == name and (step.op in _WAITS or began is None):
            began = number
    for number in range(began or 0, -1, -1):
        step = evidence.steps[number]
        if step.obj == obj and step.op in _FORGOTTEN and step.actor != name:
            return (
                f"lost wake-up? {step.actor} did {step.op} on {obj} at {step.where} (step {number + 1}), before {name} "
                f"began to wait for it (step {(began or 0) + 1}): a notification is not remembered"
            )
    return ""
