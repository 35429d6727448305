"""Bugs of released packages, and the same patterns in programs of our own (examples 30 to 32)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.testing import Outcome, Schedule, Verdict, explore, replay

if TYPE_CHECKING:
    from types import ModuleType

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent.parent
PATTERNS = {
    "30_reader_in_writer": Verdict.DEADLOCK,
    "31_second_reader": Verdict.DEADLOCK,
    "32_computed_twice": Verdict.FAILED,
}
SEEDS = range(5)


@pytest.fixture(params=PATTERNS)
def example(request: pytest.FixtureRequest) -> ModuleType:
    spec = spec_from_file_location(f"example_{request.param}", ROOT / "examples" / f"{request.param}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["verdict"] = PATTERNS[request.param]
    return module


# -- the patterns


def test_every_seed_finds_the_bug_and_its_file_replays(example: Any, tmp_path: Path) -> None:
    for seed in SEEDS:
        report = explore(example.test_as_written, threads=True, seed=seed)
        assert report.outcome is Outcome.FAILED
        assert report.failure is not None
        assert report.failure.verdict is example.verdict
        file = tmp_path / f"{seed}.json"
        report.failure.schedule.save(file)
        again = replay(example.test_as_written, Schedule.load(file))
        assert again is not None
        assert (again.verdict, again.error) == (report.failure.verdict, report.failure.error)


def test_one_preemption_is_enough_and_needed(example: Any) -> None:
    shrink = pytest.importorskip("lkl_green.testing.shrink").shrink
    failure = explore(example.test_as_written, threads=True).failure
    smallest = shrink(example.test_as_written, failure)
    assert smallest.shrunk.after.preemptions == 1
    assert smallest.shrunk.minimal
    assert sum(bool(step.preempts) for step in smallest.steps) == 1


def test_what_was_fixed_passes_and_the_recorded_schedule_does_no_harm(example: Any) -> None:
    failure = explore(example.test_as_written, threads=True).failure
    assert failure is not None
    for seed in SEEDS:
        assert explore(example.test_fixed, threads=True, schedules=500, seed=seed).passed
    again = replay(example.test_fixed, failure.schedule)
    assert again is None or again.verdict is Verdict.MISMATCH, "the fixed program has other operations, or passes"


def test_without_choices_the_bug_does_not_show(example: Any) -> None:
    """First come, first served: what a test on an idle machine sees."""
    assert explore(example.test_as_written, threads=True, policy="fifo", schedules=1).passed


# -- the packages


def lines_of(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines()}


def schedule_in_documentation(program: str) -> set[str]:
    """The steps of the schedule that the page shows for a program."""
    page = (ROOT / "docs" / "real-bugs.md").read_text()
    block = next(block for block in page.split("```") if f"{program}.py:" in block and block.startswith("text"))
    steps = {line for line in lines_of(block) if re.match(r"\d+  ", line)}
    assert len(steps) > 8
    return steps


@pytest.mark.parametrize("package", ["fasteners", "pykka", "cachetools"])
def test_old_release_fails_and_fixed_release_passes(package: str, tmp_path: Path) -> None:
    """Found for three seeds, shrunk, replayed; `make real-bugs` does more of it."""
    if find_spec("pip") is None:
        pytest.skip("no pip in this environment to install the releases with")
    cache = Path(os.environ.get("LKL_GREEN_REAL_BUGS", tmp_path))
    cache.mkdir(parents=True, exist_ok=True)
    releases = import_module("benchmarks.real_bugs.releases")
    bug = import_module("benchmarks.real_bugs.bugs").BUGS[package]
    for version in (bug.old, bug.fixed):
        try:
            releases.install(package, version, cache)
        except releases.NotInstalled as error:
            pytest.skip(str(error))
    command = [
        sys.executable,
        "-m",
        "benchmarks.real_bugs",
        package,
        "--runs=100",
        "--seeds=3",
        "--schedules=500",
        "--searched=2500",
    ]
    done = subprocess.run(
        [*command, f"--cache={cache}", "--python", sys.executable],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"{package} {bug.old}: {bug.test}" in done.stdout
    assert "1 preemption and" in done.stdout
    assert done.stdout.count(f": {bug.verdict}\n") == 2, "both files replay"
    assert f"{package} {bug.fixed}: {bug.test}\n  pos: passed, 500 schedules" in done.stdout
    assert schedule_in_documentation(bug.program) <= lines_of(done.stdout)
    assert "preemption-bound:3: exhausted within 3 preemptions" in done.stdout
