"""User programs for the stories of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.linux import SIGCHLD, current_kernel, kernel_execve, kernel_thread, kernel_wait4

if TYPE_CHECKING:
    from collections.abc import Callable


def start(main: Callable[[Any], Any], path: str = "/bin/prog") -> int:
    """A child of the current kernel thread that becomes the program `main(sys)`; its pid."""
    current_kernel().register_program(path, lambda sys, argv, envp: main(sys))
    return kernel_thread(lambda _: kernel_execve(path), flags=SIGCHLD)


def run_program(main: Callable[[Any], Any], path: str = "/bin/prog") -> Any:
    """The same, and wait for its end; its exit code."""
    return kernel_wait4(start(main, path), 0)[1]


def refused(call: Callable[..., Any], *args: Any) -> int | None:
    """The errno with which a call fails."""
    with pytest.raises(OSError) as caught:
        call(*args)
    return caught.value.errno


def nr_files() -> int:
    """How many files are open in the current kernel."""
    return current_kernel().fs.nr_files
