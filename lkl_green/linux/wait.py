"""Waiting for a condition, or for one another: <linux/wait.h>, <linux/completion.h>."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.wait import WaitQueueHead


def wait_event(queue: WaitQueueHead, condition: Callable[[], object]) -> None:
    """Sleep until the condition holds."""
    queue.wait_event(condition)


def wait_event_interruptible(queue: WaitQueueHead, condition: Callable[[], object]) -> None:
    """The same; a signal ends it. Raises InterruptedError."""
    queue.wait_event_interruptible(condition)


def wait_event_timeout(queue: WaitQueueHead, condition: Callable[[], object], timeout_ns: int) -> int:
    """The same, for at most `timeout_ns`; 0 if it passed, else what is left, at least 1."""
    return queue.wait_event_timeout(condition, timeout_ns)


def wake_up(queue: WaitQueueHead) -> int:
    """Wake all non-exclusive waiters and one exclusive one (rule 122)."""
    return queue.wake_up()


def wake_up_all(queue: WaitQueueHead) -> int:
    """Wake all waiters."""
    return queue.wake_up_all()
