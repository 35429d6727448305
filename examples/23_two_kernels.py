"""Two kernels in one event loop, which talk over a socketpair of the host.

    python examples/23_two_kernels.py

    kernel "client"                              kernel "server"
    main: write a line, read the answer  ---->   serve: read a line, write it in capitals
                                       socketpair

Each kernel thread blocks in `read()` as if it were alone in the world. The loop sees two kernels, each with one
descriptor to watch, and runs whichever has something to do.
"""

from __future__ import annotations

import asyncio
import socket

import anyio

from lkl_green import lkl_start_kernel
from lkl_green.embed import running
from lkl_green.linux import current, current_kernel, host_fd


def serve(end: socket.socket) -> str:
    """In the kernel `server`."""
    with host_fd(end) as file:
        lines = 0
        while data := file.read(100):
            lines += 1
            file.write(data.upper())
    return f"{current_kernel().name}: {current().comm} has answered {lines} lines"


def ask(end: socket.socket) -> str:
    """In the kernel `client`."""
    with host_fd(end) as file:
        for line in ("good morning", "what time is it", "good night"):
            file.write(line.encode())
            print(f"{line!r} -> {file.read(100).decode()!r}")
    return f"{current_kernel().name}: {current().comm} has asked all it wanted"


async def main() -> None:
    left, right = socket.socketpair()
    client, server = lkl_start_kernel(name="client"), lkl_start_kernel(name="server")
    async with running(client) as a, running(server) as b, anyio.create_task_group() as group:

        async def serving() -> None:
            print(await b.call(serve, right))

        group.start_soon(serving)
        print(await a.call(ask, left))


if __name__ == "__main__":
    asyncio.run(main())
