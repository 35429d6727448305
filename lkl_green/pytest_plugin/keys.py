"""Where the plugin keeps what belongs to a run of pytest, or to a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lkl_green.pytest_plugin.each_schedule import EachSchedule
    from lkl_green.testing import Schedule

# Of a run of pytest: the schedule to replay, and whether its seed was drawn at random.
SCHEDULE: pytest.StashKey[Schedule] = pytest.StashKey()
SEED_WAS_DRAWN: pytest.StashKey[bool] = pytest.StashKey()

# Of a test: its schedules, and what is said about them below its report.
CAMPAIGN: pytest.StashKey[EachSchedule] = pytest.StashKey()
SECTION: pytest.StashKey[str] = pytest.StashKey()
