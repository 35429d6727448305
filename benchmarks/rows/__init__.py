"""The rows, one file per topic."""

from __future__ import annotations

from benchmarks.rows import creation, echo, handoff, idle, interrupts, memory, scale, switching, syscalls, timers

TOPICS = (switching, handoff, creation, syscalls, interrupts, timers, idle, memory, scale, echo)
ROWS = {row.key: row for topic in TOPICS for row in topic.ROWS}
