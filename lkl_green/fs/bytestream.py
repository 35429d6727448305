"""Bytes on their way from a file to another one: the inside of a pipe, and twice that of a socketpair.

The rules are those of fs/pipe.c. A read takes what is there and waits only if there is nothing. A write of up to
`atomic` bytes goes in as a whole or waits; a longer one goes in as room comes up. When either side has ended, reads
return what is left and then b"", and writes fail with EPIPE.

*Who is woken.* Readers of a pipe sleep exclusively: a write wakes one of them, which wakes the next one if it leaves
something. Writers are all woken while `poll()` would have said that there is no room; they want different amounts, so
waking one of them could wake the wrong one. At an end everybody is woken.

Each write announces EPOLLIN, even into a stream that was not empty: users of edge-triggered epoll rely on it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from lkl_green.kernel.unistd import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP

if TYPE_CHECKING:
    from lkl_green.fs.file import File
    from lkl_green.kernel.kernel import Kernel

PIPE_BUF = 4096
LOW_WATER = PIPE_BUF  # the room that EPOLLOUT promises; no atomic write wants more
_EVERYBODY = 1 << 30


class ByteStream:
    """One direction.

    Args:
        kernel: the kernel it belongs to.
        name: shown in `repr` and in schedules.
        size: how many bytes it holds.
        atomic: writes up to this size are not torn apart.

    Attributes:
        reader, writer: the files at its ends, set by whoever makes them.
        exclusive: whether readers are woken one by one; only where nobody but readers sleeps on the reader's queue.
        reading_ended, writing_ended: nobody will read, or write, any more.
    """

    __slots__ = (
        "_atomic",
        "_data",
        "_kernel",
        "_size",
        "exclusive",
        "name",
        "reader",
        "reading_ended",
        "writer",
        "writing_ended",
    )

    reader: File
    writer: File

    def __init__(self, kernel: Kernel, name: str, size: int, atomic: int, exclusive: bool) -> None:
        self._kernel = kernel
        self.name = name
        self._data = bytearray()
        self._size = size
        self._atomic = atomic
        self.exclusive = exclusive
        self.reading_ended = False
        self.writing_ended = False

    def __repr__(self) -> str:
        return f"<ByteStream {self.name} {len(self._data)} of {self._size}>"

    @property
    def room(self) -> int:
        """How many bytes could be written now."""
        return self._size - len(self._data)

    def __len__(self) -> int:
        return len(self._data)

    # -- reading

    def read(self, count: int) -> bytes:
        """Up to `count` bytes; b"" at the end. Waits as its reader does (`File.wait_until`)."""
        if not self._data:
            self.reader.wait_until(self._is_readable, self.exclusive)
        return self._take(count)

    def _is_readable(self) -> bool:
        return bool(self._data) or self.writing_ended or self.reading_ended

    def _take(self, count: int) -> bytes:
        data = self._data
        was_full = self._size - len(data) < LOW_WATER
        if count >= len(data):
            taken = bytes(data)
            data.clear()
        else:
            taken = bytes(data[:count])
            del data[:count]
            if self.exclusive and self.reader.f_wq.waitqueue_active():
                self.reader.f_wq.do_wake_up()
        if was_full and taken and not self.writing_ended:
            self.writer.f_wq.wake_up_poll(EPOLLOUT)
        return taken

    # -- writing

    def write(self, data: bytes | bytearray) -> int:
        """Write all, or as much as can be without waiting; how many bytes. Raises BrokenPipeError."""
        total, written = len(data), 0
        need = total if total <= self._atomic else 1
        while written < total:
            if self.reading_ended or self.writing_ended:
                self._broken(written)
                break
            if self.room < need:
                try:
                    self.writer.wait_until(lambda: self.room >= need or self.reading_ended or self.writing_ended)
                except (BlockingIOError, InterruptedError):
                    if written:
                        break
                    raise
                continue
            end = min(total, written + self.room)
            self._data += data if end - written == total else data[written:end]
            written = end
            self.reader.f_wq.wake_up_poll(EPOLLIN)
        return written

    def _broken(self, written: int) -> None:
        """Nobody will read: SIGPIPE for a process, EPIPE unless part of it is written."""
        self.writer.broken_pipe()
        if not written:
            raise BrokenPipeError(errno.EPIPE, f"nobody reads what is written to {self.writer!r}")

    # -- ends

    def end_reading(self) -> None:
        """Nobody reads any more: what is in it is gone, and writers fail."""
        self._data.clear()
        self.shut_reading()

    def shut_reading(self) -> None:
        """The same, but what is in it can still be read (SHUT_RD)."""
        self.reading_ended = True
        self.writer.f_wq.wake_up_poll(EPOLLOUT | EPOLLERR | EPOLLHUP)

    def end_writing(self) -> None:
        """Nobody writes any more: readers get what is left, and then the end."""
        self.writing_ended = True
        self.reader.f_wq.wake_up_poll(EPOLLIN | EPOLLHUP | EPOLLRDHUP, _EVERYBODY)

    # -- what poll() says

    @property
    def readable(self) -> bool:
        """Whether bytes are there."""
        return bool(self._data)

    @property
    def writable(self) -> bool:
        """Whether there is so much room that an atomic write of any size would not wait."""
        return self.room >= LOW_WATER
