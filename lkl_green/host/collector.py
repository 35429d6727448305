"""Keeping the garbage collector off for a while.

The collector is one for the whole process, so whoever switches it off has to know who else has: several watchdogs, and
test beds in several OS threads. Each asking `gc.isenabled()` for itself, two whose times overlap would leave it off for
good. This is the one piece of state of the package that belongs to no object, because what it counts does not.
"""

from __future__ import annotations

import gc

from lkl_green.host.whole import whole_lock


class Collector:
    """The collector, and how many want it off."""

    __slots__ = ("_lock", "_users", "_was_enabled")

    def __init__(self) -> None:
        self._lock = whole_lock()
        self._users = 0
        self._was_enabled = False

    def keep_off(self) -> None:
        """Switch it off, if nobody has; until `let_go()` has been called as often as this."""
        with self._lock:
            if not self._users:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._users += 1

    def collect(self, generation: int) -> None:
        """Collect now what it would have collected meanwhile, if it was on."""
        if self._was_enabled:
            gc.collect(generation)

    def let_go(self) -> None:
        """One wants it off no longer."""
        with self._lock:
            self._users -= 1
            if not self._users and self._was_enabled:
                gc.enable()


collector = Collector()
