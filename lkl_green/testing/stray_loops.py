"""Event loops in a campaign that was not told whether to replace `threading`.

Without the replacements a loop waits outside the kernel, and no policy decides the order of its tasks: every schedule
is the same. So the first one that is about to run ends the schedule, as the first OS thread does (`strays.py`), and the
campaign begins again with `threads=True`.
"""

from __future__ import annotations

import inspect
import selectors
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lkl_green.host import native
from lkl_green.kernel.current import running_here
from lkl_green.testing.policies.abort import abort_schedule
from lkl_green.testing.run import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def refusing_loops(started: list[str]) -> Iterator[None]:
    """End a schedule in which an event loop of asyncio is about to run, or one of uvloop is made.

    Args:
        started: gets a line for the loop.
    """
    here = native.get_ident()

    def refuse(what: str) -> None:
        if running_here.kernel is not None and native.get_ident() == here:
            started.append(what)
            _drop_tasks()
            abort_schedule(Verdict.UNEXPLORED, f"it runs {what}")

    original: Any = selectors.DefaultSelector
    module: Any = selectors
    module.DefaultSelector = refusing = _refusing_selector(original, refuse)
    uvloop: Any = getattr(sys.modules.get("uvloop"), "Loop", None)

    def refusing_init(_self: Any) -> None:
        refuse("an event loop of uvloop")

    if uvloop is not None:
        uvloop.__init__ = refusing_init
    try:
        yield
    finally:
        # An executor may run campaigns in several threads, which end in any order.
        if uvloop is not None and vars(uvloop).get("__init__") is refusing_init:
            del uvloop.__init__
        refusing.ended = True
        while getattr(selectors.DefaultSelector, "ended", False):
            module.DefaultSelector = selectors.DefaultSelector.__base__


def _refusing_selector(original: Any, refuse: Callable[[str], None]) -> Any:
    class Refusing(original):  # type: ignore[misc]
        """The default selector, in which no loop of a kernel thread may wait.

        Attributes:
            ended: whether the campaign that made it is over.
        """

        ended = False

        def select(self, timeout: float | None = None) -> Any:
            refuse("an event loop")
            return super().select(timeout)

    return Refusing


def _drop_tasks() -> None:
    """The tasks of the running loop will not begin: asyncio is not to complain of it."""
    import asyncio

    if asyncio._get_running_loop() is None:
        return
    for task in asyncio.all_tasks():
        any_task: Any = task
        any_task._log_destroy_pending = False
        coroutine: Any = task.get_coro()
        if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            coroutine.close()
