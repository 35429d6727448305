"""User programs for stories: make one out of a function, start it, wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.linux import SIGCHLD, current_kernel, kernel_execve, kernel_thread, kernel_wait4

if TYPE_CHECKING:
    from collections.abc import Callable

PROG = "/bin/prog"


def start(main: Callable[[Any], Any], flags: int = SIGCHLD, path: str = PROG) -> int:
    """A child of the current kernel thread that becomes the program `main(sys)`; its pid."""
    current_kernel().register_program(path, lambda sys, argv, envp: main(sys))
    return kernel_thread(lambda _: kernel_execve(path), flags=flags)


def run_program(main: Callable[[Any], Any], path: str = PROG) -> Any:
    """The same, and wait for its end; its exit code."""
    return kernel_wait4(start(main, path=path))[1]
