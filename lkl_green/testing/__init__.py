"""Deterministic testing: explore, record and replay the schedules of concurrent code, on one thread."""

from __future__ import annotations

from lkl_green.testing.decorator import schedules
from lkl_green.testing.draws import fault_point, random
from lkl_green.testing.explore import explore, replay
from lkl_green.testing.progress import Progress
from lkl_green.testing.report import Failure, Outcome, Report
from lkl_green.testing.run import Verdict
from lkl_green.testing.schedule import Schedule
from lkl_green.testing.shared import Shared
from lkl_green.testing.spawn import Spawned, spawn
from lkl_green.testing.table import schedule_table

__all__ = [
    "Failure",
    "Outcome",
    "Progress",
    "Report",
    "Schedule",
    "Shared",
    "Spawned",
    "Verdict",
    "explore",
    "fault_point",
    "random",
    "replay",
    "schedule_table",
    "schedules",
    "spawn",
]
