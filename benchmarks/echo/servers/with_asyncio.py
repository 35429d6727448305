"""asyncio: streams, which most programs use, and protocols, which are callbacks; on its own loop and on uvloop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _streams(listener: socket.socket) -> None:
    server = await asyncio.start_server(echo, sock=listener)
    await server.serve_forever()


def streams(listener: socket.socket) -> None:
    asyncio.run(_streams(listener))


def uvloop_streams(listener: socket.socket) -> None:
    import uvloop

    uvloop.run(_streams(listener))


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.write = transport.write

    def data_received(self, data: bytes) -> None:
        self.write(data)


def protocols(listener: socket.socket) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, sock=listener)
        await server.serve_forever()

    asyncio.run(main())
