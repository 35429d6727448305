"""How a run ended: which verdict an exception means, and how the ends of two runs are compared."""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING

from lkl_green.errors import Escape, SoftLockup
from lkl_green.testing.run import Verdict

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


def ending(run: Run) -> str:
    """How a run ended, for comparison and for people."""
    if run.verdict is Verdict.HUNG:
        return "hung"  # at which line it was interrupted is chance
    return f"{run.verdict.value} {unaddressed(describe(run.error))}".strip()


def unaddressed(text: str) -> str:
    """Without the addresses of objects, which differ from run to run and mean nothing."""
    return _ADDRESS.sub("0x...", text)


def describe(error: BaseException | None) -> str:
    """An exception in a line or a few, without addresses of objects; "" for none."""
    return "" if error is None else unaddressed("".join(traceback.format_exception_only(error)).strip())
