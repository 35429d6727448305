"""Ctrl-C while a kernel runs.

Python raises KeyboardInterrupt wherever the main thread happens to be: in the middle of a kernel thread, or of
`schedule()`. While `Kernel.run()` is in charge, the first Ctrl-C therefore makes the kernel give up the CPU and is
raised out of `run()`. A second one, for a kernel thread that never yields, is raised on the spot.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lkl_green.host.native import get_ident

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from lkl_green.kernel.loop import RunLoop


@contextmanager
def sigint_leaves(loop: RunLoop) -> Iterator[None]:
    """Turn the first SIGINT into a KeyboardInterrupt raised by `lkl_run()`; only where Python's own handler is set."""
    in_main_thread = get_ident() == threading.main_thread().ident
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def handler(signum: int, frame: FrameType | None) -> None:
        if loop.fatal is None and loop.running:
            loop.interrupted(KeyboardInterrupt())
        else:
            signal.default_int_handler(signum, frame)

    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
