"""Queues in deadlock reports: a thread waits for an item or a free place, not for a condition of the queue."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

from lkl_green.kernel.points import kinds

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from lkl_green.testing.detect.evidence import Evidence
    from lkl_green.testing.step import Step

_GET, _PUT, _JOIN = (method.__code__ for method in (queue.Queue.get, queue.Queue.put, queue.Queue.join))
_NOTIFICATIONS = kinds(lambda point: point.forgotten and not point.waits)


def told_queue(frame: FrameType | None, obj: object, evidence: Evidence) -> str:
    """How a wait in a method of a queue is told; "" if it is another wait."""
    if isinstance(obj, queue.SimpleQueue):  # the stand-in, while `threading` is replaced
        return f"waits in {evidence.told(obj)}.get(): the queue is empty"
    found = _method(frame)
    if found is None:
        return ""
    method, owner = found
    name = evidence.told(owner)
    if method is _JOIN:
        return f"waits in {name}.join(): task_done() has not been called for {owner.unfinished_tasks} items"
    if method is _PUT:
        last = _last_notify(owner.not_empty, evidence)
        return f"waits in {name}.put(): the queue is full, with {owner.maxsize} items" + _by(last, "put")
    last = _last_notify(owner.not_full, evidence)
    return f"waits in {name}.get(): the queue is empty" + _by(last, "taken")


def _method(frame: FrameType | None) -> tuple[CodeType, Any] | None:
    """The method of a `queue.Queue` that a task waits in, and the queue."""
    while frame is not None:
        if frame.f_code in (_GET, _PUT, _JOIN):
            return frame.f_code, frame.f_locals["self"]
        frame = frame.f_back
    return None


def _last_notify(obj: object, evidence: Evidence) -> Step | None:
    """The last notification of a condition of the queue: each item that is put or taken is one."""
    name = evidence.names.object(obj)
    return next((step for step in reversed(evidence.steps) if step.op in _NOTIFICATIONS and step.obj == name), None)


def _by(step: Step | None, what: str) -> str:
    return "" if step is None else f"; {step.actor} has {what} the last item at {step.where}"
