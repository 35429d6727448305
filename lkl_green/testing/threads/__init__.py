"""Another name of `lkl_green.green`, to which the code moved; `campaign` is about schedules and stands here."""

from __future__ import annotations

from lkl_green.green import Replacements, as_main, finish_threads, green_threads, run_threads

__all__ = ["Replacements", "as_main", "finish_threads", "green_threads", "run_threads"]
