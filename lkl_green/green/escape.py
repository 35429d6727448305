"""Calls that would block outside the kernel raise `Escape` in kernel threads.

A call that blocks in C stops all kernel threads and the application; under a virtual clock it stops them for ever. So
such calls raise `Escape`, which says what to do instead. They are replaced in the modules in which Python code finds
them. What a C extension waits for by itself cannot be replaced; `watch.py` ends it. Calls that return at once work: on
a socket that does not block, or with a timeout of 0. Outside of kernel threads all calls work as before.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import socket
import subprocess
import sys
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from lkl_green.errors import Escape
from lkl_green.green.aio import poll_again
from lkl_green.kernel.current import running_here

if TYPE_CHECKING:
    from collections.abc import Callable

_IN_ANOTHER_THREAD = "do it before or after the kernel runs, or replace it by a stand-in in the test"
_USE_ASYNCIO = (
    "its queue of callbacks and its waiting are written in C, out of reach; use asyncio's own loop in the test: "
    "asyncio.run() without uvloop's loop factory or policy"
)

_PROCESSES = (
    *((os, name) for name in ("fork", "forkpty", "system", "posix_spawn", "posix_spawnp", "wait", "wait3", "wait4")),
    (signal, "pause"),
    (signal, "sigwait"),
    (signal, "sigwaitinfo"),
    (signal, "sigtimedwait"),
    (subprocess.Popen, "__init__"),
    (BaseProcess, "start"),
    (BaseProcess, "join"),
)
_NAME_SERVICE = ("create_connection", "getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo")
_SOCKET_CALLS = (
    *("accept", "connect", "recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into"),
    *("send", "sendall", "sendmsg", "sendto", "sendfile", "close", "shutdown"),
)
_NEVER_BLOCK = ("close", "shutdown")


@runtime_checkable
class SeesEscapes(Protocol):
    """A scheduling policy with a method that is called for each refused call. The program may catch the exception."""

    def escaped(self, error: Escape) -> None:
        """A task of the policy's kernel is about to raise `error`."""


def table() -> list[tuple[Any, str, Any]]:
    """(object, attribute, replacement) for each call that would block."""
    replaced = [(owner, name, _refused(owner, name)) for owner, name in _PROCESSES if hasattr(owner, name)]
    replaced += [(socket, name, _refused(socket, name)) for name in _NAME_SERVICE]
    replaced += [(socket.socket, name, _socket_call(name)) for name in _SOCKET_CALLS if hasattr(socket.socket, name)]
    replaced += [(os, "waitpid", _waitpid), (select, "select", _select)]
    replaced += [(select, name, _poller(getattr(select, name))) for name in ("poll", "epoll") if hasattr(select, name)]
    for kind in ("SelectSelector", "PollSelector", "EpollSelector", "KqueueSelector", "DevpollSelector"):
        if hasattr(selectors, kind):
            replaced.append((getattr(selectors, kind), "select", _selector_select(getattr(selectors, kind))))
    return replaced


def foreign_loops() -> list[tuple[Any, str, Any]]:
    """(class, attribute, replacement) for event loops that do not wait in a selector of Python, as far as imported."""
    loop = getattr(sys.modules.get("uvloop"), "Loop", None)
    return [] if loop is None else [(loop, "__init__", _refused(loop, "__init__", "uvloop.Loop()", _USE_ASYNCIO))]


def _refused(owner: Any, name: str, what: str = "", advice: str = _IN_ANOTHER_THREAD) -> Callable[..., Any]:
    original = getattr(owner, name)
    what = what or f"{owner.__name__}.{name}()".replace(".__init__", "")

    def refuse(*args: Any, **kwargs: Any) -> Any:
        if running_here.kernel is not None:
            raise _escape(what, advice)
        return original(*args, **kwargs)

    return _named_like(refuse, original)


def _socket_call(name: str) -> Callable[..., Any]:
    original = getattr(socket.socket, name)
    may_block = name not in _NEVER_BLOCK

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        kernel = running_here.kernel
        if kernel is None:
            return original(self, *args, **kwargs)
        if may_block and self.gettimeout() != 0:
            raise _escape(f"socket.{name}() of a blocking socket")
        try:
            return original(self, *args, **kwargs)
        finally:
            poll_again(kernel)

    return _named_like(call, original)


def _waitpid(pid: int, options: int, /) -> tuple[int, int]:
    if running_here.kernel is not None and not options & os.WNOHANG:
        raise _escape("os.waitpid() that waits")
    return native_waitpid(pid, options)


def _select(*args: Any) -> Any:
    if running_here.kernel is not None and (len(args) < 4 or args[3] != 0):
        raise _escape("select.select() that waits")
    return native_select(*args)


native_waitpid = os.waitpid
native_select = select.select


def _poller(original: Any) -> Callable[..., Any]:
    def make(*args: Any, **kwargs: Any) -> Any:
        if running_here.kernel is not None:
            raise _escape(f"select.{original.__name__}()")
        return original(*args, **kwargs)

    return _named_like(make, original)


def _selector_select(kind: Any) -> Callable[..., Any]:
    original = kind.select

    def wait(self: Any, timeout: float | None = None) -> Any:
        if running_here.kernel is not None and (timeout is None or timeout > 0):
            raise _escape(f"{kind.__name__}.select() that waits")
        return original(self, timeout)

    return _named_like(wait, original)


def _escape(what: str, advice: str = _IN_ANOTHER_THREAD) -> Escape:
    kernel = running_here.kernel
    assert kernel is not None
    task = kernel.sched.current
    error = Escape(
        f"kernel thread {task.comm}-{task.pid} calls {what}, which would wait for the outside world and stop the whole "
        f"kernel: {advice}"
    )
    policy = kernel.sched.policy
    if isinstance(policy, SeesEscapes):
        policy.escaped(error)
    return error


def _named_like(function: Callable[..., Any], original: Any) -> Callable[..., Any]:
    function.__name__ = getattr(original, "__name__", function.__name__)
    function.__doc__ = original.__doc__
    return function
