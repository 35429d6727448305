"""What recordings know of event loops. It does not import asyncio, which takes longer than all of this package."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lkl_green.testing.actor import Actor

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.testing.source import Where


class LoopActor(Actor):
    """Something of an event loop that can be chosen to act next: a task, a timer, another callback.

    Attributes:
        place: the position of its handle in the queue; 0 for a cancellation, which has none.
    """

    __slots__ = ("place",)

    def __init__(self, name: str) -> None:
        super().__init__(name, None)
        self.place = 0

    def where(self) -> Where | None:
        """The line of the program that is about to go on, as far as it is known."""
        return None


def current_task_name() -> str:
    """What the run calls the task of asyncio whose code is running; "" if there is none."""
    events: Any = sys.modules.get("asyncio.events")
    loop = None if events is None else events._get_running_loop()
    name: Callable[[Any], str] | None = getattr(getattr(loop, "_ready", None), "current_task_name", None)
    return "" if name is None else name(loop)
