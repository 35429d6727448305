"""The load: many connections, each of which sends, waits for the echo, and sends again.

A process of its own, and one epoll loop without classes or callbacks, so that it is the server that is measured.
It prints one line of JSON. `python -m benchmarks.echo.client PORT CONNECTIONS SECONDS`
"""

from __future__ import annotations

import json
import select
import socket
import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MESSAGE = b"x" * 64
WARM_UP = 0.2  # this share of the time is not counted
PATIENCE_S = 60


def connect(port: int, number: int) -> list[socket.socket]:
    """Open connections, and see that each is served."""
    socks = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) for _ in range(number)]
    for sock in socks:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(MESSAGE)
    for sock in socks:
        _read_all(sock)
        sock.setblocking(False)
    return socks


def _read_all(sock: socket.socket) -> None:
    left = len(MESSAGE)
    while left:
        data = sock.recv(left)
        if not data:
            raise ConnectionError("the server hung up")
        left -= len(data)


def load(socks: Iterable[socket.socket], seconds: float) -> dict[str, float]:
    """Requests per second, and latencies in us."""
    epoll = select.epoll()
    pairs = {}
    for sock in socks:
        epoll.register(sock.fileno(), select.EPOLLIN)
        pairs[sock.fileno()] = (sock.recv, sock.send)
    sent_at = {}
    latencies: list[int] = []
    poll, now, note, size = epoll.poll, perf_counter_ns, latencies.append, len(MESSAGE)
    begin = now()
    count_from, end = begin + int(seconds * WARM_UP * 1e9), begin + int(seconds * 1e9)
    for fd, (_, send) in pairs.items():
        sent_at[fd] = now()
        send(MESSAGE)
    time = begin
    skipped = 0
    while time < end:
        for fd, _ in poll(PATIENCE_S):
            recv, send = pairs[fd]
            if len(recv(4096)) != size:
                raise ConnectionError("no echo, or a part of one")
            time = now()
            note(time - sent_at[fd])
            sent_at[fd] = time
            send(MESSAGE)
        if time < count_from:
            skipped = len(latencies)
            count_from_actual = time
    counted = sorted(latencies[skipped:])
    return {
        "requests": len(latencies),
        "rate": len(counted) * 1e9 / (time - (count_from_actual if skipped else begin)),
        "p50_us": counted[len(counted) // 2] / 1000,
        "p99_us": counted[len(counted) * 99 // 100] / 1000,
    }


def main(port: str, connections: str, seconds: str) -> None:
    socks = connect(int(port), int(connections))
    print(json.dumps(load(socks, float(seconds))))
    for sock in socks:  # each has sent once more; to hang up with an answer unread would be an error to the server
        sock.settimeout(PATIENCE_S)
        _read_all(sock)
        sock.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
