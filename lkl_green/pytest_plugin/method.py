"""The function that a test item calls, on a new instance of its class for each schedule."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Method:
    """A test function or method.

    Args:
        item: the test.
        function: what to call instead of the item's own function; None: that one.

    Attributes:
        function: it, not bound to an instance.
    """

    def __init__(self, item: pytest.Function, function: Callable[..., object] | None = None) -> None:
        self._item = item
        self._is_in_class = isinstance(item.parent, pytest.Class)
        bound = self._is_in_class and getattr(item.obj, "__self__", None) is item.instance
        self._is_bound = bound
        self.function: Any = function or (item.obj.__func__ if bound else item.obj)

    def renew(self) -> None:
        """Give the item a new instance, and the function that belongs to it."""
        item = self._item
        if self._is_in_class:
            item._instance = item._getinstance()  # type: ignore[no-untyped-call]
        item.obj = self.function.__get__(item._instance) if self._is_bound else self.function

    def give(self, arguments: Mapping[str, Any]) -> None:
        """Pass these to the function in addition to the fixtures."""
        if not arguments:
            return
        unknown = set(arguments) - set(inspect.signature(self.function).parameters)
        if unknown:
            raise TypeError(f"setup made {', '.join(sorted(unknown))}, which the test does not take")
        self._item.obj = functools.partial(self._item.obj, **arguments)

    def check_setup(self, setup: Callable[..., object]) -> None:
        """Raises TypeError if `setup` wants what is no argument of the test."""
        given = self._item._fixtureinfo.argnames
        for parameter in inspect.signature(setup).parameters.values():
            if parameter.name not in given and parameter.default is parameter.empty:
                raise TypeError(
                    f"setup wants {parameter.name!r}, which is no argument that {self._item.name} is called with"
                )

    def arguments_for(self, setup: Callable[..., object], values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of `setup`, from the fixtures of the test."""
        given = self._item._fixtureinfo.argnames
        return {name: values[name] for name in inspect.signature(setup).parameters if name in given}
