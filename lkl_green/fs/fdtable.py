"""Descriptors: the numbers of a process for its open files (fs/file.c, struct files_struct).

A table belongs to a process; threads share it, a child gets a copy whose numbers mean the same files. The lowest free
number is given out, as POSIX promises. Linux finds it in a bitmap; here the numbers that were given back stand in a
heap, and above `_next` all are free.

A task has no table until it needs one: most tasks never open anything, and birth and death look at one attribute.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lkl_green.fs.file import File

RLIMIT_NOFILE = 1024


class FilesStruct:
    """The descriptors of one process.

    Args:
        limit: how many there may be (RLIMIT_NOFILE).

    Attributes:
        count: how many tasks share it.
        close_on_exec: the numbers that exec closes.
    """

    __slots__ = ("_files", "_free", "_next", "close_on_exec", "count", "limit")

    def __init__(self, limit: int = RLIMIT_NOFILE) -> None:
        self.limit = limit
        self.count = 1
        self.close_on_exec: set[int] = set()
        self._files: dict[int, File] = {}
        self._free: list[int] = []  # the free numbers below _next
        self._next = 0

    # -- looking

    def fget(self, fd: int) -> File:
        """The file behind a number. Raises OSError(EBADF) if there is none."""
        file = self._files.get(fd)
        if file is None:
            raise OSError(errno.EBADF, f"descriptor {fd} is not open")
        return file

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._files))

    def __len__(self) -> int:
        return len(self._files)

    # -- giving numbers

    def fd_install(self, file: File, cloexec: bool = False) -> int:
        """Give the file the lowest free number; the reference is the table's now (get_unused_fd_flags(), fd_install()).

        Raises OSError(EMFILE) if the limit is reached; the reference is the caller's still.
        """
        return self._put(self._lowest(), file, cloexec)

    def check_room(self, numbers: int) -> None:
        """Raises OSError(EMFILE) unless so many more numbers can be given."""
        if len(self._files) + numbers > self.limit:
            raise OSError(errno.EMFILE, f"the process has {len(self._files)} files open; its limit is {self.limit}")

    def dup(self, fd: int, at_least: int = 0, cloexec: bool = False) -> int:
        """Another number, the lowest free one from `at_least`. Raises OSError: EBADF, EMFILE, EINVAL."""
        file = self.fget(fd)
        if not 0 <= at_least < self.limit:
            raise OSError(errno.EINVAL, f"no descriptor can be {at_least}; the limit is {self.limit}")
        if at_least:
            self.check_room(1)
            number = at_least
            while number in self._files:
                number += 1
            if number >= self.limit:
                raise OSError(errno.EMFILE, f"no free descriptor from {at_least}; the limit is {self.limit}")
            file.get()
            self._claim(number)
        else:
            self.check_room(1)
            file.get()  # before a number is taken: it may have been closed behind the table's back
            number = self._lowest()
        return self._put(number, file, cloexec)

    def dup_to(self, fd: int, number: int, cloexec: bool = False) -> int:
        """The same file as `number`, whatever that was (dup3()). Raises OSError: EBADF, EINVAL for equal ones.

        An error in closing what it was is nobody's to see, as in Linux.
        """
        file = self.fget(fd)
        if fd == number:
            raise OSError(errno.EINVAL, f"descriptor {fd} onto itself")
        if not 0 <= number < self.limit:
            raise OSError(errno.EBADF, f"no descriptor can be {number}; the limit is {self.limit}")
        file.get()
        old = self._files.pop(number, None)
        if old is None:
            self._claim(number)
        self._put(number, file, cloexec)
        if old is not None:
            with suppress(OSError):
                old.close()
        return number

    def _lowest(self) -> int:
        self.check_room(1)
        if self._free:
            return heappop(self._free)
        number = self._next
        self._next += 1
        return number

    def _claim(self, number: int) -> None:
        """A free number that was asked for; what is below it and was never given becomes free."""
        if number < self._next:
            self._free.remove(number)
            heapify(self._free)
            return
        for free in range(self._next, number):
            heappush(self._free, free)
        self._next = number + 1

    def _put(self, number: int, file: File, cloexec: bool) -> int:
        self._files[number] = file
        self.set_close_on_exec(number, cloexec)
        return number

    def set_close_on_exec(self, fd: int, cloexec: bool) -> None:
        """Mark a number, or unmark it."""
        if cloexec:
            self.close_on_exec.add(fd)
        else:
            self.close_on_exec.discard(fd)

    # -- taking them back

    def close(self, fd: int) -> None:
        """Take a number back and drop its reference (close_fd()). Raises OSError(EBADF) if it is not open."""
        file = self._files.pop(fd, None)
        if file is None:
            raise OSError(errno.EBADF, f"descriptor {fd} is not open")
        self.close_on_exec.discard(fd)
        heappush(self._free, fd)
        file.close()

    def copy(self) -> FilesStruct:
        """The same numbers for the same files, for a child (dup_fd())."""
        new = FilesStruct(self.limit)
        new._files = {fd: file.get() for fd, file in self._files.items()}
        new._free, new._next = list(self._free), self._next
        new.close_on_exec = set(self.close_on_exec)
        return new

    def __repr__(self) -> str:
        shown = ", ".join(f"{fd}: {self._files[fd]!r}" for fd in self)
        return f"<FilesStruct {shown or 'nothing open'}>"
