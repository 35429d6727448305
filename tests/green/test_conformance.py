"""CPython's own tests of threads pass in kernel threads, and the page says so."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from tests_of_cpython import MODULES, PAGE, ROOT, RULES, VERSION, is_one_here, table_cell


def in_an_interpreter_of_its_own(*arguments: str) -> dict[str, Any]:
    """What the script tells: some of CPython's tests look at warnings, logs, or the heap."""
    script = ROOT / "tests" / "green" / "tests_of_cpython.py"
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    return in_an_interpreter_of_its_own("--json")


@pytest.mark.parametrize("module", [module for module in MODULES if is_one_here(module)])
def test_the_interpreters_own_tests_pass(module: str, outcomes: dict[str, Any]) -> None:
    outcome = outcomes[module]
    if outcome is None:
        assert importlib.util.find_spec(module.rpartition(".")[0]) is None or not importlib.util.find_spec(module)
        pytest.skip(f"this interpreter was installed without {module}")
    assert not outcome["failed"], "\n".join(f"{name}: {error}" for name, error in outcome["failed"].items())
    assert outcome["passed"]
    said = [int(number) for number in re.findall(r"\d+", table_cell(module))]
    if said:  # the page has numbers for this very version; which tests skip themselves depends on how it was built
        ran = len(outcome["passed"]) + len(outcome["skipped"])
        assert sum(said) == ran, f"docs/{PAGE.name} is out of date for {VERSION}"


@pytest.mark.once
def test_locks_keep_their_promises_under_random_schedules() -> None:
    pytest.importorskip("test.lock_tests", reason="this interpreter was installed without its tests")
    assert in_an_interpreter_of_its_own("--explore", "2") == {}


def test_the_page_gives_the_reason_of_each_rule() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for _, reason in RULES:
        assert f"| {reason} |" in text, reason


def test_the_page_has_a_row_for_each_module() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for module, what in MODULES.items():
        assert f"| `{module}` | {what} |" in text
