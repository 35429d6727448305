"""OS threads that a test starts in a campaign that does not replace them.

They run beside the kernel, as fast and in whatever order the host likes. If a test has nothing else, then no schedule
decides anything, and a thousand of them are one: a pass would be a false one. (A driver may well hand work to an OS
thread, and say so with `irq_expect()`; then there are other decisions.)

A campaign that was not told whether to replace `threading` lets no such thread start. The first attempt ends the
schedule, and the campaign begins again with `threads=True`. Dropped: to let the threads run and look afterwards; they
may race, sleep or deadlock on real locks, and what they leave behind is there in every schedule that follows.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lkl_green.host import native
from lkl_green.kernel.current import running_here
from lkl_green.kernel.points import RESUME, START, YIELD, kinds
from lkl_green.testing.policies.abort import abort_schedule
from lkl_green.testing.run import Run, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lkl_green.testing.step import Step


@contextmanager
def watching_strays(*, refuse: bool = False) -> Iterator[list[str]]:
    """A list that gets the name of each `threading.Thread` that is started in kernel code.

    The hosts of kernels start `lkl_green.host.native.Thread`, whose `start()` is not the one replaced here.

    Args:
        refuse: end the schedule instead of starting the thread.
    """
    started: list[str] = []
    here = native.get_ident()
    patched: Any = threading.Thread
    original = patched.start

    def watched_start(self: threading.Thread) -> None:
        if running_here.kernel is not None and native.get_ident() == here and not start.over:
            started.append(self.name)
            if refuse:
                abort_schedule(Verdict.UNEXPLORED, f"it starts an OS thread, {self.name}")
        original(self)

    start: Any = watched_start
    start.below, start.over = original, False
    patched.start = start
    try:
        yield started
    finally:
        start.over = True
        # An executor may run campaigns in several threads, which end in any order.
        while getattr(patched.start, "over", False):
            patched.start = patched.start.below


def nothing_explored(run: Run, names: list[str]) -> None:
    """Give a run the verdict on a test whose threads are all strays."""
    run.verdict = Verdict.UNEXPLORED
    run.detail = (
        f"the test starts OS threads ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}), and no schedule had "
        "anything to decide, so that all of them were the same: nothing was explored. Pass threads=True "
        "(--threads) to run the threads as kernel threads"
    )


# What every thread does that is started and waited for.
_BEGINS_AND_ENDS = frozenset((START, RESUME, YIELD)) | kinds(lambda point: point.effect == "ends")


def uncontrolled(steps: Sequence[Step]) -> list[str]:
    """The threads of a recorded run, if at most one of them passed a point between its start and its end; else []."""
    threads = list(dict.fromkeys(step.actor for step in steps))
    controlled = {step.actor for step in steps if step.op not in _BEGINS_AND_ENDS}
    return threads if len(threads) > 1 and len(controlled) < 2 else []


def nothing_controlled(run: Run, names: list[str], left_out: list[str]) -> None:
    """Give a run the verdict on a test whose threads do nothing that was seen."""
    run.verdict = Verdict.UNEXPLORED
    run.detail = (
        f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''} reached no scheduling point between start and end, "
        "and some of the code that they run has no points, so that nothing was explored. Put the code into a file, or "
        "name its module in points_in"
    )
    run.detail += "".join(f"\nleft out: {what}" for what in left_out[:5])
