"""When a run tells what every thread does: on SIGQUIT, at the time limit, and after Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lkl_green.cli.options import STATUS_TIME_LIMIT, complain
from lkl_green.host.native import get_ident
from lkl_green.kernel.time_limit import time_limit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from lkl_green import Kernel

_SIGQUIT = getattr(signal, "SIGQUIT", None)
_TRIES = 5


def report_of(kernel: Kernel) -> str:
    """The kernel's report. Other OS threads may run it meanwhile, and change what is being looked at."""
    for _ in range(_TRIES):
        try:
            return kernel.report()
        except RuntimeError:  # a dict or deque changed its size
            continue
    return kernel.ps()


@contextmanager
def sigquit_reports(kernel: Kernel) -> Iterator[None]:
    """Write the report to stderr at each SIGQUIT, and continue. A program that handles the signal itself keeps it."""
    if (
        _SIGQUIT is None
        or get_ident() != threading.main_thread().ident
        or signal.getsignal(_SIGQUIT) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(_SIGQUIT, lambda _signum, _frame: os.write(2, report_of(kernel).encode()))
    try:
        yield
    finally:
        signal.signal(_SIGQUIT, signal.SIG_DFL)


def limited(kernel: Kernel, limit_s: float) -> AbstractContextManager[None]:
    """End the run after `limit_s`; the process, if the kernel cannot be stopped."""

    def give_up(error: BaseException) -> None:
        told = f"lkl-green: {error}; a kernel thread does not give up the CPU, so the process ends\n{report_of(kernel)}"
        os.write(2, told.encode())
        os._exit(STATUS_TIME_LIMIT)

    return time_limit(kernel, limit_s, give_up)


def complain_with_report(error: BaseException, message: str, status: int) -> int:
    """Say what ended the run, with the report that it carries; the status."""
    return complain("\n".join([message, *getattr(error, "__notes__", ())]), status)
