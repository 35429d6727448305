"""Which verdict an exception means that ended a run."""

from __future__ import annotations

from lkl_green.errors import Escape, SoftLockup
from lkl_green.testing.run import Verdict


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
