"""The doorbell: how a loop hears of interrupts, system calls and anything else that other OS threads send.

The kernel rings by the host operation `idle_wake()`, from any OS thread and from signal handlers, whenever something
comes from outside and `lkl_run()` is not under way. While somebody else's loop runs the kernel, that operation is ours;
the host's own doorbell, on which nobody sleeps then, is left alone.

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
    """Passes the host's `idle_wake()` on.

    Args:
        host: who rings.
        post: wakes the loop; called from any OS thread and from signal handlers. RuntimeError: the loop has gone.
        gone: called by whoever rings when the loop has gone.

    Attributes:
        rung: whether somebody has rung since the last slice began.
    """

    __slots__ = ("_gone", "_host", "_post", "rung")

    def __init__(self, host: HostOps, post: Callable[[], object], gone: Callable[[], object]) -> None:
        self._host = host
        self._post = post
        self._gone = gone
        self.rung = False

    def hang_up(self) -> None:
        """From now on we hear the kernel's rings."""
        setattr(self._host, "idle_wake", self.ring)  # noqa: B010 - a method of the host is replaced, on purpose

    def take_down(self) -> None:
        """The host hears them again."""
        if "idle_wake" in vars(self._host):
            delattr(self._host, "idle_wake")

    @contextmanager
    def silent(self) -> Iterator[None]:
        """The caller runs the kernel himself, and hears the rings on the host; the loop hears of it afterwards."""
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
