"""The doorbell: how a loop hears of interrupts, system calls and anything else that other OS threads send.

The kernel rings by calling `host.doorbell`, from any OS thread and from signal handlers, whenever something comes from
outside and `lkl_run()` is not under way. That attribute is the host's `idle_wake()` while the application loops on
`lkl_run()` and `pause()`. While an event loop runs the kernel, it is the `ring()` of this module, which wakes the loop.

Many rings between two slices are one. `rung` is cleared before a slice looks at what has come, so that what comes later
rings again.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lkl_green.host.ops import HostOps


class Doorbell:
    """Wakes a loop when its kernel rings.

    Args:
        host: the kernel's host.
        post: wakes the loop; called from any OS thread and from signal handlers. RuntimeError: the loop has gone.
        gone: called in the thread that rings, when the loop has gone.

    Attributes:
        rung: whether it was rung since the last slice began.
    """

    __slots__ = ("_gone", "_host", "_post", "rung")

    def __init__(self, host: HostOps, post: Callable[[], object], gone: Callable[[], object]) -> None:
        self._host = host
        self._post = post
        self._gone = gone
        self.rung = False

    def hang_up(self) -> None:
        """From now on the kernel's rings wake the loop."""
        self._host.doorbell = self.ring

    def take_down(self) -> None:
        """From now on they end the sleep of `pause()` again."""
        self._host.doorbell = self._host.idle_wake

    @contextmanager
    def silent(self) -> Iterator[None]:
        """While the caller runs the kernel itself, rings end its `pause()`; the loop is woken once afterwards."""
        self.take_down()
        try:
            yield
        finally:
            self.hang_up()
            self.ring()

    def ring(self) -> None:
        """From any OS thread, and from signal handlers."""
        if self.rung:
            return
        self.rung = True
        try:
            self._post()
        except RuntimeError:  # asyncio's of a closed loop; trio.RunFinishedError is one, too
            self._gone()
