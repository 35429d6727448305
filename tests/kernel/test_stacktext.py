"""Whose frames: the line that a report shows is one of the program's text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from lkl_green.kernel.stacktext import own_code_frame, told_line
from lkl_green.testing.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


class Pair(NamedTuple):
    left: int
    right: int


def frame_inside(function: Callable[[], object]) -> FrameType:
    """The frame of the Python function that is called first inside another function."""
    found: list[FrameType] = []

    def note(frame: FrameType, event: str, _arg: object) -> None:
        if event == "call" and frame.f_code is not function.__code__ and not found:
            found.append(frame)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return found[0]


def make_pair() -> object:
    return Pair(1, 2)


def make_step() -> object:
    return Step(*range(len(Step._fields)))  # type: ignore[arg-type]


def test_what_a_named_tuple_generates_is_no_code_of_the_program() -> None:
    for make in (make_pair, make_step):
        inside = frame_inside(make)
        assert inside.f_code.co_filename == "<string>"
        shown = own_code_frame(inside)
        assert shown is not None
        assert shown.f_code is make.__code__


def test_text_without_a_file_is_code_of_the_program() -> None:
    names: dict[str, object] = {"__name__": "__main__", "sys": sys}
    exec("def program():\n    return sys._getframe()", names)
    frame = names["program"]()  # type: ignore[operator]
    assert own_code_frame(frame) is frame
    assert told_line(frame) == "<string>:2 in program"
