"""What `explore` and `replay` print, for people and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from lkl_green.testing import Failure, Report, Schedule


def report_for_people(report: Report) -> str:
    """The outcome, and the first failure with how to see it again. No times: the same call prints the same."""
    why = f" ({report.reason})" if report.reason not in ("", report.outcome.value) else ""
    how = f"{report.counted()}, policy {report.policy}, seed {report.seed}"
    lines = [f"{report.test}: {report.outcome.value}{why}: {how}"]
    lines += report.facts()
    if report.failure is not None:
        lines += ["", report.failure.text()]
    return "\n".join(lines)


def replay_for_people(failure: Failure | None, schedule: Schedule, *, all_steps: bool = False) -> str:
    """The outcome of a replay.

    Args:
        failure: how it failed; None if it passed.
        schedule: what was replayed.
        all_steps: whether nothing is left out of the report.
    """
    if failure is None:
        return f"{schedule.test}: passed in this schedule, in which it was recorded as {schedule.verdict!r}"
    text = failure.text(max_lines=None) if all_steps else failure.text()
    return f"{schedule.test}: {failure.verdict.value}\n\n{text}"


def report_as_json(report: Report, path: Path | None) -> str:
    """The same for programs."""
    told = {
        "test": report.test,
        "outcome": report.outcome.value,
        "reason": report.reason,
        "policy": report.policy,
        "seed": report.seed,
        "schedules": report.schedules,
        "different_schedules": len(report.coverage.trails),
        "redundant": report.redundant,
        "replayed": report.replayed,
        "steps": report.steps,
        "elapsed_s": round(report.elapsed_s, 6),
        "failure": None if report.failure is None else _failure(report.failure),
        "points": report.points,
        "warnings": report.warnings,
        "races": report.races,
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
        "contrast": failure.contrast,
        "shrunk": None if failure.shrunk is None else str(failure.shrunk),
        "decisions": len(failure.schedule.decisions),
    }
