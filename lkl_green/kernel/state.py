"""The life of a kernel (Linux: `enum system_states`, include/linux/kernel.h).

`Scheduler.system_state` is the only place where it stands; `Kernel.halting` and `Kernel.halted` read it. Only the OS
thread that halts the kernel moves it, and only forwards.

Two things are not states. `Kernel.stopping` is the request to halt. Any OS thread and any signal handler may make it,
also while the owner's thread is at the end of the halt; a state that both read and write could go backwards.
`Kernel.panicked` is the exception of a panic, which may come before the halt or in the middle of it.
"""

from __future__ import annotations

import enum


class SystemState(enum.Enum):
    """How far a kernel has come in its life."""

    RUNNING = "running"
    HALTING = "halting"  # its tasks are being taken down; no new ones
    HALTED = "halted"
