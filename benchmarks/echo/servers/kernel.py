"""A kernel thread for each connection; the application loops on lkl_run() and pause()."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.configurations import CONFIGURATIONS
from lkl_green.fs.hostsocket import HostSocket, host_socket
from lkl_green.linux import kthread_run

if TYPE_CHECKING:
    import socket


def echo(connection: HostSocket) -> None:
    with connection:
        while data := connection.recv(4096):
            connection.sendall(data)


def accept(listener: socket.socket) -> None:
    server = host_socket(listener)
    while True:
        connection, _ = server.accept()
        kthread_run(echo, connection, name="echo")


def serve(configuration: str, listener: socket.socket) -> None:
    """In one of the configurations."""
    CONFIGURATIONS[configuration].start(partial(accept, listener)).run()


def serve_in_asyncio(listener: socket.socket) -> None:
    """The same kernel inside an asyncio event loop."""
    import asyncio

    from lkl_green.embed import running

    async def main() -> None:
        async with running(CONFIGURATIONS["direct"].start(partial(accept, listener))):
            await asyncio.Event().wait()

    asyncio.run(main())
