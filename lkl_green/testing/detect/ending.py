"""How a run ended: which verdict an exception means, and how the ends of two runs are compared."""

from __future__ import annotations

import re
import traceback
from bdb import BdbQuit
from os.path import basename
from typing import TYPE_CHECKING

from lkl_green.errors import Escape, SoftLockup
from lkl_green.testing.run import Verdict
from lkl_green.testing.source import raised_at

if TYPE_CHECKING:
    from lkl_green.testing.run import Run

# Shorter numbers are constants of the program.
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{5,}\b")


def verdict_of(error: BaseException) -> Verdict:
    """ESCAPED for a wait that is not the kernel's, however it was wrapped; HUNG for a task without end; else FAILED."""
    if isinstance(error, SoftLockup):
        return Verdict.HUNG
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, Escape):
            return Verdict.ESCAPED
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return Verdict.FAILED


def is_failure(error: BaseException) -> bool:
    """Whether an exception means that the test failed. pytest.fail() raises one that is not an Exception."""
    if isinstance(error, Exception):
        return True
    kind, base = type(error), type(error).__base__
    return kind.__name__ == "Failed" and base is not None and base.__module__ == "_pytest.outcomes"


def ends_campaign(error: BaseException) -> bool:
    """Whether an exception says nothing of the test: a debugger that was left, or pytest.exit()."""
    kind = type(error)
    return isinstance(error, BdbQuit) or (kind.__module__, kind.__name__) == ("_pytest.outcomes", "Exit")


def ending(run: Run) -> str:
    """How a run ended, for comparison and for people."""
    if run.verdict is Verdict.HUNG:
        return "hung"  # at which line it was interrupted is chance
    return f"{run.verdict.value} {unaddressed(describe(run.error))}".strip()


def kind_of(run: Run) -> tuple[object, ...]:
    """What two runs of one schedule share, as plain data: the verdict, the exception's type, and where it was raised.

    Not its message: that may tell addresses, in whatever form, and times of day.
    """
    error = run.error
    if error is None or run.verdict is Verdict.HUNG:
        return (run.verdict.value,)
    filename, line = raised_at(error) or ("", 0)
    return run.verdict.value, type(error).__qualname__, basename(filename), line


def unaddressed(text: str) -> str:
    """Without the addresses of objects, which differ from run to run and mean nothing."""
    return _ADDRESS.sub("0x...", text)


def describe(error: BaseException | None) -> str:
    """An exception in a line or a few, without addresses of objects; "" for none."""
    return "" if error is None else unaddressed("".join(traceback.format_exception_only(error)).strip())
