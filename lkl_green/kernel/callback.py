"""Functions that are given to the kernel, and later called by it: they must run when they are called.

Calling a coroutine function or a generator function only makes an object. Nothing of the function runs, and nothing
fails, so a thread or a timer with such a function would silently do nothing. Therefore the kernel refuses them where
they are given. A plain function that returns a coroutine can be noticed only by what it returns.
"""

from __future__ import annotations

import inspect
from functools import partial
from types import CoroutineType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_RUNS_LATER = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

_KINDS = (
    (inspect.iscoroutinefunction, "a coroutine function"),
    (inspect.isasyncgenfunction, "an asynchronous generator function"),
    (inspect.isgeneratorfunction, "a generator function"),
)


def not_plain(function: object) -> str | None:
    """What kind of function it is, if calling it would run nothing of it; None for a plain function.

    It looks through methods and `functools.partial`, and at the `__call__` of other objects.
    """
    while isinstance(function, partial):
        function = function.func
    for called in (function, getattr(type(function), "__call__", None)):  # noqa: B004 - that of the class is wanted
        for is_one, kind in _KINDS:
            if is_one(called):
                return kind
    return None


def check_callback(function: object, what: str) -> None:
    """Check a function that the kernel is to call as `what`, before anything is changed.

    Raises:
        TypeError: it cannot be called, or calling it would run nothing of it.
    """
    if type(function) is MethodType:
        function = function.__func__
    if type(function) is FunctionType and not function.__code__.co_flags & _RUNS_LATER:
        return
    if not callable(function):
        raise TypeError(f"a {what} must be a function, not {function!r}")
    kind = not_plain(function)
    if kind is not None:
        name = getattr(function, "__qualname__", function)
        raise TypeError(
            f"{name!s} is {kind}: calling it as a {what} would run nothing of it. Use a plain function; in an event "
            "loop, a kernel thread awaits a coroutine with lkl_green.embed.await_()"
        )


def check_result(function: Callable[..., Any], result: object) -> None:
    """Check what a function returned whose result only says how it ended.

    Raises:
        TypeError: it is a coroutine, so that the work that the function was to do has not been done.
    """
    if type(result) is CoroutineType:
        result.close()  # or Python would warn of it, too
        name = getattr(function, "__qualname__", function)
        raise TypeError(
            f"{name!s}() returned a coroutine, {result.__qualname__}(), of which nothing has run. Use plain functions; "
            "in an event loop, a kernel thread awaits a coroutine with lkl_green.embed.await_()"
        )
