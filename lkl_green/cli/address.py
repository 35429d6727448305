"""Tests by their address, FILE.py::test_name, as pytest writes it."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from lkl_green.compare.program import load_file
from lkl_green.errors import NotATest, ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class NeedsPytest(ProgramError):
    """Only pytest knows how to call this test."""


class Addressed(NamedTuple):
    """A test function.

    Attributes:
        test: it, to be called without arguments.
        asked: what a decorator or marker `schedules` on it asks for, as options of `explore()`.
    """

    test: Callable[[], object]
    asked: dict[str, Any]


@contextmanager
def load_test(address: str) -> Iterator[Addressed]:
    """The test function at an address, for as long as the context lasts.

    Raises:
        NeedsPytest: it takes arguments, or is a method or one of several cases.
        ProgramError: there is no such file or function.
    """
    path, colons, name = address.partition("::")
    if not colons or not name:
        raise ProgramError(f"{address}: which test? Write FILE.py::test_name")
    with load_file(path) as module:
        yield _find(address, name, vars(module))


def _find(address: str, name: str, names: dict[str, Any]) -> Addressed:
    # Imported here: `lkl-green run` loads this module, too, and needs no explorer.
    from lkl_green.testing.decorator import bind, explored
    from lkl_green.testing.plain import check_plain

    if "::" in name or "[" in name:
        raise NeedsPytest(
            f"{address}: this is a method or one of several cases; only pytest knows how to call it: mark it with "
            "@pytest.mark.schedules and run it with pytest"
        )
    if name not in names:
        tests = [other for other, value in names.items() if other.startswith("test") and inspect.isfunction(value)]
        there_are = f"; there are {', '.join(tests)}" if tests else ""
        raise ProgramError(f"{address}: the file has no {name}{there_are}")
    try:
        test, asked = explored(names[name], _marks(names))
        check_plain(test)
        _check_no_arguments(address, test)
        body = bind(test, inspect.signature(test).bind(), asked.pop("setup", None))
    except (NotATest, TypeError) as error:
        raise ProgramError(f"{address}: {error}") from None
    return Addressed(body, asked)


def _marks(names: dict[str, Any]) -> list[Any]:
    """Those of the module: one, or a list."""
    marks = names.get("pytestmark", [])
    return [getattr(mark, "mark", mark) for mark in (marks if isinstance(marks, list) else [marks])]


def _check_no_arguments(address: str, test: Callable[..., object]) -> None:
    needed = [
        parameter.name
        for parameter in inspect.signature(test).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise NeedsPytest(
            f"{address}: it takes arguments ({', '.join(needed)}). If they are fixtures of pytest, mark the test with "
            "@pytest.mark.schedules and run it with pytest"
        )
