"""Depth-first search over every schedule there is."""

from __future__ import annotations

from lkl_green.testing.policies.search import Search


class DFS(Search):
    """Every schedule, once. A proof for tests of a few operations; others have more schedules than anybody has time."""

    name = "dfs"

    def __init__(self) -> None:
        super().__init__(None)
