"""Kernel threads on request: creating, stopping, parking: rules 95 to 106."""

from __future__ import annotations
