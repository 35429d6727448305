"""The programs of the benchmark have their bug, and nothing else is wrong with them."""

from __future__ import annotations

import pytest

from lkl_green.testing import explore
from lkl_green.testing.policies import FIFO, RoundRobin

programs = pytest.importorskip("benchmarks.schedules.programs", reason="the benchmarks are not on the path")


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_the_portfolio_finds_it_soon(name: str) -> None:
    program = programs.PROGRAMS[name]
    report = explore(program.test, policy="portfolio", schedules=200, name=name)
    assert report.failure is not None
    assert report.failure.verdict is program.bug


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_it_shows_in_some_schedules_only(name: str) -> None:
    program = programs.PROGRAMS[name]
    # Oldest first, or newest first: at least one goes well. A program that always fails would flatter every policy.
    policies = (FIFO(), RoundRobin(200, newest_first=True))
    assert any(explore(program.test, policy=policy, schedules=1, name=name).passed for policy in policies)
