"""The lines of source that people know: those of the test and what it tests, not ours."""

from __future__ import annotations

import linecache
import traceback
from os.path import basename, dirname, join
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from types import FrameType

PACKAGE = join(dirname(dirname(__file__)), "")


class Where(NamedTuple):
    """A line of source."""

    filename: str
    line: int
    function: str

    @property
    def text(self) -> str:
        """What stands there, without indentation; "" if the file cannot be read."""
        return linecache.getline(self.filename, self.line).strip()

    def __str__(self) -> str:
        return f"{basename(self.filename)}:{self.line}"


def innermost(frame: FrameType | None) -> Where | None:
    """The innermost frame, from `frame` outwards, that is not ours."""
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        if frame.f_code.co_name == "ret_from_fork":
            return None  # below are the host thread's
        frame = frame.f_back
    if frame is None:
        return None
    return Where(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)


def stack_of(frame: FrameType | None) -> list[Where]:
    """The frames that are not ours, outermost first, as a suspended task's."""
    found: list[Where] = []
    while frame is not None:
        code = frame.f_code
        if code.co_name == "ret_from_fork":
            break  # below are the host thread's
        if not code.co_filename.startswith(PACKAGE):
            found.append(Where(code.co_filename, frame.f_lineno, code.co_qualname))
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
