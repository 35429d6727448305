"""One decision of a schedule."""

from __future__ import annotations

from typing import NamedTuple


class Decision(NamedTuple):
    """One decision.

    Attributes:
        actor: who was chosen: a task, "clock", "irq 5"; for a choice that is not about who goes on, its kind.
        op: the operation it was about to do; for such a choice, which of how many, "3/8".
        obj: to which object.
    """

    actor: str
    op: str
    obj: str = ""

    def __str__(self) -> str:
        return f"{self.actor}: {self.op} {self.obj}".rstrip()
