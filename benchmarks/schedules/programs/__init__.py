"""Programs with a known bug, after SCTBench and PERIOD's collection; one family to a module.

Written anew from descriptions of what they do. Each read and each write of a variable that threads share is one
operation, as are taking a lock, giving it back, and joining a thread. What C leaves to the compiler is taken literally:
`x += 1` reads and writes, `and` stops where it can.
"""

from __future__ import annotations

from benchmarks.schedules.programs import (
    account,
    bluetooth_driver,
    bounded_buffer,
    circular_buffer,
    deadlock01,
    lazy01,
    queue,
    reorder,
    stack,
    twostage,
    work_steal_queue,
    wronglock,
)

FAMILIES = (
    account, bluetooth_driver, circular_buffer, deadlock01, lazy01, queue, reorder, stack, twostage, wronglock,
    work_steal_queue, bounded_buffer,
)  # fmt: skip
PROGRAMS = {program.name: program for family in FAMILIES for program in family.PROGRAMS}
