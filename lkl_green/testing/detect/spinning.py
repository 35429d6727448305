"""Livelock: tasks run, and nothing comes of it.

A run that reached the step limit may be long, may be unlucky, or may never end. Its last steps tell: if they only read,
try, lock and unlock, the state they look at never changes. If every task that could go on had its turn meanwhile, no
fair schedule ends. If one had none, the schedule was unfair to it, and a fair one may end.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lkl_green.kernel.points import COMMUTES, GIVES, TAKES, kinds

if TYPE_CHECKING:
    from lkl_green.testing.detect.evidence import Evidence

# What changes nothing that lasts. An operation that waits counts, too: what it takes out, a change has put in before.
_IDLE_OPS = COMMUTES | TAKES | GIVES | kinds(lambda point: point.waits)

_FEW = 100
_SHOWN = 6


def describe_spinning(evidence: Evidence) -> str:
    """Who did what in the last steps, and whether that could have ended."""
    steps = evidence.steps
    count = 0
    for step in reversed(steps):
        if step.op not in _IDLE_OPS:
            break
        count += 1
    if count < _FEW:
        count = min(len(steps), 10 * _FEW)
        head = f"the last {count} steps, in which things were changed:"
    else:
        head = f"for the last {count} steps nothing was changed; they were:"
    tail = steps[len(steps) - count :]
    lines = [head]
    done = Counter((step.actor, step.op, step.obj, step.where) for step in tail)
    for (actor, op, obj, where), times in done.most_common(_SHOWN):
        if times == 1:
            break
        at = "" if where is None else f" at {where}: {where.text}"
        lines.append(f"  {times} times {actor}: {op} {obj}".rstrip() + at)
    lines.append(_fairness(evidence, {step.actor for step in tail}))
    return "\n".join(lines)


def _fairness(evidence: Evidence, active: set[str]) -> str:
    starved = [name for name in evidence.enabled if name not in active]
    if starved:
        return f"{', '.join(starved)} could have gone on and never did: this schedule is unfair, and a fair one may end"
    return "every task that could go on had its turn: a fair schedule does not end either, unless it is only long"
