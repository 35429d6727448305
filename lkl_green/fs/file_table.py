"""The files of one kernel: all that are open, and the tables of its tasks (fs/file_table.c, and exit_files())."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lkl_green.errors import TaskKilled
from lkl_green.fs.fdtable import FilesStruct
from lkl_green.kernel.fork import CLONE_FILES

if TYPE_CHECKING:
    from lkl_green.fs.file import File
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task


class FileTable:
    """What the kernel knows as its `FileLayer`.

    Files are kept alive while they are open, as in C: one that kernel code forgets to close is counted, and released
    when the kernel halts.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._open: dict[File, None] = {}

    @property
    def nr_files(self) -> int:
        """How many files are open."""
        return len(self._open)

    @property
    def open_files(self) -> tuple[File, ...]:
        """Which, in order of opening (lsof)."""
        return tuple(self._open)

    def file_opened(self, file: object) -> None:
        """Count it."""
        self._open[cast("File", file)] = None

    def file_closed(self, file: object) -> None:
        """Count it no more."""
        self._open.pop(cast("File", file), None)

    # -- tables of tasks

    def files_of(self, task: Task) -> FilesStruct:
        """The descriptors of a task; an empty table if it has none yet."""
        files = cast("FilesStruct | None", task.files)
        if files is None:
            files = task.files = FilesStruct()
        return files

    def current_files(self) -> FilesStruct:
        """Those of the current task."""
        return self.files_of(self._kernel.sched.current)

    def copy_files(self, flags: int, source: Task, task: Task) -> None:
        """A newborn gets a copy, or with CLONE_FILES the same."""
        files = self.files_of(source)
        if flags & CLONE_FILES:
            files.count += 1
            task.files = files
        else:
            task.files = files.copy()

    def exit_files(self, task: Task) -> None:
        """A task dies; the last one of a table closes what is in it."""
        files = self.files_of(task)
        task.files = None
        files.count -= 1
        if not files.count:
            for fd in files:
                self._close(files, fd, task)

    def _close(self, files: FilesStruct, fd: int, task: Task) -> None:
        """Close for somebody to whom no error can be returned any more: it exits, or executes a program."""
        try:
            files.close(fd)
        except (Exception, TaskKilled) as error:
            self._kernel.printk.err(f"{task.comm}-{task.pid}: descriptor {fd} is closed with an error: {error}")

    def do_close_on_exec(self, task: Task) -> None:
        """A program gets a table of its own, without what is marked."""
        files = self.files_of(task)
        if files.count > 1:
            files.count -= 1
            files = task.files = files.copy()
        for fd in sorted(files.close_on_exec):
            self._close(files, fd, task)

    def shutdown(self) -> None:
        """The kernel has halted: release what is still open, oldest first. One that fails does not keep the others."""
        while self._open:
            file = next(iter(self._open))
            file.f_count = 1
            try:
                file.close()
            except Exception as error:
                self._open.pop(file, None)
                self._kernel.printk.err(f"halt: {file!r}: {error}")


def files_of_current(kernel: Kernel) -> FilesStruct:
    """The descriptors of the current task of a kernel; an empty table if it has none yet."""
    return cast("FilesStruct", kernel.fs.files_of(kernel.sched.current))
