"""What a value looks like before schedules are run, and what they have changed of it."""

from __future__ import annotations

import sys
import sysconfig
import types
from collections import deque
from typing import TYPE_CHECKING, Any

from lkl_green.testing.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_PARTS = 20_000
_MOST_CHANGES = 3
_WIDEST = 60

_SCALARS = (str, bytes, int, float, complex, type(None))
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_ABSENT: Any = object()


class Snapshot:
    """The parts of a value: what is in its containers, and the attributes of objects of the program's own classes.

    Objects of libraries count as a whole: they have caches and counters of their own, which mean nothing here.

    Args:
        name: what the value is called.
        value: it.
    """

    def __init__(self, name: str, value: object) -> None:
        self._name = name
        self._value = value
        self._parts = self._look()

    def changes(self) -> list[str]:
        """What differs now, in words, the first few."""
        now = self._look()
        changed = [
            path for path in self._parts | now if not _same(self._parts.get(path, _ABSENT), now.get(path, _ABSENT))
        ]
        told = [_tell(path, self._parts.get(path, _ABSENT), now.get(path, _ABSENT)) for path in changed[:_MOST_CHANGES]]
        return [*told, f"and {len(changed) - _MOST_CHANGES} more"] if len(changed) > _MOST_CHANGES else told

    def _look(self) -> dict[str, Any]:
        """Each part by its path. Objects are kept, or their addresses could be used again."""
        parts: dict[str, Any] = {}
        seen: set[int] = set()
        left = [(self._name, self._value)]
        while left and len(parts) < _MOST_PARTS:
            path, value = left.pop()
            parts[path] = value
            if not isinstance(value, _SCALARS) and id(value) not in seen:
                seen.add(id(value))
                left += reversed(list(_inside(path, value)))
        return parts


def _inside(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of one object, with their paths."""
    if isinstance(value, dict):
        yield f"len({path})", len(value)
        yield from ((f"{path}[{_key(key)}]", held) for key, held in list(value.items()))
    elif isinstance(value, list | tuple | deque):
        yield f"len({path})", len(value)
        yield from ((f"{path}[{index}]", held) for index, held in enumerate(list(value)))
    elif isinstance(value, set | frozenset):
        yield f"set({path})", frozenset(value)
    elif isinstance(value, types.MethodType):
        yield f"{path}.__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        yield from _closure(path, value)
    if isinstance(value, Shared):
        yield f"{path}.value", value.peek()
    elif _is_of_the_program(type(value)):
        yield from _attributes(path, value)


def _closure(path: str, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    if not _is_of_the_program(function):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"{path}.{name}", cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue


def _attributes(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    try:
        attributes = dict(vars(value))
    except TypeError:
        attributes = {}
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            descriptor = kind.__dict__.get(name)
            if isinstance(descriptor, types.MemberDescriptorType):
                attributes[name] = descriptor.__get__(value, type(value)) if hasattr(value, name) else _ABSENT
    yield from ((f"{path}.{name}", held) for name, held in attributes.items())


def _is_of_the_program(what: type | types.FunctionType) -> bool:
    """Whether a class or function is neither Python's nor of an installed package."""
    module = sys.modules.get(what.__module__ or "")
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not file.startswith(_LIBRARIES) and not what.__module__.startswith("lkl_green.")


def _key(key: object) -> str:
    return repr(key) if isinstance(key, _SCALARS) else f"<{type(key).__name__} at {id(key):#x}>"


def _same(once: Any, again: Any) -> bool:
    if once is again:
        return True
    if isinstance(once, _SCALARS):
        return type(once) is type(again) and bool(once == again)
    return isinstance(once, frozenset) and isinstance(again, frozenset) and once == again


def _tell(path: str, once: Any, again: Any) -> str:
    if once is _ABSENT:
        return f"{path} is new: {_short(again)}"
    if again is _ABSENT:
        return f"{path} is gone; it was {_short(once)}"
    return f"{path} was {_short(once)} and is {_short(again)}"


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, (*_SCALARS, frozenset)) else f"a {type(value).__name__}"
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."
