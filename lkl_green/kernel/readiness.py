"""Host descriptors that became ready: events from outside like any interrupt, and delivered as one.

What the host's poller collects is delivered by the handler of one interrupt line, which calls each file's callback; the
callback notes the readiness and wakes who waits. Looking costs a system call, so it is done at few of the named points:

        entry to lkl_run(), pause() and idle, and every POLL_POINTS scheduling points while the kernel is busy

so that a saturated kernel still sees its sockets. A kernel whose host has no poller does none of this. The line is
reserved while a descriptor is watched: as long as one is, idle is no deadlock.

*Virtual time.* Readiness is what host threads and other machines do. Like every such event it is held back until the
kernel is idle, and host work takes no virtual time: before idle lets time jump to the next timer it takes in what is
ready by then. With no timer armed it waits for a descriptor, and no time passes. A listening socket must not stop time
for good, so with a timer armed idle does not wait, unless somebody has said with `expect()` that input is under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.errors import HostMisuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.host.poller import Poller
    from lkl_green.kernel.kernel import Kernel

LINE = "poller"


class Readiness:
    """What one kernel watches on its host."""

    __slots__ = ("_host", "_irq", "_kernel", "_line", "expected")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._host = kernel.host
        self._irq = kernel.irq
        self._line = 0
        # Descriptors on which virtual time waits for the next event.
        self.expected: set[int] = set()

    def watch(self, fd: int, callback: Callable[[int], None]) -> Poller | None:
        """Call `callback(events)` in an interrupt whenever something may have changed; see `Poller.register()`.

        Returns:
            the poller; None for a descriptor that is always ready and is not watched.

        Raises:
            HostMisuse: it is watched already, or this host cannot watch descriptors.
            OSError: EBADF, or the host gives out; EBUSY, there is no interrupt number left.
        """
        poller = self._host.poller()
        if not poller.register(fd, callback):
            return None
        if not self._line:
            try:
                line = self._irq.get_free_irq(LINE)
            except OSError:
                poller.unregister(fd)
                raise
            self._irq.request_irq(line, self._interrupt, LINE, dev_id=self)
            self._line = line
        return poller

    def unwatch(self, fd: int) -> None:
        """Undo `watch()`, before the descriptor is closed; no error once the kernel has halted."""
        self.expected.discard(fd)
        poller = self._host.made_poller
        if poller is None:
            return
        poller.unregister(fd)
        if not poller.watched and self._line:
            line, self._line = self._line, 0
            self._irq.free_irq(line, self)
            self._irq.put_irq(line, LINE)

    def expect(self, fd: int) -> None:
        """Say that the host is about to make a watched descriptor ready: virtual time waits for it (irq_expect()).

        Raises:
            HostMisuse: the descriptor is not watched, so nobody would hear of it.
        """
        poller = self._host.made_poller
        if poller is None or fd not in poller.watched:
            raise HostMisuse(f"expect: descriptor {fd} is not watched. Wait for it, or poll its file, once before")
        self.expected.add(fd)

    def look(self) -> bool:
        """Take in what is ready now, without waiting; whether anything has come.

        That may be the doorbell, which then does not ring again: whoever is about to sleep must not.
        """
        poller = self._host.made_poller
        if poller is None or not poller.look():
            return False
        if self._line and poller.ready:
            self._irq.raise_local(self._line)
        else:
            poller.ready.clear()  # of descriptors that have been given up since
        return True

    def _interrupt(self, irq: int) -> None:
        poller = self._host.made_poller
        if poller is None:
            return
        if self.expected:
            self.expected.difference_update([fd for fd, _ in poller.ready])
        poller.dispatch()
