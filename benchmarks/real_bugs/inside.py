"""What is done inside one release: `python -m benchmarks.real_bugs.inside PACKAGE WHAT ...`, answers as JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from benchmarks.real_bugs.bugs import BUGS, Bug
from lkl_green.testing import Schedule, explore, replay
from lkl_green.testing.shrink import shrink

if TYPE_CHECKING:
    from collections.abc import Callable

_WITHIN = 10_000
_HANGS_S = 5.0
_WIDTH = 116

# What looks for all schedules, within a bound and without.
SEARCHES = ("preemption-bound:3", "dfs")


def test_of(bug: Bug) -> Callable[[], object]:
    """The bug's test, on whichever release can be imported here."""
    test: Callable[[], object] = getattr(importlib.import_module(f"benchmarks.real_bugs.{bug.program}"), bug.test)
    return test


def find(bug: Bug, seeds: int, directory: str) -> dict[str, Any]:
    """Explore under several seeds; how many schedules each needs. The first one's failure is saved, and shrunk."""
    test = test_of(bug)
    reports = [
        explore(test, threads=True, points="sync", schedules=_WITHIN, seed=seed, name=bug.test) for seed in range(seeds)
    ]
    failure = reports[0].failure
    if failure is None:
        return {"needed": []}
    smaller = shrink(test, failure)
    smaller.trace = ""  # the table says it shorter
    failure.schedule.save(Path(directory, "found.json"))
    smaller.schedule.save(Path(directory, "shrunk.json"))
    return {
        "needed": [report.schedules if report.failure else None for report in reports],
        "verdicts": sorted({each.verdict.value for report in reports for each in report.failures}),
        "report": smaller.text(_WIDTH),
    }


def again(bug: Bug, file: str) -> dict[str, Any]:
    """Replay a schedule from its file."""
    failure = replay(test_of(bug), Schedule.load(Path(file)))
    return {"verdict": failure.verdict.value if failure else "passed", "python": sys.version.split()[0]}


def passes(bug: Bug, schedules: int, searched: int) -> list[dict[str, Any]]:
    """Explore a release that should have no bug: as it was found, and in search of all schedules there are."""
    test, outcomes = test_of(bug), []
    for policy, limit in (("pos", schedules), *((search, searched) for search in SEARCHES)):
        report = explore(test, threads=True, points="sync", policy=policy, schedules=limit, name=bug.test)
        outcomes.append(
            {
                "policy": policy,
                "outcome": report.outcome.value,
                "reason": report.reason,
                "schedules": report.schedules,
                "elapsed_s": report.elapsed_s,
            }
        )
    return outcomes


def unhelped(bug: Bug, runs: int) -> dict[str, Any]:
    """Run the test on OS threads, as it stands; how many runs fail. One that hangs is the last."""
    test, failed = test_of(bug), 0

    def run() -> None:
        nonlocal failed
        try:
            test()
        except AssertionError:
            failed += 1

    for number in range(runs):
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(_HANGS_S)
        if thread.is_alive():
            return {"failed": failed + 1, "runs": number + 1}
    return {"failed": failed, "runs": runs}


def main(arguments: list[str] | None = None) -> NoReturn:
    """One question, one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_bugs.inside")
    parser.add_argument("package", choices=list(BUGS))
    questions = parser.add_subparsers(required=True)
    finds = questions.add_parser("find")
    finds.add_argument("seeds", type=int)
    finds.add_argument("directory")
    finds.set_defaults(answer=find)
    replays = questions.add_parser("replay")
    replays.add_argument("file")
    replays.set_defaults(answer=again)
    passing = questions.add_parser("passes")
    passing.add_argument("schedules", type=int)
    passing.add_argument("searched", type=int)
    passing.set_defaults(answer=passes)
    alone = questions.add_parser("unhelped")
    alone.add_argument("runs", type=int)
    alone.set_defaults(answer=unhelped)
    options = vars(parser.parse_args(arguments))
    answer, bug = options.pop("answer"), BUGS[options.pop("package")]
    print(json.dumps(answer(bug, **options)), flush=True)
    os._exit(0)  # threads that hang would be waited for


if __name__ == "__main__":
    main()
