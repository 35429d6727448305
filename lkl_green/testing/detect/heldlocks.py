"""Locks that are still held when everything has ended.

A mutex has an owner that must release it, so that this is an error of the schedule (HELD). Any thread may release a
lock of `threading`, and some programs never release one that they use as a signal: there it is a warning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.testing.detect.evidence import Evidence


def mutexes_left_held(kernel: Kernel) -> str:
    """A line for each task that ended with mutexes locked; "" if none did."""
    return "\n".join(f"{left.task} exits with {left.mutexes} mutexes held" for left in kernel.exits.locks_left)


def describe_held(evidence: Evidence) -> list[str]:
    """A line for each lock that is held."""
    return [
        f"{evidence.told(held.lock)} is held at the end: {who} took it" + (f" at {held.where}" if held.where else "")
        for who, held in evidence.locks.held()
    ]
