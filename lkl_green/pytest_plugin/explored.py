"""Which tests are explored, and what their marker or decorator asks for."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

# The attribute of functions that the decorator `schedules()` has made; the decorator's module is not imported for it.
_DECORATED = "__lkl_green_explored__"


class Asked(NamedTuple):
    """What is asked for a test.

    Attributes:
        options: of `explore()`, and `setup`.
        function: the function that was decorated, not bound to an instance; None if none was.
    """

    options: dict[str, Any]
    function: Any = None


def is_explored(item: pytest.Item) -> bool:
    """Whether it has the marker or the decorator; with --lkl-all, every test function is explored."""
    if item.get_closest_marker("schedules") is not None or _decorated(item) is not None:
        return True
    return item.config.option.lkl_all is not None and isinstance(item, pytest.Function)


def _decorated(item: pytest.Item) -> Any:
    """What the decorator left; None where @given stands above it, which explores each example by calling it."""
    function = getattr(item, "obj", None)
    if function is None or getattr(function, "is_hypothesis_test", False):
        return None
    return getattr(function, _DECORATED, None)


def asked_for(item: pytest.Function) -> Asked:
    """What the decorator, else the marker, else --lkl-all asks for. Raises TypeError if it makes no sense."""
    from lkl_green.testing.decorator import options_of

    decorated = _decorated(item)
    if decorated is not None:
        function, options = decorated
        return Asked(dict(options), function)
    marker = item.get_closest_marker("schedules")
    if marker is not None:
        return Asked(options_of(marker.args, marker.kwargs))
    count = item.config.option.lkl_all
    # Run once each, the tests of a suite are not asked whether they are the same each time.
    return Asked({"schedules": count, "verify": count > 1})
