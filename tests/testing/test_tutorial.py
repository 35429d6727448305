"""The tutorials are true: in an empty directory their files are written, their commands run, and print what they say.

A block of `python` begins with a comment that names its file. In a block of `console`, lines after a `$` are commands
for the shell, and what follows is what they print, where a line of three dots stands for any lines.
LKL_GREEN_RECORD=1 writes down anew what they print.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("tutorial-*.md"))
FENCE = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
TIMEOUT_S = 60

# Of the environment, only what a program needs: pytest prints more where CI is set, and colours where FORCE_COLOR is.
KEPT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")

PROGRAMS = {
    "lkl-green": "-m lkl_green",
    "pytest": "-m pytest -p lkl_green.pytest_plugin -p no:cacheprovider",
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The programs that the pages call, whether or not this checkout is installed."""
    for name, arguments in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        program.chmod(0o755)
    return {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "COLUMNS": "80",
    }


def run(command: str, directory: Path, environment: dict[str, str]) -> str:
    """What a command prints, without what differs between machines and Pythons: times, addresses, carets."""
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    printed = re.sub(r"in \d+\.\d\ds\b", "in 0.12s", done.stdout)
    printed = re.sub(r"in \d+ runs\b", "in 30 runs", printed)
    printed = re.sub(r"\b0x[0-9a-f]{5,}\b", "0x7f0123456789", printed)
    lines = [line.rstrip() for line in printed.splitlines()]
    return "".join(f"{line}\n" for line in lines if not line or set(line) - set(" ^~"))


def follows(printed: str, said: str) -> bool:
    """Whether the output is what the page says."""
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in said.splitlines())
    return re.fullmatch(pattern, printed) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_print_what_the_page_says(page: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    directory = tmp_path / "work"
    directory.mkdir()
    text = page.read_text()

    def block(match: re.Match[str]) -> str:
        language, content = match.groups()
        if language == "python":
            (directory / content.splitlines()[0].removeprefix("# ")).write_text(content.partition("\n")[2])
            return match[0]
        return f"```console\n{COMMAND.sub(command, content)}```"

    def command(match: re.Match[str]) -> str:
        printed = run(match[1], directory, environment)
        if os.environ.get("LKL_GREEN_RECORD"):
            return f"$ {match[1]}\n{printed}"
        assert follows(printed, match[2]), f"{page.name}: $ {match[1]}\n{printed}"
        return match[0]

    recorded = FENCE.sub(block, text)
    if recorded != text:
        page.write_text(recorded)


def test_there_is_a_tutorial() -> None:
    assert [page.name for page in PAGES] == ["tutorial-race.md"]
