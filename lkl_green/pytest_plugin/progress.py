"""The line on the terminal that says how far a long test is."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from lkl_green.testing import Progress

_AFTER_S = 1.0


class ProgressLine:
    """It is not shown in xdist's workers, which have no terminal."""

    def __init__(self, config: pytest.Config) -> None:
        self._terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        self.wanted = self._terminal is not None and self._terminal.isatty and not hasattr(config, "workerinput")
        self._shown = False

    def show(self, progress: Progress) -> None:
        """Write it, from the first second on."""
        if progress.elapsed_s < _AFTER_S:
            return
        if not self._shown:
            self._write(self._terminal.ensure_newline)
            self._shown = True
        self._write(lambda: self._terminal.rewrite(str(progress), erase=True))

    def clear(self) -> None:
        """Take it away; pytest goes on at the beginning of the line."""
        if self._shown:
            self._write(lambda: (self._terminal.rewrite("", erase=True), self._terminal.write("\r")))

    def _write(self, write: Callable[[], object]) -> None:
        """What the test prints is captured; this line is not."""
        capturing = nullcontext() if self._capture is None else self._capture.global_and_fixture_disabled()
        with capturing:
            write()
            self._terminal.flush()
