"""One operation of a recorded run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lkl_green.testing.source import Where


class Step(NamedTuple):
    """One operation that was done.

    Attributes:
        actor, op, obj: who did what to what.
        where: the line in the test, or in what it tests, that does it; None if there is none.
        decision: the number of the decision by which it was chosen; None if there was no other way.
        preempts: the name of the task that could have gone on instead; "" if none.
        time_ns: virtual time.
    """

    actor: str
    op: str
    obj: str
    where: Where | None
    decision: int | None
    preempts: str
    time_ns: int
