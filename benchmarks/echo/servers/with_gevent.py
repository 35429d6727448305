"""gevent: a greenlet for each connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gevent import socket as gevent_socket
from gevent.server import StreamServer

if TYPE_CHECKING:
    import socket


def echo(connection: Any, address: Any) -> None:
    while data := connection.recv(4096):
        connection.sendall(data)


def serve(listener: socket.socket) -> None:
    StreamServer(gevent_socket.socket(fileno=listener.detach()), echo).serve_forever()
