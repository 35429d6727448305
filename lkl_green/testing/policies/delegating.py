"""A policy that leaves its decisions to another one: the base of those that add something to a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.policies.base import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.kernel.points import Kind
    from lkl_green.testing.actor import Actor
    from lkl_green.testing.run import Run


class Delegating(Policy):
    """Forwards everything to another policy.

    Args:
        policy: the policy that decides.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self._policy = policy

    def begin(self, seed: int, number: int) -> bool:
        """Begin the schedule with the other policy."""
        return self._policy.begin(seed, number)

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The other policy's choice."""
        return self._policy.pick(enabled, running)

    def choose(self, kind: str, count: int) -> int:
        """The other policy's choice."""
        return self._policy.choose(kind, count)

    def executes(self, actor: Actor) -> None:
        """Report the operation to the other policy."""
        self._policy.executes(actor)

    def misses(self, what: str) -> None:
        """Report it to the other policy."""
        self._policy.misses(what)

    def passes_time(self, actor: Actor) -> None:
        """Report it to the other policy."""
        self._policy.passes_time(actor)

    def wakes(self, actor: Actor, waker: Actor | None) -> None:
        """Report it to the other policy."""
        self._policy.wakes(actor, waker)

    def within(self, actor: Actor, kind: Kind, obj: object) -> None:
        """Report it to the other policy."""
        self._policy.within(actor, kind, obj)

    def end(self, run: Run) -> None:
        """Report the end to the other policy."""
        self._policy.end(run)
