"""Which modules get points: the test's own, those of the project that it belongs to, and those that were asked for.

The project is the directory above the test that has a `pyproject.toml` or its like. Its modules are those below it; and
those of its packages that are installed elsewhere, as tox and nox do, which are recognised by their names. A test
without a project has the modules of its own directory. The standard library, other installed packages and this package
have no points, nor have the project's other test modules.
"""

from __future__ import annotations

import inspect
import re
import sys
import sysconfig
import tomllib
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

_MARKERS = ("pyproject.toml", "setup.py", "setup.cfg")
_PACKAGE = __name__.partition(".")[0]
_LIBRARY = tuple(dict.fromkeys(map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib"))))
_INSTALLED = ("site-packages", "dist-packages")
_TEST_MODULE = re.compile(r"test_.*\.py|.*_test\.py")


class Where:
    """Says which modules get points.

    Args:
        test: the test.
        points_in: names of further modules; the modules below a package belong to it.
    """

    def __init__(self, test: object, points_in: Iterable[str] = ()) -> None:
        function = unwrapped(test)
        self._asked = tuple(points_in)
        self.test_name: str = getattr(function, "__module__", None) or ""
        code = getattr(function, "__code__", None)
        self.test_file: str = "" if code is None else code.co_filename
        self._root, self._packages = _project(Path(self.test_file)) if self.test_file else (None, frozenset())

    def __call__(self, name: str, file: str | None) -> bool:
        """Whether a module gets points.

        Args:
            name: of the module.
            file: its source; None if it has none.
        """
        if any(name == asked or name.startswith(f"{asked}.") for asked in self._asked):
            return True
        top = name.partition(".")[0]
        if top == _PACKAGE or file is None or not file.endswith(".py"):
            return False
        if file == self.test_file:
            return True
        if _TEST_MODULE.fullmatch(Path(file).name):
            return False
        if top in self._packages:
            return True
        return self._root is not None and _is_below(file, self._root)

    def modules(self) -> Iterator[tuple[ModuleType, str]]:
        """The loaded modules that get points, with their files."""
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and inspect.ismodule(module) and self(name, file):
                yield module, file


def unwrapped(test: Any) -> Any:
    """The function that the test's author wrote."""
    while True:
        if isinstance(test, partial):
            test = test.func
        elif inspect.ismethod(test):
            test = test.__func__
        elif hasattr(test, "__wrapped__"):
            test = test.__wrapped__
        else:
            return test if hasattr(test, "__code__") else vars(type(test)).get("__call__", test)


def _is_below(file: str, root: str) -> bool:
    """Whether a file is the project's, and not of an environment that was made inside the project."""
    if not file.startswith(root) or any(f"/{place}/" in file for place in _INSTALLED):
        return False
    # A project may itself lie below a directory of the library, such as /usr; and a library below the project's.
    return not any(file.startswith(place) and place.startswith(root) for place in _LIBRARY)


@lru_cache(maxsize=64)
def _project(test_file: Path) -> tuple[str | None, frozenset[str]]:
    """The directory of the project that a test belongs to, and the names of its packages."""
    directory = test_file.absolute().parent
    if not directory.is_dir():
        return None, frozenset()
    for parent in (directory, *directory.parents):
        if any((parent / marker).is_file() for marker in _MARKERS):
            return f"{parent}/", _packages_of(parent)
    return f"{directory}/", frozenset()


def _packages_of(root: Path) -> frozenset[str]:
    """What a project can be imported as: its name, and its packages' names."""
    names = {path.parent.name for base in (root, root / "src") for path in base.glob("*/__init__.py")}
    names -= {"tests", "test", "docs"}
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
        names.add(re.sub(r"[-.]+", "_", project["name"]).lower())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        pass  # there is none, or it does not say
    return frozenset(names) - {_PACKAGE} - sys.stdlib_module_names
