"""Python frames: whether they are of this package, and those of other OS threads."""

from __future__ import annotations

import sys
from os.path import dirname, join
from typing import TYPE_CHECKING

from lkl_green.host.collector import collector

if TYPE_CHECKING:
    from types import FrameType

PACKAGE = join(dirname(dirname(__file__)), "")


def of_package(filename: str) -> bool:
    """Whether code is of this package and not of the program, by its file: `frame.f_code.co_filename`."""
    return filename.startswith(PACKAGE)


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
