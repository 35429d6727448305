"""Where schedules of failing tests are kept."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LONG = 100


def schedule_file(directory: Path, test: str) -> Path:
    """The file for a test's schedule: the same each time, so that a directory does not fill up.

    Args:
        directory: where.
        test: its name, FILE.py::test_name.
    """
    name = re.sub(r"[^\w.-]+", "_", test).strip("_")
    if len(name) > _LONG:
        name = f"{name[:_LONG]}-{hashlib.sha256(test.encode()).hexdigest()[:8]}"
    return directory / f"{name}.json"
