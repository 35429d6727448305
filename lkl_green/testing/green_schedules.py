"""Campaigns of tests that use `threading`: one installation of the replacements serves all schedules.

An exception that leaves a thread fails the schedule. Otherwise a test with assertions in threads would always pass.
A test that expects such exceptions sets `threading.excepthook` itself.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lkl_green.green.patch import green_threads
from lkl_green.green.program import as_main
from lkl_green.green.thread import fail
from lkl_green.green.watch import advise
from lkl_green.kernel.current import current_kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def green_schedules(test: Callable[[], object]) -> Iterator[Callable[[], object]]:
    """Replace `threading` while the context lasts; the value is a function that runs `test` in one schedule.

    Raises:
        ThreadsInstalled: the replacements are in place already, for something else.
    """
    hook = threading.excepthook
    with green_threads(roots=[test]) as replacements:
        main = as_main(test)

        def run() -> None:
            replacements.rewind(current_kernel())
            advise(current_kernel())
            threading.excepthook = fail
            main()

        try:
            yield run
        finally:
            threading.excepthook = hook
