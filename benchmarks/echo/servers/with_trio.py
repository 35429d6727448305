"""trio: a task for each connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import socket


async def echo(stream: trio.SocketStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send_all(data)


def serve(listener: socket.socket) -> None:
    listener.setblocking(False)
    trio.run(trio.serve_listeners, echo, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))])
