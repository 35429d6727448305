"""The lines of source that people know: those of the test and what it tests, not ours."""

from __future__ import annotations

import concurrent.futures.thread
import linecache
import queue
import threading
import traceback
from os.path import basename, dirname, join
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from types import FrameType

PACKAGE = join(dirname(dirname(__file__)), "")
_LIBRARY = join(dirname(threading.__file__), "")

# What stands between a program and the primitives it uses. A line of these says less than the line that called it.
_BETWEEN = (threading.__file__, queue.__file__, concurrent.futures.thread.__file__)

# A task's first frame. What is below it is the host thread's, and `threading` if that is an OS thread.
_FIRST = "ret_from_fork"


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

    def __str__(self) -> str:
        return f"{basename(self.filename)}:{self.line}"


def _is_known(filename: str) -> bool:
    return not filename.startswith(PACKAGE) and filename not in _BETWEEN


def innermost(frame: FrameType | None) -> Where | None:
    """The innermost frame, from `frame` outwards, that is not ours, and not of `threading` if there is another."""
    between = None
    while frame is not None and frame.f_code.co_name != _FIRST:
        filename = frame.f_code.co_filename
        if _is_known(filename):
            return _where(frame)
        if between is None and filename in _BETWEEN:
            between = frame
        frame = frame.f_back
    return None if between is None else _where(between)


def _where(frame: FrameType) -> Where:
    return Where(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)


def stack_of(frame: FrameType | None) -> list[Where]:
    """The frames of a suspended task that people know, outermost first."""
    found: list[Where] = []
    while frame is not None and frame.f_code.co_name != _FIRST:
        if _is_known(frame.f_code.co_filename):
            found.append(_where(frame))
        frame = frame.f_back
    return found[::-1]


def raised_at(error: BaseException) -> tuple[str, int] | None:
    """File and line where an exception was raised, as far as it is not ours."""
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        filename = frame.f_code.co_filename
        if not filename.startswith(PACKAGE):
            found = filename, line
    return found


def traceback_of(error: BaseException) -> str:
    """An exception with the frames that are not ours; with all if there are no others."""
    told = traceback.TracebackException.from_exception(error)
    each: traceback.TracebackException | None = told
    while each is not None:
        shown = [entry for entry in each.stack if not entry.filename.startswith(PACKAGE)]
        if shown:
            each.stack = traceback.StackSummary.from_list(shown)
        each = each.__cause__ or each.__context__
    return "".join(told.format())
