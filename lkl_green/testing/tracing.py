"""The ftrace text of a recorded schedule: what the kernel did meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.testing.campaign import Campaign
from lkl_green.testing.policies.replay import Replay
from lkl_green.testing.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lkl_green.testing.schedule import Schedule


def trace_of(test: Callable[[], object], schedule: Schedule) -> str:
    """Replay a schedule with the kernel's trace events on; all of them, as ftrace prints them.

    Args:
        test: the test.
        schedule: a recorded schedule of it. Where it does not fit, the trace ends.
    """
    with Campaign(test, "fifo", schedule.seed, schedule.options, schedule.test) as campaign:
        recording = Recording(Replay(schedule.decisions), trace_capacity=None)
        recording.begin(schedule.seed, 0)
        campaign.testbed.run(campaign.test, recording)
        return recording.trace


def save_trace(test: Callable[[], object], schedule: Schedule, path: Path) -> None:
    """Write `trace_of()` to a file, and make its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(trace_of(test, schedule), encoding="utf-8")
