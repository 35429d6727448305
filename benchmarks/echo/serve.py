"""One server in a process of its own: prints its port and serves until standard input ends.

`python -m benchmarks.echo.serve KIND`
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Kind: module below `servers`, function, first arguments, the package it needs.
KINDS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "asyncio streams": ("with_asyncio", "streams", (), ""),
    "direct": ("kernel", "serve", ("direct",), ""),
    "direct in asyncio": ("kernel", "serve_in_asyncio", (), ""),
    "hosted": ("kernel", "serve", ("hosted",), ""),
    "pthreads": ("kernel", "serve", ("pthreads",), ""),
    "pthreads/1cpu": ("kernel", "serve", ("pthreads/1cpu",), ""),
    "asyncio protocols": ("with_asyncio", "protocols", (), ""),
    "uvloop streams": ("with_asyncio", "uvloop_streams", (), "uvloop"),
    "trio": ("with_trio", "serve", (), "trio"),
    "gevent": ("with_gevent", "serve", (), "gevent"),
    "OS threads": ("with_threads", "serve", (), ""),
}


def server(kind: str) -> Callable[[socket.socket], object]:
    """The function that serves a listening socket. Raises KeyError, ImportError."""
    module, function, arguments, _ = KINDS[kind]
    return partial(getattr(importlib.import_module(f"benchmarks.echo.servers.{module}"), function), *arguments)


def _leave_at_end_of_input() -> None:
    """Whoever started us has gone, or wants us to."""
    sys.stdin.read()
    os._exit(0)


def main(kind: str) -> None:
    serve = server(kind)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=_leave_at_end_of_input, daemon=True).start()
    serve(listener)


if __name__ == "__main__":
    main(*sys.argv[1:])
