"""Schedules of a program that uses `threading`: one installation of the replacements serves all of a campaign.

An exception that leaves a thread fails the schedule, or a test whose assertions stand in threads would pass for ever.
A test that expects such exceptions sets `threading.excepthook` itself.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lkl_green.green.patch import green_threads
from lkl_green.green.program import as_main
from lkl_green.green.thread import fail
from lkl_green.kernel.current import current_kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def green_schedules(test: Callable[[], object]) -> Iterator[Callable[[], object]]:
    """A test that uses `threading`, as one to explore, for as long as the context lasts.

    Raises:
        ThreadsInstalled: the replacements are in place already, for something else.
    """
    hook = threading.excepthook
    with green_threads(roots=[test]) as replacements:
        main = as_main(test)

        def run() -> None:
            replacements.rewind(current_kernel())
            threading.excepthook = fail
            main()

        try:
            yield run
        finally:
            threading.excepthook = hook
