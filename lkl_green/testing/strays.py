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
from lkl_green.testing.run import Run, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator


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
