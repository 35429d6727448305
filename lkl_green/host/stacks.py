"""Looking at the stacks of other OS threads."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lkl_green.host.collector import collector

if TYPE_CHECKING:
    from types import FrameType


def os_thread_frame(ident: int) -> FrameType | None:
    """The innermost Python frame of an OS thread; None if there is no such thread.

    The collector is kept off meanwhile. `sys._current_frames()` makes frame objects with the interpreter's list of
    threads locked; a finaliser that a collection ran at that moment, such as a `threading.local`'s, may want that lock,
    and the interpreter would stop for good.
    """
    collector.keep_off()
    try:
        return sys._current_frames().get(ident)
    finally:
        collector.let_go()
