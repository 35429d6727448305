"""The functions of `_thread`: threads without a Thread object."""

from __future__ import annotations

import sys
import threading
from contextvars import Context
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from lkl_green.errors import Escape, TaskUnwind
from lkl_green.green import originals
from lkl_green.green.thread import Handle, cannot_start, fail, is_main, wake_new
from lkl_green.green.waiter import look
from lkl_green.host import native
from lkl_green.kernel.current import running_here

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lkl_green.kernel.kernel import Kernel


def start_new_thread(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None, /
) -> int:
    """Run a function as a kernel thread; its ident (_thread.start_new_thread)."""
    kernel = running_here.kernel
    if kernel is None:
        return native.start_new_thread(function, args, dict(kwargs or {}))
    if not callable(function):
        raise TypeError("first arg must be callable")
    if not isinstance(args, tuple):
        raise TypeError("2nd arg must be a tuple")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise TypeError("optional 3rd arg must be a dictionary")
    return _start(kernel, Handle(kernel, None), function, args, dict(kwargs or {})).ident


def start_joinable_thread(function: Callable[[], Any], handle: Any = None, daemon: bool = True) -> Any:
    """Run a function as a kernel thread that can be joined; its handle (_thread.start_joinable_thread)."""
    kernel = running_here.kernel
    if kernel is None:
        return originals.start_joinable_thread(function, handle=handle, daemon=daemon)
    if not callable(function):
        raise TypeError("thread function must be callable")
    if handle is not None and type(handle) is not Handle:
        if not isinstance(handle, originals.ThreadHandle):
            raise TypeError("'handle' must be a _ThreadHandle")
        raise Escape("start_joinable_thread() with a handle made outside the kernel: leave the handle out")
    return _start(kernel, Handle(kernel, None) if handle is None else handle, function, (), {})


def _start(kernel: Kernel, handle: Handle, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Handle:
    if kernel.sched.listener is not None:
        kernel.sched.listener("start", handle)

    def run(_arg: object) -> None:
        try:
            function(*args, **kwargs)
        except (TaskUnwind, SystemExit) as error:
            if isinstance(error, TaskUnwind):
                raise
        except BaseException as error:
            if threading.excepthook is fail:
                raise
            _report_unraisable(function, error)

    name = getattr(function, "__name__", "thread")
    try:
        handle.task = kernel.fork.create_thread(handle, run, None, name, Context())
    except OSError as error:
        raise cannot_start() from error
    wake_new(kernel.sched, handle.task)
    return handle


def count() -> int:
    """How many threads were started and have not ended, the main thread not counted (_thread._count)."""
    kernel = running_here.kernel
    if kernel is None:
        return originals.thread_count()
    look(kernel, None)
    return sum(type(task.kthread) is Handle for task in kernel.pids)


def set_name(name: str) -> None:
    """Name the OS thread (_thread.set_name). That of a kernel thread runs all of them, and keeps its own name."""
    kernel = running_here.kernel
    if kernel is None or is_main(kernel.sched.current):
        originals.set_name(name)


def _report_unraisable(function: Any, error: BaseException) -> None:
    said_whose = sys.version_info >= (3, 13)
    message = "Exception ignored in thread started by"
    sys.unraisablehook(
        SimpleNamespace(
            exc_type=type(error),
            exc_value=error,
            exc_traceback=error.__traceback__,
            err_msg=f"{message} {function!r}" if said_whose else message,
            object=None if said_whose else function,
        )
    )
