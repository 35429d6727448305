"""Shrinking a failing schedule to the simplest one that fails the same way."""

from __future__ import annotations

from lkl_green.testing.cost import Shrunk
from lkl_green.testing.shrink.shrinker import shrink

__all__ = ["Shrunk", "shrink"]
