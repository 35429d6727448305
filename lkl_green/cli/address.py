"""Tests by their address, FILE.py::test_name, as pytest writes it."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lkl_green.compare.program import load_file
from lkl_green.errors import NotATest, ProgramError
from lkl_green.testing.decorator import undecorated
from lkl_green.testing.plain import check_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def load_test(address: str) -> Iterator[Callable[[], object]]:
    """The test function at an address, for as long as the context lasts.

    Raises:
        ProgramError: there is no such file or function, or it takes arguments.
    """
    path, colons, name = address.partition("::")
    if not colons or not name:
        raise ProgramError(f"{address}: which test? Write FILE.py::test_name")
    with load_file(path) as module:
        yield _find(address, name, vars(module))


def _find(address: str, name: str, names: dict[str, Any]) -> Callable[[], object]:
    if "::" in name or "[" in name:
        raise ProgramError(
            f"{address}: this is a method or one of several cases; only pytest knows how to call it: mark it with "
            "@pytest.mark.schedules and run it with pytest"
        )
    if name not in names:
        tests = [other for other, value in names.items() if other.startswith("test") and inspect.isfunction(value)]
        there_are = f"; there are {', '.join(tests)}" if tests else ""
        raise ProgramError(f"{address}: the file has no {name}{there_are}")
    test = undecorated(names[name])
    try:
        check_plain(test)
    except NotATest as error:
        raise ProgramError(f"{address}: {error}") from None
    _check_no_arguments(address, test)
    return test  # type: ignore[no-any-return]


def _check_no_arguments(address: str, test: Callable[..., object]) -> None:
    needed = [
        parameter.name
        for parameter in inspect.signature(test).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise ProgramError(
            f"{address}: it takes arguments ({', '.join(needed)}). If they are fixtures of pytest, mark the test with "
            "@pytest.mark.schedules and run it with pytest"
        )
