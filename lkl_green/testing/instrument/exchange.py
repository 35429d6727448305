"""The functions of a module: found, given code with points, and given their own code back.

The functions are found by walking the module: its globals, the classes among them, what decorators have wrapped, and
the cells and defaults of functions. A running generator keeps the code with which it began.
"""

from __future__ import annotations

import types
from functools import cached_property, partial, partialmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from lkl_green.testing.instrument.compiled import Compiled

_DEPTH = 6
_CONTAINERS = (list, tuple, set, frozenset)
# What wraps a function: the attributes that hold it.
_WRAPPERS: dict[type, tuple[str, ...]] = {
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    types.MethodType: ("__func__", "__self__"),
    property: ("fget", "fset", "fdel"),
    cached_property: ("func",),
    partial: ("func", "args"),
    partialmethod: ("func", "args"),
}


class Exchange:
    """Exchanges the code of functions, and puts it back.

    Attributes:
        left_out: functions whose code stays what it is, with the reason.
    """

    def __init__(self) -> None:
        self._changed: list[tuple[types.FunctionType, types.CodeType, types.CodeType]] = []
        self.left_out: dict[str, str] = {}

    def exchange(self, functions: Iterable[types.FunctionType], compiled: Compiled, shown_as: str) -> int:
        """Give functions of one file code with points.

        Args:
            functions: them.
            compiled: the code of their file.
            shown_as: what the file is called.

        Returns:
            how many have points now.
        """
        done = 0
        for function in functions:
            old = function.__code__
            if id(old) in compiled.rewritten:  # by a campaign around this one; or a closure is left of an earlier one
                continue
            new = compiled.codes.get(old)
            if new is None:
                self.left_out[f"{function.__qualname__} ({shown_as})"] = compiled.error or (
                    "it is not what its source says: the source has changed, or something has changed the function"
                )
            else:
                function.__code__ = new
                self._changed.append((function, old, new))
                done += 1
        return done

    def undo(self) -> None:
        """Put the codes back, where nothing else has exchanged them since."""
        while self._changed:
            function, old, new = self._changed.pop()
            if function.__code__ is new:
                function.__code__ = old


def functions_from(holders: Iterable[object], modules: Collection[str]) -> Iterator[types.FunctionType]:
    """All functions that can be reached from namespaces, functions and classes.

    Args:
        holders: where to begin.
        modules: names of modules. Classes of other modules are not looked into.
    """
    seen: set[int] = set()
    kept: list[object] = []  # as long as the ids are used
    pending = [(holder, _DEPTH) for holder in holders]
    while pending:
        value, depth = pending.pop()
        if id(value) in seen or depth < 0:
            continue
        seen.add(id(value))
        kept.append(value)
        if isinstance(value, types.FunctionType):
            yield value
        elif isinstance(value, type) and value.__module__ not in modules:
            continue
        pending += [(inner, depth - 1) for inner in _held_by(value)]


def _held_by(value: Any) -> Iterator[object]:
    """What may hold a function of the same module."""
    if isinstance(value, types.FunctionType):
        yield from _held_by_function(value)
    elif isinstance(value, type):
        yield from list(vars(value).values())
    elif isinstance(value, dict):
        yield from list(value.values())
    elif isinstance(value, _CONTAINERS):
        yield from list(value)
    else:
        for name in _WRAPPERS.get(type(value), ()):
            yield getattr(value, name)
        if hasattr(type(value), "__wrapped__") or "__wrapped__" in getattr(value, "__dict__", ()):
            yield value.__wrapped__  # functools.lru_cache() and its like


def _held_by_function(function: types.FunctionType) -> Iterator[object]:
    yield from vars(function).values()
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is empty
            continue
