"""Whether points in ordinary code work on this interpreter: a known race is found, or no campaign says *passed*.

The points depend on what compilers do, and each version of Python has another one. If the rewritten code announced
nothing, every test would pass. So the whole way is tried once in a process: source, rewriting, exchange, announcements,
decisions. It takes a few milliseconds.
"""

from __future__ import annotations

from functools import lru_cache

from lkl_green.testing import knownrace
from lkl_green.testing.instrument.instrumented import instrumented
from lkl_green.testing.policies.round_robin import RoundRobin
from lkl_green.testing.run import Verdict
from lkl_green.testing.settings import ScheduleSettings
from lkl_green.testing.testbed import Testbed

NOT_FOUND = (
    "points in ordinary code do not work on this interpreter: a known race was not found, so that passing means "
    "nothing. Use points='sync', and report this"
)


@lru_cache(maxsize=1)
def finds_a_known_race() -> bool:
    """Whether two threads that add to a counter lose an addition when they take turns."""
    settings = ScheduleSettings(points="memory", watchdog_s=None)
    policy = RoundRobin(newest_first=True)
    policy.begin(0, 0)
    with instrumented(knownrace.lost_update, [knownrace.__name__]), Testbed(settings) as bed:
        return bed.run(knownrace.lost_update, policy).verdict is Verdict.FAILED
