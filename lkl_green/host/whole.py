"""A lock that `with` takes or does not take, with nothing in between.

CPython looks for signals after each call. `with` of CPython 3.14 calls `__enter__` as anybody would, so an exception
that a signal handler raises may strike between the lock and the block: the lock is taken, and no block gives it back.
Before 3.14 and from 3.15 on nothing comes in between, and the interpreter's own lock is the better one.

Leaving the block is sound in each version: `__exit__` is C, and has released before anybody looks.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lkl_green.host.native import RLock, allocate_lock

if TYPE_CHECKING:
    from lkl_green.host.native import LockType


class WholeLock(RLock):  # type: ignore[misc]
    """A lock whose `__enter__` gives it back if an exception follows.

    It is an RLock because that one knows whether the calling thread has it; nobody takes it twice.
    """

    __slots__ = ()

    def __enter__(self) -> bool:  # type: ignore[override]
        try:
            return self.acquire()
        except BaseException:
            if self._is_owned():  # type: ignore[attr-defined]
                self.release()
            raise


def whole_lock() -> LockType | WholeLock:
    """A lock for short blocks, which an exception out of a signal handler does not leave taken."""
    return WholeLock() if sys.version_info[:2] == (3, 14) else allocate_lock()
