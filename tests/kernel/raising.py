"""Raising an exception at a chosen line of the package, once, in the thread that reaches it first.

This stands for asynchronous exceptions, which can come between any two calls. Signals would come at random places; a
trace function reaches each line.
"""

from __future__ import annotations

import dis
import linecache
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import lkl_green
from lkl_green.errors import HostThreadExit, LongJump

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType, TracebackType

ROOT = str(Path(lkl_green.__file__).parent) + "/"


class Line(NamedTuple):
    """A line of a function: its code object and the line's number."""

    code: CodeType
    number: int

    def __str__(self) -> str:
        return f"{self.code.co_filename.removeprefix(ROOT)}:{self.number} in {self.code.co_qualname}()"


def can_raise_here(frame: FrameType) -> bool:
    """Whether an asynchronous exception may come at the line that a frame has reached.

    Not at `try:`, which does nothing, and where CPython 3.11 finds no handler for what a trace function raises.
    """
    source = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    if source == "try:" or (source.startswith("with ") and leaves_with_block(frame)):
        return False
    return not (in_finalizer(frame) or is_starting(frame) or is_jumping())


def in_finalizer(frame: FrameType | None) -> bool:
    """Whether a finalizer runs: Python ignores exceptions there, and 3.11 crashes if a trace function raises one."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def is_starting(frame: FrameType | None) -> bool:
    """Whether `threading` still starts the OS thread, and has not called its function yet."""
    callers = set()
    while frame is not None:
        callers.add(frame.f_code.co_name)
        frame = frame.f_back
    return "_bootstrap_inner" in callers and "run" not in callers


def leaves_with_block(frame: FrameType) -> bool:
    """Whether a `with` is about to call `__exit__`: only a trace function can raise there, and the lock would stay."""
    code = frame.f_code
    return dis.opname[code.co_code[frame.f_lasti]] in ("LOAD_CONST", "SWAP")


def is_jumping() -> bool:
    """Whether a host thread leaves its frames by an exception of the host's own: this would be a second one."""
    return isinstance(sys.exc_info()[1], LongJump | HostThreadExit)


class _Tracer:
    """Watches the lines that run while it is entered, in this OS thread and in those that start meanwhile."""

    def __init__(self) -> None:
        self._off = True
        self._before: Any = None

    def __enter__(self) -> Any:
        self._off = False
        self._before = sys.gettrace()
        threading.settrace(self._call)
        sys.settrace(self._call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._off = True
        threading.settrace(None)  # type: ignore[arg-type]
        sys.settrace(self._before)

    def _call(self, frame: FrameType, event: str, arg: object) -> Any:
        """The trace function of calls; returns that of the lines of a function to be watched."""
        raise NotImplementedError


class Lines(_Tracer):
    """Collects the lines that are reached in some files of the package."""

    def __init__(self, *parts: str) -> None:
        super().__init__()
        self._prefixes = tuple(ROOT + part for part in parts)
        self._seen: Counter[Line] = Counter()

    def _call(self, frame: FrameType, event: str, arg: object) -> Any:
        return self._line if frame.f_code.co_filename.startswith(self._prefixes) else None

    def _line(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "line" and not self._off and can_raise_here(frame):
            self._seen[Line(frame.f_code, frame.f_lineno)] += 1
        return self._line

    def __iter__(self) -> Iterator[Line]:
        return iter(sorted(self._seen, key=lambda line: (line.code.co_filename, line.number)))

    def times(self, line: Line) -> int:
        """How often the line was reached."""
        return self._seen[line]


class RaiseAt(_Tracer):
    """Raises an exception when a line is reached for the nth time.

    Attributes:
        raised: the exception, once it has been raised.
    """

    def __init__(self, line: Line, error: type[BaseException], nth: int = 1) -> None:
        super().__init__()
        self._where = line
        self._code, self._number = line
        self._error = error
        self._left = nth
        self.raised: BaseException | None = None

    def _call(self, frame: FrameType, event: str, arg: object) -> Any:
        if self._off:
            sys.settrace(None)  # for the rest of this OS thread
        return self._line if frame.f_code is self._code else None

    def _line(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_lineno == self._number and event == "line" and not self._off and can_raise_here(frame):
            self._left -= 1
            if not self._left:
                self._off = True
                threading.settrace(None)  # type: ignore[arg-type]
                self.raised = self._error(f"raised by the test at {self._where}")
                raise self.raised
        return self._line
