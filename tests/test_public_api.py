"""What the package exports exists, is in order, and says what it is."""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import pkgutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lkl_green
from lkl_green import linux
from lkl_green.linux import SIGCHLD

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green import Kernel

# Constants have no docstring of their own.
PLAIN = (int, str)


def exported_by_application_side() -> list[str]:
    """The names that `lkl_green/__init__.py` re-exports, as `from x import name as name`."""
    tree = ast.parse(Path(lkl_green.__file__).read_text())
    return [
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname is not None
    ]


def exported() -> list[tuple[Any, str]]:
    ours = [(lkl_green, name) for name in exported_by_application_side()]
    return ours + [(linux, name) for name in linux.__all__]


def described(thing: Any) -> bool:
    if isinstance(thing, PLAIN) and not isinstance(thing, enum.Enum):
        return True
    return bool(inspect.getdoc(thing)) and inspect.getdoc(thing) != inspect.getdoc(type(thing))


@pytest.mark.parametrize(("module", "name"), exported(), ids=lambda value: getattr(value, "__name__", value))
def test_exported_name_exists_and_has_a_docstring(module: Any, name: str) -> None:
    assert hasattr(module, name)
    assert described(getattr(module, name)), f"{module.__name__}.{name} has no docstring"


def public_methods(kind: type) -> list[str]:
    return [name for name, value in vars(kind).items() if not name.startswith("_") and callable(value)]


@pytest.mark.parametrize(
    "kind",
    dict.fromkeys(thing for module, name in exported() if inspect.isclass(thing := getattr(module, name))),
    ids=lambda kind: kind.__name__,
)
def test_public_methods_have_docstrings(kind: type) -> None:
    for name in public_methods(kind):
        assert inspect.getdoc(getattr(kind, name)), f"{kind.__name__}.{name}() has no docstring"


def test_in_kernel_api_is_sorted_and_complete() -> None:
    kinds = [sorted(filter(test, linux.__all__)) for test in (str.isupper, is_class_name, is_function_name)]
    assert linux.__all__ == [name for kind in kinds for name in kind], "constants, classes, functions; each sorted"
    assert len(set(linux.__all__)) == len(linux.__all__)


@pytest.mark.parametrize("header", [module.name for module in pkgutil.iter_modules(linux.__path__)])
def test_what_a_header_defines_is_exported(header: str) -> None:
    module = importlib.import_module(f"lkl_green.linux.{header}")
    defined = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    assert defined
    assert set(defined) <= set(linux.__all__)
    assert header not in linux.__all__, "a function of this name would hide the module, or the other way round"


def is_class_name(name: str) -> bool:
    return name[0].isupper() and not name.isupper()


def is_function_name(name: str) -> bool:
    return name[0].islower()


def test_application_side_has_nothing_else() -> None:
    """Whatever else stands in the package's namespace is one of its modules or private."""
    names = {name for name in vars(lkl_green) if not name.startswith("_")}
    for name in names - set(exported_by_application_side()):
        assert inspect.ismodule(getattr(lkl_green, name)), f"lkl_green.{name} is exported by accident"


def test_version_is_that_of_the_change_log() -> None:
    changes = (Path(lkl_green.__file__).parent.parent / "CHANGES.md").read_text()
    assert f"## {lkl_green.__version__}" in changes


# -- names and paths that other code knows


def test_names_that_moved_or_changed_work_under_their_former_ones() -> None:
    import lkl_green.kernel.loop
    import lkl_green.testing.threads
    from lkl_green.compare import parity
    from lkl_green.kernel import policy

    assert lkl_green.kernel.loop.RunUntil is lkl_green.RunUntil
    assert lkl_green.Policy is policy.Policy is lkl_green.SchedulingPolicy
    assert parity.Run is parity.TracedRun
    assert lkl_green.testing.threads.run_threads(lambda: threading.current_thread().name) == "MainThread"


def test_parts_of_a_kernel_that_other_code_knows(run: Callable[..., Any]) -> None:
    def init() -> tuple[bool, tuple[int, Any], bool]:
        kernel = linux.current_kernel()
        pid = linux.kernel_thread(lambda _: linux.do_exit(3), None, SIGCHLD)
        exists = pid in [task.pid for task in kernel.pids]
        return exists, kernel.exits.wait4(pid), kernel.timers.irq in kernel.irq.lines

    exists, (_pid, code), has_line = run(init)
    assert exists
    assert code == 3
    assert has_line


def test_the_flags_of_a_kernels_life_are_there(boot: Callable[..., Kernel]) -> None:
    def flags() -> tuple[bool, ...]:
        return kernel.stopping, kernel.halting, kernel.halted, kernel.panicked is not None

    def task() -> None:
        try:
            linux.msleep(1000)
        finally:
            seen.append(flags())

    def init() -> None:
        linux.kthread_run(task)
        linux.msleep(2000)

    seen: list[tuple[bool, ...]] = []
    kernel = boot(init)
    kernel.lkl_run()
    assert flags() == (False, False, False, False)
    kernel.power_off()
    assert flags() == (True, False, False, False)
    kernel.lkl_run()
    assert seen == [(True, True, False, False)]
    assert flags() == (True, True, True, False)
