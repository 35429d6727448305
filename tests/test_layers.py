"""Arrows point down only, and importing the package brings in no event loop."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def python(code: str) -> str:
    """What a fresh interpreter prints that knows nothing but the checkout."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_layers_are_kept() -> None:
    pytest.importorskip("importlinter", reason="import-linter is in the dependency group 'lint'")
    lint = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("module", ["lkl_green", "lkl_green.linux", "lkl_green.cli", "lkl_green.testing"])
def test_importing_brings_in_no_event_loop(module: str) -> None:
    loops = {"anyio", "asyncio", "trio", "gevent", "uvloop"}
    imported = set(python(f"import sys, {module}; print(*sys.modules)").split())
    assert module in imported
    assert not imported & loops


def test_every_package_has_its_layer() -> None:
    """A new package that no contract mentions would be free to import anything."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = set(re.findall(r"\w+", " ".join(contracts[0]["layers"])))
    for part in (ROOT / "lkl_green").iterdir():
        if part.suffix in ("", ".py") and part.stem not in ("__init__", "__pycache__"):
            assert part.stem in layers, f"{part.name} stands in no layer of the import-linter contract"
