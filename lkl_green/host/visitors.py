"""The application's greenlets that have called the host, remembered without being kept alive.

A created thread ends where the host sees it. A greenlet of the application says nothing when it ends, so it is known
weakly. Its record stays a while, under the OS thread it ran on: the values that it left under thread-local keys are due
to their destructors, which run when that OS thread ends.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Generic

from lkl_green.host.thread_locals import ThreadT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from greenlet import greenlet

    from lkl_green.host.objects import TlsKey

# Records are looked through for those that nobody needs each time their number exceeds twice the living by this.
SLACK = 64


class Visitors(Generic[ThreadT]):
    """Who has called, by greenlet and by OS thread."""

    def __init__(self) -> None:
        self._living: weakref.WeakKeyDictionary[greenlet, ThreadT] = weakref.WeakKeyDictionary()
        self._by_ident: dict[int, list[ThreadT]] = {}

    def get(self, context: greenlet) -> ThreadT | None:
        """The record of a greenlet; None if it has not called."""
        return self._living.get(context)

    def items(self) -> list[tuple[greenlet, ThreadT]]:
        """The greenlets that are alive, with their records."""
        return list(self._living.items())

    def add(self, context: greenlet, visitor: ThreadT, ident: int, keys: Iterable[TlsKey]) -> None:
        """Remember a greenlet on OS thread `ident`; forget dead ones that have no value under any of the `keys`."""
        self._living[context] = visitor
        visitors = self._by_ident.setdefault(ident, [])
        if len(visitors) > 2 * len(self._living) + SLACK:
            living = set(self._living.values())
            with_values = {thread for key in keys for thread in key.values}
            visitors[:] = [thread for thread in visitors if thread in living or thread in with_values]
        visitors.append(visitor)

    def pop_all_of(self, ident: int) -> list[ThreadT]:
        """Forget whoever called on an OS thread, which has ended."""
        return self._by_ident.pop(ident, [])
