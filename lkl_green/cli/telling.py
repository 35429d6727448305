"""What `explore` and `replay` print, for people and as JSON."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from lkl_green.compare.program import user_traceback

if TYPE_CHECKING:
    from pathlib import Path

    from lkl_green.testing import Failure, Report, Schedule


def report_for_people(report: Report, path: Path | None) -> str:
    """The outcome, the first failure, and how to see it again. No times: the same call prints the same."""
    why = f" ({report.reason})" if report.reason not in ("", report.outcome.value) else ""
    schedules = f"{report.schedules} schedule{'s'[: report.schedules != 1]}"
    lines = [f"{report.test}: {report.outcome.value}{why}: {schedules}, policy {report.policy}, seed {report.seed}"]
    if report.failure is not None:
        lines += [f"schedule {report.failure.number}:", failure_for_people(report.failure)]
        lines += ["run it again:", f"  lkl-green replay {shlex.quote(str(path))}"]
    return "\n".join(lines)


def failure_for_people(failure: Failure) -> str:
    """What failed and how it came to that."""
    trace = "" if failure.exception is None else user_traceback(failure.exception).rstrip()
    headline = failure.verdict.value if trace else failure.headline()
    parts = [headline, failure.detail, trace]
    if failure.shrunk is not None:
        parts.append(str(failure.shrunk))
    return "\n".join(part for part in parts if part)


def replay_for_people(failure: Failure | None, schedule: Schedule) -> str:
    """The outcome of a replay."""
    if failure is None:
        return f"{schedule.test}: passed in this schedule, in which it was recorded as {schedule.verdict!r}"
    return f"{schedule.test}: {failure_for_people(failure)}"


def report_as_json(report: Report, path: Path | None) -> str:
    """The same for programs."""
    told = {
        "test": report.test,
        "outcome": report.outcome.value,
        "reason": report.reason,
        "policy": report.policy,
        "seed": report.seed,
        "schedules": report.schedules,
        "steps": report.steps,
        "elapsed_s": round(report.elapsed_s, 6),
        "failure": None if report.failure is None else _failure(report.failure),
        "schedule_file": None if path is None else str(path),
    }
    return json.dumps(told, indent=1)


def replay_as_json(failure: Failure | None, schedule: Schedule) -> str:
    """The same for programs."""
    told = {
        "test": schedule.test,
        "outcome": "passed" if failure is None else "failed",
        "failure": None if failure is None else _failure(failure),
    }
    return json.dumps(told, indent=1)


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "number": failure.number,
        "verdict": failure.verdict.value,
        "error": failure.error,
        "detail": failure.detail,
        "traceback": failure.traceback,
        "shrunk": None if failure.shrunk is None else str(failure.shrunk),
        "decisions": len(failure.schedule.decisions),
    }
