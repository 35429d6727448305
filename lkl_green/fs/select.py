"""Waiting for several files at once (fs/select.c): poll() and select(), for descriptors and for kernel code.

The task queues itself on every file's wait queue, announces its sleep, and looks at all files once more, in this order
(rule 116). Whichever wakes it first takes it off its own queue only; it leaves the others itself.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from lkl_green.kernel.task import TASK_INTERRUPTIBLE, TASK_RUNNING
from lkl_green.kernel.unistd import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLNVAL, EPOLLOUT, EPOLLPRI

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.fs.file import File
    from lkl_green.kernel.kernel import Kernel

UNASKED = EPOLLERR | EPOLLHUP  # what poll() reports whether it was asked for or not

# What select() takes for readable, writable and exceptional (POLLIN_SET, POLLOUT_SET, POLLEX_SET).
SELECT_SETS = (EPOLLIN | EPOLLHUP | EPOLLERR, EPOLLOUT | EPOLLERR, EPOLLPRI)


class PollWait:
    """What a polling task waits for, shown in deadlock reports (struct poll_wqueues).

    Args:
        kernel: the kernel.
        wanted: files, each with the events to wait for.
        unasked: events to wait for with each of them.
    """

    __slots__ = ("_kernel", "_unasked", "_wanted")

    def __init__(self, kernel: Kernel, wanted: Sequence[tuple[File, int]], unasked: int) -> None:
        self._kernel = kernel
        self._wanted = wanted
        self._unasked = unasked

    def look(self) -> list[int]:
        """What each file is ready for now; EPOLLNVAL for one that was closed."""
        unasked = self._unasked
        return [file.poll() & (events | unasked) if file.f_count else EPOLLNVAL for file, events in self._wanted]

    def wait(self, timeout_ns: int | None) -> list[int]:
        """Sleep until one file is ready, or the time is up; what each is ready for."""
        kernel = self._kernel
        sched = kernel.sched
        sched.might_sleep()
        task = sched.current
        try:
            while True:
                for file, _ in self._wanted:
                    file.f_wq.prepare_to_wait(TASK_INTERRUPTIBLE)
                task.waiting_for, task.state = self, TASK_INTERRUPTIBLE
                found = self.look()
                if any(found) or timeout_ns == 0:
                    return found
                if kernel.signals.pending_in(task, TASK_INTERRUPTIBLE):
                    raise InterruptedError(errno.EINTR, "a signal ended the poll")
                if timeout_ns is None:
                    sched.schedule()
                else:
                    timeout_ns = kernel.timers.schedule_timeout(timeout_ns)
        finally:
            for file, _ in self._wanted:
                file.f_wq.finish_wait()
            task.waiting_for, task.state = None, TASK_RUNNING

    def __repr__(self) -> str:
        return f"<poll of {', '.join(repr(file) for file, _ in self._wanted) or 'nothing'}>"


def do_poll(
    kernel: Kernel, wanted: Sequence[tuple[File, int]], timeout_ns: int | None = None, unasked: int = UNASKED
) -> list[int]:
    """Wait until one of the files is ready (do_poll(), do_select()).

    Args:
        kernel: the kernel.
        wanted: files, each with the events to wait for.
        timeout_ns: for how long; 0 only looks, None waits for good.
        unasked: events to wait for with each of them.

    Returns:
        what each file is ready for, all 0 if the time is up; EPOLLNVAL for a closed one.

    Raises:
        InterruptedError: EINTR, a signal came first.
    """
    sched = kernel.sched
    for file, _ in wanted if sched.listener is not None else ():
        if sched.listener is not None:  # still: a schedule may end here
            sched.listener("poll", file.shared("poll"))
    table = PollWait(kernel, wanted, unasked)
    found = table.look()
    if any(found) or timeout_ns == 0:
        return found
    return table.wait(timeout_ns)
