"""The tkinter example in a real window, on a display that exists only for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = "examples/22_tkinter.py"


def run_example(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, sys.executable, EXAMPLE, "--display"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="no Xvfb on this machine")
def test_in_a_window() -> None:
    pytest.importorskip("tkinter")
    done = run_example("xvfb-run", "-a")
    assert done.stderr == "", "it was the stand-in that ran"
    assert "somebody has knocked" in done.stdout


def test_without_a_display_it_says_so_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    done = run_example()
    assert done.stderr.startswith("no window: ")
    assert "somebody has knocked" in done.stdout
