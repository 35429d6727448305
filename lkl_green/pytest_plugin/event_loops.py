"""Asynchronous tests: pytest-asyncio's and anyio's plugins run them, in an event loop that each schedule makes anew.

A loop that was made outside the kernel waits outside it, and has state of other schedules in it. So a test whose loop
has a wider scope than the test is refused.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

import pytest

from lkl_green.testing.plain import check_plain


def is_async(item: pytest.Function) -> bool:
    """Whether the test itself is asynchronous, or one of the fixtures that it is known to use."""
    handle = getattr(item.obj, "hypothesis", None)
    definitions = item._fixtureinfo.name2fixturedefs.values()
    functions = [item.obj if handle is None else handle.inner_test, *(found[-1].func for found in definitions)]
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in functions)


def check(item: pytest.Function) -> None:
    """Before set-up. Raises NotATest for a test that no plugin would run, TypeError for one with a lasting loop."""
    runs_itself = type(item) is not pytest.Function or "anyio_backend" in item.fixturenames
    if not runs_itself and not hasattr(item.obj, "hypothesis"):
        check_plain(item.obj)
    scope = getattr(item, "_loop_scope", "function")
    if scope != "function":
        raise TypeError(f"the test's event loop has the scope {scope!r}: {_WHY}: use loop_scope='function'")


_WHY = "a loop that outlives a schedule has state of other schedules in it"


class AnyioRunner:
    """The event loop of anyio's plugin, which keeps it in its module."""

    def __init__(self) -> None:
        self._plugin: Any = sys.modules.get("anyio.pytest_plugin")

    def check(self) -> None:
        """After set-up. Raises TypeError if an asynchronous fixture with a wider scope has begun a loop."""
        if self._plugin is not None and self._plugin._runner_leases:
            raise TypeError(f"an asynchronous fixture with a wider scope keeps anyio's event loop: {_WHY}")

    def forget(self) -> None:
        """Drop a loop that could not be closed: closing waits, which a schedule that was cut off does not do."""
        if self._plugin is not None:
            self._plugin._current_runner = self._plugin._runner_stack = None
            self._plugin._runner_leases = 0
