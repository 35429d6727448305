"""Where failing schedules are kept: a JSON file that replays, and next to it the kernel's trace."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from lkl_green.testing.run import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from lkl_green.testing.report import Failure

_LONG = 100

# What a schedule alone does not show: another process has not run the others, and is in luck or out of it.
_NOT_OF_ONE_SCHEDULE = (Verdict.NONDETERMINISTIC, Verdict.KEPT_STATE, Verdict.UNEXPLORED)


def schedule_file(directory: Path, test: str) -> Path:
    """The file for a test's schedule: the same each time, so that a directory does not fill up.

    Args:
        directory: where.
        test: its name, FILE.py::test_name.
    """
    name = re.sub(r"[^\w.-]+", "_", test).strip("_")
    if len(name) > _LONG:
        name = f"{name[:_LONG]}-{hashlib.sha256(test.encode()).hexdigest()[:8]}"
    return directory / f"{name}.json"


def keep(failure: Failure, path: Path, *, shown_as: str, replay: str) -> None:
    """Write a failing schedule and its trace, and let the failure's text say so.

    Args:
        failure: it.
        path: of the schedule.
        shown_as: how people are told this path.
        replay: the command that runs the schedule again.

    A verdict on a whole campaign gets no such command. A file that cannot be written must not hide what failed: then
    the failure's text says that.
    """
    try:
        failure.schedule.save(path)
        if failure.verdict not in _NOT_OF_ONE_SCHEDULE:
            failure.how_to_replay = replay
        if failure.trace:
            path.with_suffix(".trace").write_text(failure.trace, encoding="utf-8")
            failure.trace_file = shown_as.removesuffix(path.suffix) + ".trace"
    except OSError as error:
        failure.not_kept = f"{shown_as}: {error.strerror}"
