"""Classes that a program derived from `threading.local` before the replacements were installed.

Their base is a class of C, which tells OS threads apart and not kernel threads. It cannot be exchanged, because its
objects are laid out differently. So each class gets a twin: the same methods, with the replacement as its base. It
takes the place of the class wherever the program's modules hold it, `super()` in its methods included. Objects get
twins, too. The arguments with which an object was made are known to C only, and to the garbage collector.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from lkl_green.green.local import local
from lkl_green.host import native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Twins:
    """The twins of the classes of one program.

    Args:
        is_programs: whether a class belongs to the program, by the name of its module.
    """

    def __init__(self, is_programs: Callable[[str], bool]) -> None:
        self._is_programs = is_programs
        self._twins: dict[type, type] = {native.local: local}
        for cls in _derived(native.local):
            self._twin(cls)

    @property
    def pairs(self) -> list[tuple[Any, Any]]:
        """(class, its twin), without threading.local itself."""
        return [pair for pair in self._twins.items() if pair[0] is not native.local]

    def _twin(self, cls: type) -> type:
        twin: Any = self._twins.get(cls)
        if twin is not None or not issubclass(cls, native.local) or not self._is_programs(cls.__module__):
            return cls if twin is None else self._twins[cls]
        bases = tuple(map(self._twin, cls.__bases__))
        left_out = {"__dict__", "__weakref__", *_slots(cls)}
        own = {name: value for name, value in vars(cls).items() if name not in left_out}
        made = self._twins[cls] = type.__new__(type(cls), cls.__name__, bases, own)
        return made

    def of_object(self, value: Any) -> Any:
        """The twin of an object, with the values that it has in this OS thread; None if its class has none."""
        cls: Any = self._twins.get(type(value))
        if cls is None:
            return None
        args, kwargs = _arguments(value)
        twin: Any = local.__new__(cls, *args, **kwargs)
        object.__getattribute__(twin, "__dict__").update(vars(value))
        return twin


def _derived(cls: type) -> Iterator[type]:
    """All classes derived from one."""
    derived: type
    for derived in cls.__subclasses__():
        yield derived
        yield from _derived(derived)


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _arguments(value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """With what an object was made. Of a `local`, C holds these, and tables of its own, whose keys are no strings."""
    held = gc.get_referents(value)
    args = next((each for each in held if type(each) is tuple), ())
    kwargs = next((each for each in held if type(each) is dict and each and all(type(key) is str for key in each)), {})
    return args, kwargs
