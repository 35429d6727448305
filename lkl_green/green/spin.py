"""Whether a thread that passes no scheduling point gets on: a loop that only looks, or a slow computation.

`while not flag: pass` never ends here, because no other thread runs meanwhile. Each look at such a thread finds the
same functions with the same values in their variables. A computation changes some: a counter, the length of a list, the
arguments of a function that is called again and again. So the thread spins if several looks have seen one and the same
state of each function. If they have all seen it in one call of a C function, that computes, and nothing can be said.

What counts of a value is its identity, or itself if it is text or a number; of a container, its length, too; of an
object, its attributes, too. A computation that changes only what lies deeper may be taken for a loop that spins.
"""

from __future__ import annotations

from dis import opname
from typing import TYPE_CHECKING, Any

from lkl_green.host.stacks import of_package
from lkl_green.kernel.stacktext import own_code_frame

if TYPE_CHECKING:
    from types import CodeType, FrameType

_PLAIN = (int, float, complex, str, bytes, type(None))
_SIZED = (list, dict, set, tuple, bytearray)

# Deeper stacks are those of computations.
_DEPTH = 50


class Looks:
    """What the looks at one thread have seen since its last scheduling point."""

    def __init__(self) -> None:
        self._states: dict[CodeType, tuple[object, ...]] = {}
        self._places: set[tuple[int, int]] = set()
        self._is_call = False
        self._moves = False

    @property
    def spins(self) -> bool:
        """Whether nothing has changed from look to look."""
        return bool(self._states) and not self._moves and not (self._is_call and len(self._places) == 1)

    def look(self, frame: FrameType | None) -> None:
        """Look at the thread whose innermost frame this is. It may run on meanwhile."""
        if frame is None or self._moves:
            return
        self._places.add((id(frame), frame.f_lasti))
        self._is_call = opname[frame.f_code.co_code[frame.f_lasti]].startswith("CALL")
        frame = own_code_frame(frame)  # a look may come while the loop announces an access to this package
        for _ in range(_DEPTH):
            if frame is None or of_package(frame.f_code.co_filename):
                return
            state = _state_of(frame)
            if self._states.setdefault(frame.f_code, state) != state:
                break
            frame = frame.f_back
        self._moves = True


def _state_of(frame: FrameType) -> tuple[object, ...]:
    """The variables of a function, and the globals that it uses."""
    variables = list(frame.f_locals.values())
    variables += [frame.f_globals[name] for name in frame.f_code.co_names if name in frame.f_globals]
    return tuple(map(_told, variables))


def _told(value: Any) -> object:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, _SIZED):
        return id(value), len(value)
    attributes = getattr(value, "__dict__", None)
    if type(attributes) is dict:
        return id(value), tuple((name, *_shallow(held)) for name, held in list(attributes.items()))
    return id(value)


def _shallow(value: Any) -> tuple[object, ...]:
    if isinstance(value, _PLAIN):
        return (value,)
    return (id(value), len(value)) if isinstance(value, _SIZED) else (id(value),)
