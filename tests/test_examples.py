"""Each example prints what is recorded next to it, and its SHA-256 is the one of the file.

A recording begins with the command that made it, after a dollar sign. LKL_GREEN_RECORD=1 makes the recordings anew.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
COMMANDS = {"lkl-green": [sys.executable, "-m", "lkl_green"], "python": [sys.executable]}


def run_command(command: str) -> str:
    """What a command line of the documentation prints, run from the top of the checkout."""
    name, *arguments = shlex.split(command)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*COMMANDS[name], *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_prints_what_is_recorded(example: Path) -> None:
    recording = example.with_suffix(".out")
    command, _, recorded = recording.read_text().partition("\n")
    printed = run_command(command.removeprefix("$ "))
    if os.environ.get("LKL_GREEN_RECORD"):
        recording.write_text(f"{command}\n{printed}")
    assert printed.splitlines() == recorded.splitlines()


def test_examples_have_numbers_of_their_own_and_explain_themselves() -> None:
    numbers = [int(example.name[:2]) for example in EXAMPLES]
    assert len(set(numbers)) == len(numbers)
    for example in EXAMPLES:
        text = example.read_text()
        assert text.startswith('"""')
        assert f"examples/{example.name}" in text, "the docstring says how to run it"


@pytest.mark.parametrize("blocks", ["512", "1000", "4096", "1"])
@pytest.mark.parametrize("host", ["greenlet", "thread"])
def test_block_device_prints_the_sha256_of_the_file(tmp_path: Path, host: str, blocks: str) -> None:
    file = tmp_path / "disk image"
    file.write_bytes(bytes(range(256)) * 2 + b"the last block is short")
    printed = run_command(f"lkl-green run --host {host} examples/04_block_device.py '{file}' {blocks} 5")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert printed.splitlines()[-1] == f"{digest}  {file}"


def test_block_device_of_an_empty_file(tmp_path: Path) -> None:
    file = tmp_path / "empty"
    file.touch()
    printed = run_command(f"lkl-green run examples/04_block_device.py {file}")
    assert printed.splitlines()[-1] == f"{hashlib.sha256().hexdigest()}  {file}"
