"""Ends of tasks: exit codes, zombies, reaping, orphans, and wait4()."""

from __future__ import annotations
