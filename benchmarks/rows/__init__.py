"""The rows, one file per topic."""

from __future__ import annotations

from benchmarks.rows import (
    creation,
    echo,
    embed,
    exploring,
    finding,
    handoff,
    idle,
    interrupts,
    memory,
    ordinary,
    scale,
    switching,
    syscalls,
    testing,
    timers,
)

TOPICS = (
    switching,
    handoff,
    creation,
    syscalls,
    interrupts,
    timers,
    idle,
    memory,
    scale,
    embed,
    echo,
    exploring,
    ordinary,
    finding,
    testing,
)
ROWS = {row.key: row for topic in TOPICS for row in topic.ROWS}
