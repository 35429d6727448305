"""A counter as a file (fs/eventfd.c): writes add to it, a read takes it, or one with EFD_SEMAPHORE.

Kernel code, interrupt handlers among it, calls `signal()`; a process writes eight bytes.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING

from lkl_green.fs.file import File
from lkl_green.kernel.unistd import EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE, EPOLLIN, EPOLLOUT, O_RDWR

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel

_SIZE = 8
MAX_COUNT = (1 << 64) - 2


class EventFd(File):
    """An eventfd.

    Args:
        count: what it counts from.
        flags: EFD_SEMAPHORE, EFD_NONBLOCK; EFD_CLOEXEC is the descriptor table's business.
        kernel: the kernel it belongs to; the current one if left out.
        name: shown in `repr` and deadlock reports.
    """

    __slots__ = ("_semaphore", "count")

    def __init__(self, count: int = 0, flags: int = 0, kernel: Kernel | None = None, name: str = "eventfd") -> None:
        if flags & ~(EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC):
            raise OSError(errno.EINVAL, f"eventfd flags {flags:#o}: EFD_SEMAPHORE, EFD_NONBLOCK or EFD_CLOEXEC")
        if not 0 <= count <= MAX_COUNT:
            raise OSError(errno.EINVAL, f"an eventfd cannot count {count}")
        super().__init__(O_RDWR | flags & EFD_NONBLOCK, kernel, name)
        self.count = count
        self._semaphore = bool(flags & EFD_SEMAPHORE)

    def signal(self, number: int = 1) -> None:
        """Add to the counter, up to its maximum, without ever waiting (eventfd_signal())."""
        if self._sched.listener is not None:
            self._sched.listener("write", self)
        if not self.f_count:
            raise self._bad("signal it")
        self.count = min(self.count + number, MAX_COUNT)
        self.f_wq.wake_up_poll(EPOLLIN)

    def _read(self, count: int) -> bytes:
        if count < _SIZE:
            raise OSError(errno.EINVAL, f"an eventfd is read {_SIZE} bytes at a time, not {count}")
        if not self.count:
            self.wait_until(lambda: self.count)
        taken = 1 if self._semaphore else self.count
        self.count -= taken
        self.f_wq.wake_up_poll(EPOLLOUT)
        return taken.to_bytes(_SIZE, sys.byteorder)

    def _write(self, data: bytes | bytearray) -> int:
        number = int.from_bytes(data[:_SIZE], sys.byteorder)
        if len(data) < _SIZE or number > MAX_COUNT:
            raise OSError(errno.EINVAL, f"an eventfd is written {_SIZE} bytes, a number up to 2**64 - 2")
        if self.count + number > MAX_COUNT:
            self.wait_until(lambda: self.count + number <= MAX_COUNT)
        self.count += number
        self.f_wq.wake_up_poll(EPOLLIN)
        return _SIZE

    def poll(self) -> int:
        """EPOLLIN above 0, EPOLLOUT below the maximum."""
        return (EPOLLIN if self.count else 0) | (EPOLLOUT if self.count < MAX_COUNT else 0)
