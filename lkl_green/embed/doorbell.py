"""The doorbell: how the loop hears of interrupts, system calls and anything else that other OS threads send.

The kernel rings by the host operation `idle_wake()`, from any OS thread and from signal handlers, whenever something
comes from outside and `lkl_run()` is not under way. While an event loop runs the kernel, that operation is ours: the
host's own doorbell, on which nobody sleeps then, is left alone.

Many rings between two slices are one. `rung` is cleared before a slice looks at what has come, so that what comes later
rings again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.embed.backend import Backend
    from lkl_green.kernel.kernel import Kernel


class Doorbell:
    """Passes the host's `idle_wake()` on to an event loop.

    Args:
        kernel: whose host rings.
        backend: the loop.
        heard: called in the loop after a ring.
        gone: called by whoever rings when the loop has been closed.

    Attributes:
        rung: whether somebody has rung since the last slice began.
    """

    __slots__ = ("_backend", "_gone", "_heard", "_host", "rung")

    def __init__(
        self, kernel: Kernel, backend: Backend, heard: Callable[[], object], gone: Callable[[], object]
    ) -> None:
        self._host = kernel.host
        self._backend = backend
        self._heard = heard
        self._gone = gone
        self.rung = False

    def hang_up(self) -> None:
        """From now on we hear the kernel's rings."""
        setattr(self._host, "idle_wake", self.ring)  # noqa: B010 - mypy is told not to look at a method replaced

    def take_down(self) -> None:
        """The host hears them again."""
        if "idle_wake" in vars(self._host):
            delattr(self._host, "idle_wake")

    def ring(self) -> None:
        """From any OS thread, and from signal handlers."""
        if self.rung:
            return
        self.rung = True
        try:
            self._backend.call_threadsafe(self._heard)
        except RuntimeError:  # asyncio: closed; trio.RunFinishedError is one, too
            self._gone()
