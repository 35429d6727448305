"""Queues in deadlock reports: a thread waits for an item or a free place, not for a condition of the queue."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from lkl_green.testing.detect.evidence import Evidence
    from lkl_green.testing.step import Step


def told_queue(frame: FrameType | None, obj: object, evidence: Evidence) -> str:
    """How a wait in a method of a queue is told; "" if it is another wait."""
    if isinstance(obj, queue.SimpleQueue):  # the stand-in, while `threading` is replaced
        return f"waits in {evidence.told(obj)}.get(): the queue is empty"
    found = _method(frame)
    if found is None:
        return ""
    method, owner = found
    name = evidence.told(owner)
    if method == "join":
        return f"waits in {name}.join(): task_done() has not been called for {owner.unfinished_tasks} items"
    if method == "put":
        last = _last_notify(owner.not_empty, evidence)
        return f"waits in {name}.put(): the queue is full, with {owner.maxsize} items" + _by(last, "put")
    last = _last_notify(owner.not_full, evidence)
    return f"waits in {name}.get(): the queue is empty" + _by(last, "taken")


def _method(frame: FrameType | None) -> tuple[str, Any] | None:
    """The method of a `queue.Queue` that a task waits in, and the queue."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename == queue.__file__ and code.co_name in ("get", "put", "join"):
            owner = frame.f_locals.get("self")
            return (code.co_name, owner) if isinstance(owner, queue.Queue) else None
        frame = frame.f_back
    return None


def _last_notify(obj: object, evidence: Evidence) -> Step | None:
    """The last notification of a condition of the queue: each item that is put or taken is one."""
    name = evidence.names.object(obj)
    return next((step for step in reversed(evidence.steps) if step.op == "notify" and step.obj == name), None)


def _by(step: Step | None, what: str) -> str:
    return "" if step is None else f"; {step.actor} has {what} the last item at {step.where}"
