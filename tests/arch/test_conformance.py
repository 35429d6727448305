"""docs/conformance.md is complete: each rule has a test that carries its number, or a reason why it does not apply."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
PAGE = TESTS.parent / "docs" / "conformance.md"
RULES = range(1, 134)
NOT_APPLICABLE = "does not apply: "


def rules_in(path):
    """The numbers that the names of a file's tests carry."""
    return {int(number) for number in re.findall(r"^def test_rule_(\d+)[a-z]?_", path.read_text(), re.MULTILINE)}


@pytest.fixture(scope="module")
def tested():
    """The files in which each rule is tested."""
    files = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for number in rules_in(path):
            files.setdefault(number, []).append(path)
    return files


@pytest.fixture(scope="module")
def rows():
    """The page's rows: the last column of each rule."""
    found = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", PAGE.read_text(), re.MULTILINE)
    assert [int(number) for number, _ in found] == list(RULES), "each rule has one row, in order"
    return {int(number): cell for number, cell in found}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_has_a_test_or_a_reason_and_never_both(rule, tested, rows):
    if rows[rule].startswith(NOT_APPLICABLE):
        assert rule not in tested, f"rule {rule} does not apply, says the page, but there is a test: {tested[rule]}"
        assert len(rows[rule]) > len(NOT_APPLICABLE) + 10, "a reason, please"
    else:
        assert rule in tested, f"no test is named test_rule_{rule}_..., and the page gives no reason"


@pytest.mark.parametrize("rule", RULES)
def test_the_files_named_for_a_rule_hold_a_test_of_it(rule, rows):
    for name in re.findall(r"\]\(\.\./([^)]*)\)", rows[rule]):
        path = TESTS.parent / name
        assert path.is_file(), name
        assert rule in rules_in(path), f"{name} has no test_rule_{rule}_..."


def test_no_rule_is_made_up(tested):
    assert set(tested) <= set(RULES)
