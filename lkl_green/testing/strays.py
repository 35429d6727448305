"""OS threads that a test starts in a campaign that does not replace them.

They run beside the kernel, as fast and in whatever order the host likes. If a test has nothing else, then no schedule
decides anything, and a thousand of them are one: a pass would be a false one. (A driver may well hand work to an OS
thread, and say so with `irq_expect()`; then there are other decisions.)
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lkl_green.kernel.current import running_here
from lkl_green.kernel.points import RESUME, START, YIELD
from lkl_green.testing.run import Run, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lkl_green.testing.step import Step


@contextmanager
def watching_strays() -> Iterator[list[str]]:
    """A list that gets the name of each `threading.Thread` that is started in kernel code.

    The hosts of kernels start `lkl_green.host.native.Thread`, whose `start()` is not the one replaced here.
    """
    started: list[str] = []
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if running_here.kernel is not None:
            started.append(self.name)
        original(self)

    threading.Thread.start = start  # type: ignore[method-assign]
    try:
        yield started
    finally:
        threading.Thread.start = original  # type: ignore[method-assign]


def nothing_explored(run: Run, names: list[str]) -> None:
    """Give a run the verdict on a test whose threads are all strays."""
    run.verdict = Verdict.UNEXPLORED
    run.detail = (
        f"the test starts OS threads ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}), and no schedule had "
        "anything to decide, so that all of them were the same: nothing was explored. Pass threads=True "
        "(--threads) to run the threads as kernel threads"
    )


# What every thread does that is started and waited for.
_BEGINS_AND_ENDS = (START, RESUME, YIELD, "join")


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
