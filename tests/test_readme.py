"""The documentation is true: its programs run and print what it says, its commands exist, its links lead somewhere.

The Python blocks of a page run one after another in one namespace. A block of `text` right after one is what it prints.
Functions named test_* in a page are called. In a block of `console`, lines after a `$` are commands, the rest is what
they print.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from test_examples import run_command

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Tutorials make files and run commands in a directory of their own; tests/testing/test_tutorial.py follows them.
RUNNING = [page for page in PAGES if not page.name.startswith("tutorial-")]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(#[^)\s]*)?\)")


class Block(NamedTuple):
    language: str
    text: str
    line: int
    follows_directly: bool


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    blocks = []
    end = 0
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start(2)) + 1
        blocks.append(Block(match[1], match[2], line, not text[end : match.start()].strip()))
        end = match.end()
    return blocks


def by_name(page: Path) -> str:
    return page.name


def run_block(page: Path, block: Block, namespace: dict[str, Any], directory: Path) -> str:
    """Run a block as if it stood at its place in a file, so that a traceback names the line of the page.

    A block that begins with the name of a file is written to that file: points in ordinary code need the source.
    """
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
    named = re.match(r"# (\w+\.py)\n", block.text)
    if named is not None:
        file = directory / named[1]
        file.write_text(block.text)
        code = compile(block.text, str(file), "exec", dont_inherit=True)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, namespace)
    return printed.getvalue()


@pytest.mark.parametrize("page", RUNNING, ids=by_name)
def test_programs_print_what_the_page_says(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = ModuleType(page.stem)
    monkeypatch.setitem(sys.modules, page.stem, module)
    namespace = vars(module)
    monkeypatch.chdir(ROOT)
    printed = ""
    for block in blocks_of(page):
        if block.language == "python":
            printed = run_block(page, block, namespace, tmp_path)
        elif block.language == "text" and block.follows_directly:
            assert printed.splitlines() == block.text.splitlines(), f"{page.name}:{block.line}"
    for name, function in list(namespace.items()):
        if name.startswith("test_"):
            function()


@pytest.mark.parametrize("page", RUNNING, ids=by_name)
def test_commands_print_what_the_page_says(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "console":
            for command, said in re.findall(r"^\$ (.*)\n((?:[^$].*\n|\n)*)", block.text, re.MULTILINE):
                assert run_command(command).splitlines() == said.splitlines(), f"{page.name}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, _ in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_is_short_and_its_program_is_small() -> None:
    text = (ROOT / "README.md").read_text()
    assert 60 <= len(text.splitlines()) <= 190
    program = blocks_of(ROOT / "README.md")[0]
    assert program.language == "python"
    assert 10 <= len([line for line in program.text.splitlines() if line.strip()]) <= 25


def test_every_page_is_on_the_map() -> None:
    text = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in text


def test_commands_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make (\w+)", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for file in re.findall(r"examples/\w+\.py", (ROOT / "README.md").read_text()):
        assert (ROOT / file).is_file()


def test_what_the_readme_needs_is_what_the_package_declares() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = sorted(re.split(r"[<>=]", requirement)[0] for requirement in project["dependencies"])
    text = (ROOT / "README.md").read_text()
    assert f"depends on {' and '.join(reversed(names))}" in text
    assert f"Python {project['requires-python'].removeprefix('>=')} or later" in text
