"""What a test prints is not shown, but a debugger's prompt is."""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

# The modules that a debugger of the standard library writes from. input() writes its prompt in the frame of its caller.
_DEBUGGER = frozenset({"bdb", "cmd", "code", "pdb", "pprint"})


class Muted(io.TextIOBase):
    """A stream that drops what is written to it, except by a debugger.

    Args:
        shown: where a debugger's output goes.
    """

    def __init__(self, shown: TextIO) -> None:
        self._shown = shown

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Write text of a debugger; drop other text."""
        if sys._getframe(1).f_globals.get("__name__") in _DEBUGGER:
            self._shown.write(text)
            self._shown.flush()
        return len(text)


@contextmanager
def muted_stdout() -> Iterator[None]:
    """Only a debugger prints to stdout while the context lasts. With a debugger that is not pdb, everything does."""
    if os.environ.get("PYTHONBREAKPOINT", "") not in ("", "0", "pdb.set_trace"):
        yield
        return
    with redirect_stdout(Muted(sys.stdout)):
        yield
