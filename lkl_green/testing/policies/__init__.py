"""Exploration policies, one to a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.policies.base import Policy
from lkl_green.testing.policies.fifo import FIFO
from lkl_green.testing.policies.pos import POS
from lkl_green.testing.policies.random_walk import RandomWalk

if TYPE_CHECKING:
    from collections.abc import Callable


def policy_makers() -> dict[str, Callable[[], Policy]]:
    """What `policy="..."` may say."""
    return {"fifo": FIFO, "random": RandomWalk, "pos": POS}


def make_policy(policy: Policy | str) -> Policy:
    """A policy by its name. Raises ValueError for a name that is none."""
    if isinstance(policy, Policy):
        return policy
    makers = policy_makers()
    if policy not in makers:
        raise ValueError(f"policy={policy!r}: use {', '.join(map(repr, makers))}, or a Policy object")
    return makers[policy]()


__all__ = ["FIFO", "POS", "Policy", "RandomWalk", "make_policy", "policy_makers"]
