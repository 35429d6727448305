"""Run ordinary programs that use `threading` or asyncio in kernel threads: deterministic, in virtual time."""

from __future__ import annotations

from lkl_green.green.patch import Replacements, green_threads
from lkl_green.green.program import as_main, finish_threads, run_threads

__all__ = ["Replacements", "as_main", "finish_threads", "green_threads", "run_threads"]
