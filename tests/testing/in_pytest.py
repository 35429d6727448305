"""Runs of pytest with the plugin, for tests of what it does."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    Pytest = Callable[..., pytest.RunResult]

ROOT = Path(__file__).parents[2]
LOAD = ["-p", "no:cacheprovider", "-p", "lkl_green.pytest_plugin", "--tb=short"]


def make_environment_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs have the plugins that they name, whether or not this checkout is installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def in_this_process(pytester: pytest.Pytester, beginning: str) -> Pytest:
    """run(text, *args, ini=""): pytest on a file test_it.py that begins with `beginning`."""

    def run(text: str, *args: str, ini: str = "") -> pytest.RunResult:
        pytester.makeini("[pytest]\nfilterwarnings = error\n" + dedent(ini))
        pytester.makepyfile(test_it=dedent(beginning) + dedent(text))
        return pytester.runpytest_inprocess(*LOAD, *args)

    return run
