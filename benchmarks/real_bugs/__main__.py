"""The story of each bug: found in the old release, replayed on each Python, shrunk, gone from the fixed release."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.real_bugs.bugs import BUGS, Bug
from benchmarks.real_bugs.releases import NotInstalled, install

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parent.parent.parent
_TIMEOUT_S = 300


class Wrong(Exception):
    """Something did not go as the story has it."""


class Inside:
    """A release, and a Python that can import it.

    Args:
        bug: whose.
        directory: where the release is installed.
        python: the interpreter.
    """

    def __init__(self, bug: Bug, directory: Path, python: str = sys.executable) -> None:
        self._bug = bug
        self._directory = directory
        self._python = python

    def ask(self, *question: object) -> Any:
        """What `benchmarks.real_bugs.inside` answers. Raises Wrong if it cannot."""
        paths = os.pathsep.join((str(ROOT), str(self._directory)))
        done = subprocess.run(
            [self._python, "-m", "benchmarks.real_bugs.inside", self._bug.package, *map(str, question)],
            env={**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise Wrong(done.stderr.strip())
        return json.loads(done.stdout.splitlines()[-1])


def pythons() -> list[str]:
    """This interpreter, and those of the virtual environments that `make` keeps, where lkl_green can be imported."""
    others = sorted(str(path) for path in ROOT.glob(".venv-*/bin/python"))
    return [sys.executable, *(python for python in others if can_run(python))]


def can_run(python: str) -> bool:
    """Whether an interpreter has what lkl_green needs."""
    tried = subprocess.run([python, "-c", "import greenlet, anyio"], capture_output=True, timeout=60, check=False)
    return tried.returncode == 0


class Effort(NamedTuple):
    """How much is done for each bug.

    Attributes:
        runs: of the test on OS threads.
        seeds: how often the bug is looked for.
        schedules: what the fixed release has to pass.
        searched: how many of all its schedules may be run.
        pythons: interpreters to replay on.
    """

    runs: int
    seeds: int
    schedules: int
    searched: int
    pythons: Sequence[str]


def tell(bug: Bug, cache: Path, effort: Effort) -> None:
    """The story of one bug. Raises Wrong where it goes otherwise, NotInstalled without the releases."""
    old, fixed = install(bug.package, bug.old, cache), install(bug.package, bug.fixed, cache)
    say(f"{bug.package} {bug.old}: {bug.test}")
    alone = Inside(bug, old).ask("unhelped", effort.runs)
    say(f"  on OS threads: {alone['failed']} of {alone['runs']} runs fail")
    with tempfile.TemporaryDirectory() as directory:
        tell_finding(bug, Inside(bug, old).ask("find", effort.seeds, directory))
        for name in ("found.json", "shrunk.json"):
            for python in effort.pythons:
                tell_replay(bug, name, Inside(bug, old, python).ask("replay", Path(directory, name)))
    tell_fixed(bug, Inside(bug, fixed).ask("passes", effort.schedules, effort.searched))


def tell_finding(bug: Bug, found: Any) -> None:
    """How many schedules it took, and the simplest that fails."""
    needed = found["needed"]
    if not needed or None in needed:
        raise Wrong(f"not found: {needed}")
    say(f"  found by schedule {', '.join(map(str, needed))}, for seeds 0 to {len(needed) - 1}")
    say(indent(found["report"], "    "))
    if found["verdicts"] != [bug.verdict]:
        raise Wrong(f"expected {bug.verdict}, got {found['verdicts']}")


def tell_replay(bug: Bug, name: str, replayed: Any) -> None:
    """What one Python makes of a schedule file."""
    say(f"  {name} replayed on Python {replayed['python']}: {replayed['verdict']}")
    if replayed["verdict"] != bug.verdict:
        raise Wrong(f"expected {bug.verdict}")


def tell_fixed(bug: Bug, outcomes: Any) -> None:
    """What the fixed release makes of many schedules, and of all there are."""
    say(f"{bug.package} {bug.fixed}: {bug.test}")
    for found in outcomes:
        rate = found["schedules"] / found["elapsed_s"]
        said = found["reason"] or found["outcome"]
        say(f"  {found['policy']}: {said}, {found['schedules']} schedules, {rate:.0f}/s")
        if found["outcome"] == "failed":
            raise Wrong("the fixed release fails")
    say("")


def say(text: str) -> None:
    """Standard output, at once."""
    print(text, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """All bugs, or some."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_bugs", description=__doc__)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=f"only these of {', '.join(BUGS)}")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where releases are kept; a temporary directory")
    parser.add_argument("--python", nargs="+", metavar="FILE", help="the interpreters to replay on")
    parser.add_argument("--runs", type=int, default=2_000, metavar="N", help="how often OS threads run each test")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="how often each bug is looked for")
    parser.add_argument("--schedules", type=int, default=10_000, metavar="N", help="what the fixed release has to pass")
    parser.add_argument(
        "--searched", type=int, default=20_000, metavar="N", help="how many of all there are may be run"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.packages) - set(BUGS)
    if unknown:
        parser.error(f"no bug of {', '.join(sorted(unknown))} here; there are {', '.join(BUGS)}")
    effort = Effort(options.runs, options.seeds, options.schedules, options.searched, options.python or pythons())
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or Path(temporary)
        cache.mkdir(parents=True, exist_ok=True)
        for package in options.packages or BUGS:
            try:
                tell(BUGS[package], cache, effort)
            except (NotInstalled, Wrong) as error:
                say(f"{type(error).__name__}: {error}")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
