"""Where a task of asyncio waits, and for what."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from lkl_green.testing.source import Where, where_of

if TYPE_CHECKING:
    from types import FrameType


def frames_of(task: asyncio.Task[Any]) -> list[FrameType]:
    """The frames of a suspended task, outermost first: its coroutine's, and those of all it awaits."""
    frames = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = next(
            (found for name in ("cr_frame", "gi_frame", "ag_frame") if (found := getattr(awaited, name, None))), None
        )
        if frame is not None:
            frames.append(frame)
        awaited = next(
            (found for name in ("cr_await", "gi_yieldfrom", "ag_await") if (found := getattr(awaited, name, None))),
            None,
        )
    return frames


def awaits_at(task: asyncio.Task[Any]) -> Where | None:
    """The program's innermost line; one of the standard library only if there is no other."""
    places = [where_of(frame) for frame in frames_of(task)]
    own = [place for place in places if not place.in_standard_library]
    found = own or places
    return found[-1] if found else None


def unfinished_tasks(loop: asyncio.AbstractEventLoop) -> list[str]:
    """What the tasks of an event loop wait for, a line for each."""
    tasks = sorted(asyncio.all_tasks(loop), key=_age)
    return [f"{task.get_name()} waits for {_what(task)}{_at(task)}" for task in tasks]


def _age(task: asyncio.Task[Any]) -> tuple[int, str]:
    """Task-10 is younger than Task-9."""
    name = task.get_name()
    return len(name), name


def _at(task: asyncio.Task[Any]) -> str:
    where = awaits_at(task)
    return "" if where is None else f", at {where} in {where.function}: {where.text}"


def _what(task: asyncio.Task[Any]) -> str:
    """What a suspended task waits for: another task, or the object whose method it is in."""
    future = getattr(task, "_fut_waiter", None)
    if isinstance(future, asyncio.Task):
        return f"the end of {future.get_name()}"
    children = getattr(future, "_children", None)  # of gather()
    if children:
        names = [child.get_name() for child in children if isinstance(child, asyncio.Task) and not child.done()]
        return f"the end of {', '.join(names)}" if names else "what it gathers"
    for frame in reversed(frames_of(task)):
        where = where_of(frame)
        if where.in_standard_library:
            owner = frame.f_locals.get("self")
            return where.function if owner is None else f"{type(owner).__name__}.{frame.f_code.co_name}()"
    return "a future" if future is not None else "its turn"
