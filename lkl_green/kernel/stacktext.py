"""Stacks and tracebacks as text, without the frames of this package: they say nothing about the program."""

from __future__ import annotations

import linecache
import traceback
from os.path import dirname, join
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType, FrameType

PACKAGE = join(dirname(dirname(__file__)), "")


# A task's first frame. What is below it is the host thread's, and `threading` if that is an OS thread.
FIRST = "ret_from_fork"


def own_code_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame of a task, from `frame` outwards, that is not of this package; None if all are."""
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = None if frame.f_code.co_name == FIRST else frame.f_back
    return frame


def kernel_code_line(frame: FrameType | None) -> str:
    """Where a task's own code is, as file:line; else where the kernel's is."""
    shown = own_code_frame(frame) or frame
    return "an unknown line" if shown is None else f"{shown.f_code.co_filename}:{shown.f_lineno}"


def told_line(frame: FrameType | None) -> str:
    """The same with the function and what stands there: `file:line in function: text`."""
    shown = own_code_frame(frame)
    if shown is None:
        return "the kernel's own code"
    code = shown.f_code
    text = linecache.getline(code.co_filename, shown.f_lineno).strip()
    return f"{code.co_filename}:{shown.f_lineno} in {code.co_name}" + (f": {text}" if text else "")


def source_of_call(frame: FrameType) -> str:
    """The expression that a frame is at, as it stands in the source; the whole line if it spans several."""
    code = frame.f_code
    line, end_line, column, end_column = list(code.co_positions())[frame.f_lasti // 2]
    text = linecache.getline(code.co_filename, line or 0)
    if line is None or line != end_line:
        return text.strip()
    return text.encode()[column:end_column].decode(errors="replace").strip()


def told_function(function: object) -> str:
    """A function with where it is defined: `name at file:line`."""
    name = getattr(function, "__qualname__", None) or repr(function)
    code: CodeType | None = getattr(function, "__code__", None)
    return name if code is None else f"{name} at {code.co_filename}:{code.co_firstlineno}"


def user_traceback(error: BaseException) -> str:
    """A traceback without the frames of this package."""
    told = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = told
    while link is not None:
        link.stack[:] = [frame for frame in link.stack if not frame.filename.startswith(PACKAGE)]
        link = link.__cause__ or link.__context__
    return "".join(told.format() if told.stack else told.format_exception_only())
