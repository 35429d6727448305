"""Exploration policies, one to a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.policies.base import Policy
from lkl_green.testing.policies.delay_bound import DelayBound, RandomDelays
from lkl_green.testing.policies.dfs import DFS
from lkl_green.testing.policies.dpor import DPOR
from lkl_green.testing.policies.fifo import FIFO
from lkl_green.testing.policies.opening import OpenedPOS
from lkl_green.testing.policies.pct import PCT
from lkl_green.testing.policies.portfolio import Portfolio
from lkl_green.testing.policies.pos import POS
from lkl_green.testing.policies.preemption_bound import PreemptionBound
from lkl_green.testing.policies.random_walk import RandomWalk
from lkl_green.testing.policies.reversal import Reversal
from lkl_green.testing.policies.round_robin import RoundRobin
from lkl_green.testing.policies.surw import SURW
from lkl_green.testing.policies.urw import URW

if TYPE_CHECKING:
    from collections.abc import Callable

# Those that take a number, as in "pct:5".
_NUMBERED: dict[str, Callable[[int], Policy]] = {
    "delay-bound": DelayBound,
    "pct": PCT,
    "preemption-bound": PreemptionBound,
    "random-delays": RandomDelays,
    "round-robin": RoundRobin,
}


def policy_makers() -> dict[str, Callable[[], Policy]]:
    """What `policy="..."` may say."""
    policies: tuple[type[Policy], ...] = (
        OpenedPOS, POS, SURW, URW, PCT, RandomWalk, FIFO, RoundRobin, DFS, DPOR, PreemptionBound, DelayBound,
        RandomDelays, Reversal, Portfolio,
    )  # fmt: skip
    return {policy.name: policy for policy in policies}


def make_policy(policy: Policy | str) -> Policy:
    """A policy by its name, which may be followed by a number, as in "pct:5" or "preemption-bound:1".

    Raises:
        ValueError: a name that is none, a number where none belongs, or one that makes no sense.
    """
    if isinstance(policy, Policy):
        return policy
    name, colon, number = policy.partition(":")
    makers = policy_makers()
    if name not in makers:
        raise ValueError(f"policy={policy!r}: use {', '.join(map(repr, makers))}, or a Policy object")
    if not colon:
        return makers[name]()
    if name not in _NUMBERED:
        raise ValueError(f"policy={policy!r}: {name!r} takes no number; {', '.join(map(repr, _NUMBERED))} do")
    if not number.isdecimal():
        raise ValueError(f"policy={policy!r}: what follows the colon is a whole number, as in '{name}:2'")
    return _NUMBERED[name](int(number))


__all__ = [
    "DFS",
    "DPOR",
    "FIFO",
    "PCT",
    "POS",
    "SURW",
    "URW",
    "DelayBound",
    "OpenedPOS",
    "Policy",
    "Portfolio",
    "PreemptionBound",
    "RandomDelays",
    "RandomWalk",
    "Reversal",
    "RoundRobin",
    "make_policy",
    "policy_makers",
]
