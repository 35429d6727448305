"""What kind of access it is, by the types of the objects: which attributes and containers threads can change."""

from __future__ import annotations

import enum
import gc
import types
from typing import Any, Final

from lkl_green.green.local import local as green_local
from lkl_green.host.native import local as native_local

# Where the value of an attribute is kept.
NOWHERE: Final = 0  # it cannot change, or what gets and sets it is a function with points of its own
IN_OBJECT: Final = 1
IN_OBJECT_OR_CLASS: Final = 2  # the class has a value, and the object may have one

_FUNCTIONS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    classmethod,
    staticmethod,
)
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: defined by a class statement
_OF_ONE_THREAD = (green_local, native_local)
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))

# Methods of the containers that change nothing, and those of a dict that concern one item.
_READERS = frozenset((
    *("get", "items", "keys", "values", "copy", "index", "count", "union", "intersection", "difference"),
    *("symmetric_difference", "issubset", "issuperset", "isdisjoint", "join"),
))  # fmt: skip
_OF_ONE_ITEM = frozenset(("get", "pop", "setdefault"))


def where_kept(kind: type, name: str) -> int:
    """Where instances of a type keep an attribute."""
    if name.startswith("__") and name.endswith("__"):
        return NOWHERE
    if issubclass(kind, _OF_ONE_THREAD):
        return NOWHERE
    held = _held_by_class(kind, name)
    if held is None:
        return IN_OBJECT
    value = held[1]
    if isinstance(value, types.MemberDescriptorType):  # a slot
        return IN_OBJECT if held[0].__flags__ & _HEAP_TYPE else NOWHERE
    if isinstance(value, _FUNCTIONS) or hasattr(type(value), "__set__"):
        return NOWHERE
    return IN_OBJECT_OR_CLASS


def _held_by_class(kind: type, name: str) -> tuple[type, Any] | None:
    """The class that has an attribute, and its value there."""
    for base in kind.__mro__:
        if name in base.__dict__:
            return base, base.__dict__[name]
    return None


def owners_of_read(obj: object, name: str) -> tuple[object, ...]:
    """Where an attribute is looked for that the class and the object may have: the last one has it."""
    if name in getattr(obj, "__dict__", ()):
        return (obj,)
    return (obj, *_classes_up_to(type(obj), name))


def owners_in_class(cls: type, name: str) -> tuple[type, ...]:
    """Where an attribute of a class is looked for: the last one has it. None, if it is a function or cannot change."""
    if isinstance(cls, enum.EnumMeta) or not cls.__flags__ & _HEAP_TYPE or (name[:2] == "__" == name[-2:]):
        return ()
    held = _held_by_class(cls, name)
    if held is not None and isinstance(held[1], (*_FUNCTIONS, property, types.MemberDescriptorType)):
        return ()
    return _classes_up_to(cls, name) or (cls,)


def _classes_up_to(kind: type, name: str) -> tuple[type, ...]:
    """A class and its bases, as far as the one that has an attribute; none if no one has."""
    mro = kind.__mro__
    for at, base in enumerate(mro, 1):
        if name in base.__dict__:
            return mro[:at]
    return ()


def is_container(kind: type) -> bool:
    """Whether objects of a type hold others, and can be changed."""
    return (hasattr(kind, "__setitem__") or hasattr(kind, "add")) and hasattr(kind, "__contains__")


def container_behind(obj: object) -> object:
    """The dict of a view such as `d.items()`; else the object itself."""
    if type(obj) in _VIEWS:
        return next(iter(gc.get_referents(obj)), obj)
    return obj


def changes(method: str) -> bool:
    """Whether a method of a container may change it."""
    return method not in _READERS


def is_of_one_item(obj: object, method: str) -> bool:
    """Whether a method of a container is about the item of which the key is its first argument."""
    return method in _OF_ONE_ITEM and isinstance(obj, dict)
