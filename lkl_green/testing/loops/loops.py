"""The event loops of one campaign."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from lkl_green.kernel.current import current_kernel

if TYPE_CHECKING:
    import asyncio

    from lkl_green.testing.loops.ready import Decider

# What asyncio calls a task that was given no name. It counts the tasks of the process.
_UNNAMED = re.compile(r"Task-\d+")

# Two tasks that sleep for a second each wake up together, though one asked some microseconds before the other. A real
# loop is late by as much: epoll_wait() counts in milliseconds. Dropped: timers that expire early, which programs see.
_LATENCY_NS = 1_000_000


class Loops:
    """Puts the order of each loop under the control of the policy.

    Args:
        order: "tasks": the tasks of a loop may pass each other. "fifo": they run in the order of a real loop.
        cancel: whether a task may be cancelled at an `await`, in each schedule once.

    Attributes:
        any_order: whether tasks may pass each other.
        cancellations_left: how many tasks may still be cancelled in the present schedule.
    """

    def __init__(self, order: str, cancel: bool) -> None:
        self.any_order = order == "tasks"
        self.cancellations_left = 0
        self._cancels = int(cancel)
        self._unnamed = 0

    def rewind(self) -> None:
        """A schedule begins."""
        self.cancellations_left = self._cancels
        self._unnamed = 0

    def adopt(self, loop: Any) -> None:
        """A loop runs for the first time in the present schedule."""
        from lkl_green.testing.loops.ready import ReadyQueue  # here asyncio is loaded

        decider = cast("Decider", current_kernel().sched.policy)
        loop._ready = ReadyQueue(loop._ready, decider, self)
        if self.any_order:
            loop._selector.latency_ns = _LATENCY_NS

    def rename(self, task: asyncio.Task[Any]) -> None:
        """Number a task without a name within its schedule."""
        if _UNNAMED.fullmatch(task.get_name()):
            self._unnamed += 1
            task.set_name(f"Task-{self._unnamed}")
