"""Writing down what happens in a run: each decision, and each operation with the line of source that does it.

Campaigns run without this, at full speed, and keep only the trail of choices. A schedule that is worth a closer look is
run once more, under a `Recording`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from lkl_green.kernel.current import current_kernel
from lkl_green.testing.actor import RESUME, START
from lkl_green.testing.names import Names
from lkl_green.testing.policies.base import Policy
from lkl_green.testing.schedule import Decision
from lkl_green.testing.source import Where, innermost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor
    from lkl_green.testing.run import Run


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


class Recording(Policy):
    """Another policy, with its decisions written down.

    Args:
        policy: the one that decides.

    Attributes:
        decisions: what it decided, by name.
        steps: everything that was done.
    """

    name = "recording"

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self._policy = policy
        self._names = Names()
        self._where: dict[int, Where | None] = {}
        self._decision: int | None = None
        self._preempts = ""
        self.decisions: list[Decision] = []
        self.steps: list[Step] = []

    def begin(self, seed: int, number: int) -> bool:
        """The policy's; one recording serves one run."""
        return self._policy.begin(seed, number)

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The policy's choice."""
        if running is not None:
            self._locate(running)
        index = self._policy.pick(enabled, running)
        chosen = enabled[index]
        self._decision = len(self.decisions)
        self._preempts = "" if running is None or running is chosen else running.name
        self.decisions.append(Decision(chosen.name, chosen.kind, self._names.object(chosen.obj)))
        if chosen.act is not None:
            self._step(chosen, "happens", "", None)
        return index

    def choose(self, kind: str, count: int) -> int:
        """The policy's choice."""
        index = self._policy.choose(kind, count)
        self.decisions.append(Decision(kind, f"{index}/{count}"))
        return index

    def executes(self, actor: Actor) -> None:
        """An operation is about to be done."""
        self._policy.executes(actor)
        if actor.task is current_kernel().sched.current and actor.kind not in (START, RESUME):
            self._locate(actor)
        self._step(actor, actor.kind, self._names.object(actor.obj), self._where.get(id(actor)))

    def _step(self, actor: Actor, op: str, obj: str, where: Where | None) -> None:
        now = current_kernel().clock.peek_ns()
        step = Step(actor.name, op, obj, where, self._decision, self._preempts, now)
        self.steps.append(step)
        self._decision, self._preempts = None, ""

    def _locate(self, actor: Actor) -> None:
        """Where the running task is: the innermost frame that is not ours."""
        self._where[id(actor)] = innermost(sys._getframe(2))

    def end(self, run: Run) -> None:
        """The policy's."""
        run.decisions = self.decisions
        self._policy.end(run)

    @property
    def verdict(self) -> str:
        """The policy's."""
        return self._policy.verdict
