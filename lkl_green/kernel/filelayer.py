"""What the kernel asks of the files above it, so that it need not import them.

A task that never opened a file has `files = None`, and none of this is called for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lkl_green.kernel.task import Task


class FileLayer(Protocol):
    """The file layer of one kernel; `lkl_green.fs` provides it, the boot puts it in."""

    @property
    def nr_files(self) -> int:
        """How many files are open, of descriptors and of kernel code."""

    def files_of(self, task: Task) -> object:
        """The descriptors of a task; an empty table is made for one that has none."""

    def copy_files(self, flags: int, source: Task, task: Task) -> None:
        """A newborn gets a copy of the descriptors of `source`, or with CLONE_FILES the same."""

    def exit_files(self, task: Task) -> None:
        """A task dies: its descriptors are closed, unless others share them; may sleep."""

    def do_close_on_exec(self, task: Task) -> None:
        """A task executes a program: it gets descriptors of its own, without those that are marked."""

    def file_opened(self, file: object) -> None:
        """Count it."""

    def file_closed(self, file: object) -> None:
        """Count it no more."""

    def shutdown(self) -> None:
        """The kernel has halted: release what is still open."""
