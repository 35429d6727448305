"""Words for the stories that the host tests tell. None of them can hang: each wait has an end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from lkl_green.host.greenlets import GreenletHost
from lkl_green.host.threads import ThreadHost

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.host.ops import HostOps

HOSTS: dict[str, Callable[[Callable[[str], object] | None], HostOps]] = {
    "greenlets": lambda console=None: GreenletHost(console=console),
    "threads": lambda console=None: ThreadHost(console=console),
}
PATIENCE_S = 10.0


def start(host: HostOps, fn: Callable[..., object], *args: object) -> int:
    """Start a host thread that calls `fn(*args)`."""
    tid = host.thread_create(lambda _: fn(*args), None)
    assert tid > 0
    return tid


def finish(host: HostOps, *tids: int) -> None:
    """Join host threads; fail if one does not end. (A GreenletHost would report a deadlock, not hang.)"""
    for tid in tids:
        if isinstance(host, ThreadHost):
            os_thread = host._threads[tid].os_thread
            os_thread.join(PATIENCE_S)
            assert not os_thread.is_alive(), f"host thread {tid} hangs"
        assert host.thread_join(tid) == 0


def breathe(host: HostOps) -> None:
    """Let the other host threads run for a moment."""
    host.thread_join(host.thread_create(lambda _: None, None))


def settle(host: HostOps, until: Callable[[], bool]) -> None:
    """Let the other host threads run until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < deadline, "it did not come to this"
        breathe(host)


def waiting(sem: Any) -> int:
    """How many threads wait for a semaphore or mutex."""
    return len(sem.waiters)


def queue_up(host: HostOps, sem: Any, fn: Callable[..., object], *args: object) -> int:
    """Start a host thread that soon waits for `sem`; return when it does."""
    before = waiting(sem)
    tid = start(host, fn, *args)
    settle(host, lambda: waiting(sem) == before + 1)
    return tid


def in_host_thread(host: HostOps, fn: Callable[[], Any]) -> Any:
    """Call `fn` in a new host thread; its result, or the exception that it raised."""
    box: list[Any] = []

    def call() -> None:
        try:
            box.append(fn())
        except Exception as exc:
            box.append(exc)

    finish(host, start(host, call))
    if isinstance(box[0], Exception):
        raise box[0]
    return box[0]


def in_os_thread(fn: Callable[[], Any]) -> Any:
    """Call `fn` in an OS thread that no host knows; its result, or the exception that it raised."""
    box: list[Any] = []

    def call() -> None:
        try:
            box.append(fn())
        except Exception as exc:
            box.append(exc)

    os_thread = threading.Thread(target=call, daemon=True)
    os_thread.start()
    os_thread.join(PATIENCE_S)
    assert not os_thread.is_alive()
    if isinstance(box[0], Exception):
        raise box[0]
    return box[0]
