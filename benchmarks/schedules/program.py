"""What a program of the collection is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lkl_green.testing import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Program:
    """A concurrent program with a known bug.

    Attributes:
        name: of the program, as the collections call it.
        family: programs that differ in size only are one.
        test: runs it once, with an assertion that holds in some schedules.
        bug: how a schedule ends that shows the bug.
    """

    name: str
    family: str
    test: Callable[[], None]
    bug: Verdict = Verdict.FAILED
