"""Campaigns of tests that use `threading`: one installation of the replacements serves all schedules.

An exception that leaves a thread fails the schedule. Otherwise a test with assertions in threads would always pass.
A test that expects such exceptions sets `threading.excepthook` itself.

A schedule ends as a program ends: when the test has returned and its other threads have ended, daemon threads are taken
down wherever they are. Dropped: to wait until they sleep for good. A daemon that polls or ticks never does.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lkl_green.green.patch import green_threads
from lkl_green.green.program import as_main, take_down_daemons
from lkl_green.green.thread import fail
from lkl_green.green.watch import Watch, advise
from lkl_green.kernel.current import current_kernel, running_here
from lkl_green.testing.controller import Controller
from lkl_green.testing.loops.loops import Loops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.testing.settings import ScheduleSettings

# How long a thread may be in a call that blocks outside the kernel, in s.
_WATCH_S = 2.0


@contextmanager
def green_schedules(test: Callable[[], object], settings: ScheduleSettings) -> Iterator[Callable[[], object]]:
    """Replace `threading` while the context lasts; the value is a function that runs `test` in one schedule.

    Args:
        test: the test.
        settings: say what is explored in event loops of asyncio.

    Raises:
        ThreadsInstalled: the replacements are in place already, for something else.
    """
    hook = threading.excepthook
    asyncio_log = logging.getLogger("asyncio")
    loops = Loops(settings.loop_order, settings.explore_cancel)
    with green_threads(roots=[test], on_loop=loops.adopt) as replacements:
        main = as_main(test)
        watch = Watch(None, _WATCH_S)

        def run() -> None:
            kernel = watch.kernel = current_kernel()
            replacements.rewind(kernel)
            loops.rewind()
            advise(kernel)
            threading.excepthook = fail
            main()
            _end_of_program(kernel)

        watch.start()
        asyncio_log.addFilter(_is_news)
        try:
            yield run
        finally:
            asyncio_log.removeFilter(_is_news)
            watch.stop()
            threading.excepthook = hook


def _end_of_program(kernel: Kernel) -> None:
    """Take daemon threads down; how they are unwound does not belong to the schedule."""
    controller = kernel.sched.policy
    assert isinstance(controller, Controller)
    controller.stop_deciding()
    take_down_daemons(kernel)


def _is_news(_record: logging.LogRecord) -> bool:
    """Whether what asyncio logs is of the program: not of tasks that ended because their schedule was cut off."""
    kernel = running_here.kernel
    return kernel is not None and not kernel.sched.current.killed
