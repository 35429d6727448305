"""Shared variables, for code whose schedules are explored: <linux/compiler.h>."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from lkl_green.kernel.current import current_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    T = TypeVar("T")


def READ_ONCE(read: Callable[[], T], name: str = "") -> T:  # noqa: N802
    """Read a shared variable, as a scheduling point that a schedule explorer sees."""
    sched = current_kernel().sched
    if sched.listener is not None:
        sched.listener("read", name)
    return read()


def WRITE_ONCE(write: Callable[[], object], name: str = "") -> None:  # noqa: N802
    """Write a shared variable, as a scheduling point that a schedule explorer sees."""
    sched = current_kernel().sched
    if sched.listener is not None:
        sched.listener("write", name)
    write()
