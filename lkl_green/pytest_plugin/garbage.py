"""What schedules leave behind that were cut off: coroutines that were never awaited, tasks that never ended.

Python complains of them when they are freed, and pytest makes warnings or errors of that. They say nothing of the test:
it was not allowed to end them.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Garbage:
    """The garbage of one campaign."""

    def __init__(self) -> None:
        self._hook: Callable[[Any], object] | None = None

    def expect(self) -> None:
        """From here on, exceptions in finalizers are not reported."""
        if self._hook is None:
            self._hook = sys.unraisablehook
            sys.unraisablehook = lambda _unraisable: None

    def collect(self) -> None:
        """After the campaign: free what is left of it, and report such exceptions again."""
        if self._hook is not None:
            gc.collect()
            sys.unraisablehook = self._hook
            self._hook = None
