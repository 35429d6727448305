"""Imports point down only and in no circle, and importing the package brings in no event loop."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lkl_green"

# How large a circle may be outside the kernel if imports that only annotations need are counted, too.
ANNOTATED_CIRCLE = 3

# What only `host/native.py` takes from the standard library (None: all of a module), and the modules that replace it.
NATIVE: dict[str, set[str] | None] = {
    "_thread": None,
    "time": None,
    "threading": {"Lock", "RLock", "Condition", "Event", "Semaphore", "Barrier", "Timer", "Thread", "local"}
    | {"get_ident", "get_native_id", "current_thread", "enumerate", "active_count"},
}
REPLACES = ("green/", "testing/strays.py")


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


# -- circles


def imports_of(tree: ast.AST, *, for_annotations: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports of a module, in functions, too; on request also those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not for_annotations:
            for other in node.orelse:
                yield from imports_of(other, for_annotations=False)
        else:
            yield from imports_of(node, for_annotations=for_annotations)


def names_imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """What an import may name, each as package.module and as package.module.name."""
    if isinstance(node, ast.ImportFrom):
        assert not node.level, "the package has absolute imports only"
        yield str(node.module)
        for alias in node.names:
            yield f"{node.module}.{alias.name}"
    else:
        for alias in node.names:
            yield alias.name


def graph_of(directory: Path, package: str, *, for_annotations: bool) -> dict[str, set[str]]:
    """Which modules of a package each of its modules imports."""
    modules = {}
    for file in sorted(directory.rglob("*.py")):
        parts = file.relative_to(directory).with_suffix("").parts
        modules[".".join((package, *(part for part in parts if part != "__init__")))] = file
    graph = {}
    for module, file in modules.items():
        named = set()
        for node in imports_of(ast.parse(file.read_text()), for_annotations=for_annotations):
            found = [name for name in names_imported(node) if name in modules]
            # `from package import module` needs the module, and not what the package offers.
            named.update(found[1:] if len(found) == 1 + len(node.names) else found)
        graph[module] = named - {module}
    return graph


def circles_of(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one module."""
    reached = {}
    for module in graph:
        seen: set[str] = set()
        to_see = [module]
        while to_see:
            news = graph[to_see.pop()] - seen
            seen |= news
            to_see += news
        reached[module] = seen
    circles = [sorted(other for other in seen if module in reached[other]) for module, seen in reached.items()]
    return sorted(circle for circle in {tuple(circle): circle for circle in circles}.values() if circle)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = graph_of(PACKAGE, "lkl_green", for_annotations=False)
    assert len(graph) > 200
    assert circles_of(graph) == []


def test_annotations_tie_few_modules_into_a_circle_outside_the_kernel() -> None:
    circles = circles_of(graph_of(PACKAGE, "lkl_green", for_annotations=True))
    outside = [[module for module in circle if not module.startswith("lkl_green.kernel.")] for circle in circles]
    assert [circle for circle in outside if len(circle) > ANNOTATED_CIRCLE] == []


def test_a_circle_is_found_wherever_the_import_stands(tmp_path: Path) -> None:
    texts = {
        "__init__": "from p.a import x",
        "a": "from p import b",
        "b": "def late():\n    import p.c",
        "c": "from p.a import x\nif TYPE_CHECKING:\n    from p.d import y",
        "d": "from p.c import x",
        "e": "import p.e\nimport p.a",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    assert circles_of(graph_of(tmp_path, "p", for_annotations=False)) == [["p.a", "p.b", "p.c"]]
    assert circles_of(graph_of(tmp_path, "p", for_annotations=True)) == [["p.a", "p.b", "p.c", "p.d"]]


# -- what is native


def natives_taken(tree: ast.AST) -> Iterator[str]:
    """Locks, threads and clocks that a module takes from the standard library itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if NATIVE.get(alias.name, ()) is None)
        elif isinstance(node, ast.ImportFrom) and node.module in NATIVE:
            names = NATIVE[node.module]
            yield from (f"{node.module}.{alias.name}" for alias in node.names if names is None or alias.name in names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "threading":
            yield from (f"threading.{name}" for name in NATIVE["threading"] or () if name == node.attr)


def test_locks_threads_and_clocks_come_from_where_they_are_never_replaced() -> None:
    taken = {}
    for file in PACKAGE.rglob("*.py"):
        name = file.relative_to(PACKAGE).as_posix()
        if name != "host/native.py" and not name.startswith(REPLACES):
            taken[name] = sorted(set(natives_taken(ast.parse(file.read_text()))))
    assert {name: found for name, found in taken.items() if found} == {}, "import these from lkl_green.host.native"
