"""Lines of source to show: those of the test and of what it tests, not those of this package."""

from __future__ import annotations

import linecache
import queue
import threading
import traceback
from os.path import basename, dirname, join
from typing import TYPE_CHECKING, NamedTuple

from lkl_green.host.stacks import of_package
from lkl_green.kernel.stacktext import own_code_frame, task_frames

if TYPE_CHECKING:
    from types import FrameType

_LIBRARY = join(dirname(threading.__file__), "")

# The files of pools of threads. What their workers do between two calls of the program is the pool's own work.
_POOLS = tuple(
    join(_LIBRARY, *path.split("/"))
    for path in (
        "concurrent/futures/_base.py",
        "concurrent/futures/thread.py",
        "multiprocessing/dummy/__init__.py",
        "multiprocessing/pool.py",
        "multiprocessing/util.py",
    )
)

# What stands between a program and the primitives it uses. A line of these says less than the line that called it.
_PRIMITIVES = (threading.__file__, queue.__file__)
_BETWEEN = (*_PRIMITIVES, *_POOLS)


class Where(NamedTuple):
    """A line of source."""

    filename: str
    line: int
    function: str

    @property
    def text(self) -> str:
        """What stands there, without indentation; "" if the file cannot be read."""
        return linecache.getline(self.filename, self.line).strip()

    @property
    def in_standard_library(self) -> bool:
        """Whether it is of Python itself."""
        return self.filename.startswith(_LIBRARY) and "site-packages" not in self.filename

    @property
    def in_pool(self) -> bool:
        """Whether it is a pool's own code, not called by the program."""
        return self.filename in _POOLS

    def __str__(self) -> str:
        return f"{basename(self.filename)}:{self.line}"


def innermost(frame: FrameType | None) -> Where | None:
    """The innermost frame of the program, from `frame` outwards; else one of a pool, else one of `threading`."""
    found = own_code_frame(frame, _BETWEEN) or own_code_frame(frame, _PRIMITIVES) or own_code_frame(frame)
    return None if found is None else where_of(found)


def where_of(frame: FrameType) -> Where:
    """The line at which a frame is."""
    return Where(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)


def stack_of(frame: FrameType | None) -> list[Where]:
    """The frames of a suspended task that are the program's, outermost first."""
    own = [each for each in task_frames(frame) if not of_package(each.f_code.co_filename)]
    return [where_of(each) for each in reversed(own) if each.f_code.co_filename not in _BETWEEN]


def raised_at(error: BaseException) -> tuple[str, int] | None:
    """File and line where an exception was raised, as far as it is not ours."""
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        filename = frame.f_code.co_filename
        if not of_package(filename):
            found = filename, line
    return found


def traceback_of(error: BaseException) -> str:
    """An exception with the frames that are not ours; with all if there are no others."""
    told = traceback.TracebackException.from_exception(error)
    each: traceback.TracebackException | None = told
    while each is not None:
        shown = [entry for entry in each.stack if not of_package(entry.filename)]
        if shown:
            each.stack = traceback.StackSummary.from_list(shown)
        each = each.__cause__ or each.__context__
    return "".join(told.format())
