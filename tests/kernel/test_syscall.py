"""System calls, raw and through `sys`, from the application, kernel threads and user programs."""

from __future__ import annotations
