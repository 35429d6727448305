"""Whose frames they are, and stacks and tracebacks as text, without the frames of this package.

A frame is the package's if its code stands in a file of the package (`host/stacks.py`). The functions that `namedtuple`
and `dataclass` generate stand in no file and are told from a program's text by their module. A task's stack ends at
the frame of `ret_from_fork()`, in which each task begins. That frame is known by its code object and not by its name,
which a function of the program may have, too.
"""

from __future__ import annotations

import linecache
import traceback
from typing import TYPE_CHECKING

from lkl_green.host.stacks import of_package
from lkl_green.kernel.fork import Fork

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from types import CodeType, FrameType

_FIRST = Fork.ret_from_fork.__code__

# The file name of code that the standard library generates. `python -c` and exec() give it to a program's text, too.
_GENERATED = "<string>"
_PACKAGE_NAME = __name__.partition(".")[0] + "."


def task_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of a task from `frame` outwards, without those of its host thread (`threading` for an OS thread)."""
    while frame is not None:
        yield frame
        frame = None if frame.f_code is _FIRST else frame.f_back


def own_code_frame(frame: FrameType | None, besides: Container[str] = ()) -> FrameType | None:
    """The innermost frame of a task's own code, from `frame` outwards; None if all are of this package.

    Args:
        frame: where to begin.
        besides: further files whose frames are not the task's own code.
    """
    while frame is not None:  # not task_frames(): recordings ask at each step, and a generator doubles the price
        code = frame.f_code
        name = code.co_filename
        if not of_package(name) and name not in besides and not (name == _GENERATED and _is_generated(frame)):
            return frame
        frame = None if code is _FIRST else frame.f_back
    return None


def _is_generated(frame: FrameType) -> bool:
    """Whether a function without a file is a named tuple's, or a data class's of this package."""
    module = str(frame.f_globals.get("__name__", ""))
    return module.startswith(("namedtuple_", _PACKAGE_NAME))


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
        link.stack[:] = [frame for frame in link.stack if not of_package(frame.filename)]
        link = link.__cause__ or link.__context__
    return "".join(told.format() if told.stack else told.format_exception_only())
