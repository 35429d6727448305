"""An access in the source of a program, and how compiled code refers to it.

Rewritten code has to reach the functions that announce, and the sites that it passes to them. It has them as
*constants*: the rewritten syntax tree has a string in each of these places, a mark, and the marks among the constants
of the compiled code are then exchanged for the objects. Dropped: global names in the rewritten module. They can clash
with the program's names, show in `dir()`, and are mangled in classes.
"""

from __future__ import annotations

from types import CodeType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# No string constant of a program begins so, or its function would fail the comparison of code objects at worst.
_MARK = "\0lkl_green point "


class Site:
    """One access in the source.

    Attributes:
        name: the attribute or variable, mangled as the compiler does it; "" for items and containers.
        text: what the source calls the object, such as `self.items`; for a variable, what schedules call it.
        scope: of a variable: where it is bound, so that equal names in two functions are two variables.
    """

    __slots__ = ("name", "scope", "text")

    def __init__(self, name: str, text: str, scope: str = "") -> None:
        self.name = name
        self.text = text
        self.scope = scope

    def __repr__(self) -> str:
        return f"<Site {self.text}{'.' if self.name else ''}{self.name}>"


def mark(key: object) -> str:
    """The string that stands for an object in a rewritten syntax tree."""
    return f"{_MARK}{key}"


def link(code: CodeType, objects: Mapping[str, object]) -> CodeType:
    """The code with its marks exchanged for objects, in its nested functions as well.

    Args:
        code: compiled from a rewritten tree.
        objects: by mark.
    """
    consts = tuple(_linked(const, objects) for const in code.co_consts)
    return code.replace(co_consts=consts)


def _linked(const: object, objects: Mapping[str, object]) -> object:
    if isinstance(const, str):
        return objects[const] if const.startswith(_MARK) else const
    return link(const, objects) if isinstance(const, CodeType) else const
