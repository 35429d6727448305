"""The former name of `lkl_green.green`, kept for programs that import it."""

from __future__ import annotations

from lkl_green.green import Replacements, as_main, finish_threads, green_threads, run_threads

__all__ = ["Replacements", "as_main", "finish_threads", "green_threads", "run_threads"]
