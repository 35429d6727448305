"""An HTTP/1.1 service whose handlers are kernel threads, inside an asyncio event loop.

    python examples/24_http_service.py

Each connection is a kernel thread that reads, computes and answers in straight lines; it sleeps, takes a lock of the
kernel, and awaits something of the event loop, and nobody else has to wait for it. The clients are real ones, of the
standard library, in OS threads. A page that takes long does not hold up a page that does not: in the second part two
clients wait for a third to come, and another is served meanwhile.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from lkl_green import lkl_start_kernel
from lkl_green.embed import await_, running
from lkl_green.linux import Completion, HostSocket, Mutex, WaitQueueHead, host_socket, kthread_run, msleep

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_HEAD, LONGEST_BODY = 16_384, 1 << 20
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 413: "Content Too Large"}


class HttpError(Exception):
    """What the client gets instead of a page."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Connection:
    """The requests of one client, in the kernel thread that serves it."""

    def __init__(self, sock: HostSocket) -> None:
        self._sock = sock
        self._unread = b""

    def _more(self) -> bool:
        data = self._sock.recv(65536)
        self._unread += data
        return bool(data)

    def head(self) -> tuple[str, str, dict[str, str]] | None:
        """Method, path and headers of the next request; None if the client has hung up."""
        while b"\r\n\r\n" not in self._unread:
            if len(self._unread) > LONGEST_HEAD:
                raise HttpError(413, "the head is too long")
            if not self._more():
                return None
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise HttpError(400, f"not a request: {first[:80]}")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return words[0], words[1], headers

    def body(self, length: str) -> bytes:
        """The request's body."""
        if not length.isdecimal():
            raise HttpError(400, f"Content-Length: {length[:80]}")
        size = int(length)
        if size > LONGEST_BODY:
            raise HttpError(413, "the body is too long")
        while len(self._unread) < size:
            if not self._more():
                raise HttpError(400, "the body ends too early")
        body, self._unread = self._unread[:size], self._unread[size:]
        return body

    def answer(self, status: int, page: bytes, keep: bool) -> None:
        """Send a page."""
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: text/plain\r\nContent-Length: {len(page)}\r\n"
            f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
        )
        self._sock.sendall(head.encode() + page)


class Service:
    """A few pages, and a counter that all connections share."""

    def __init__(self) -> None:
        self.ready: Completion
        self.address: tuple[str, int]
        self._lock: Mutex
        self._queue: WaitQueueHead
        self._visits = self._meeting = 0
        self._pages: dict[tuple[str, str], Callable[[bytes], str]] = {
            ("GET", "/"): lambda body: "hello from a kernel thread\n",
            ("GET", "/visits"): lambda body: f"{self._visits}\n",
            ("GET", "/sleep"): self._sleep,
            ("GET", "/await"): lambda body: await_(asyncio.sleep(0, "awaited in the event loop\n")),
            ("GET", "/meet"): self._meet,
            ("POST", "/sum"): lambda body: f"{sum(json.loads(body))}\n",
        }

    def _sleep(self, body: bytes) -> str:
        msleep(1)
        return "slept for a millisecond\n"

    def _meet(self, body: bytes) -> str:
        """Wait until three clients are here."""
        self._meeting += 1
        self._queue.wake_up_all()
        self._queue.wait_event(lambda: self._meeting >= 3)
        return "the three of us are here\n"

    def init(self) -> None:
        """Process 1: accept connections until the kernel halts."""
        self._lock, self._queue = Mutex(), WaitQueueHead(name="meeting")
        with host_socket(socket.create_server(("127.0.0.1", 0)), name="http") as server:
            self.address = server.getsockname()
            self.ready.complete()
            while True:
                sock, _ = server.accept()
                kthread_run(self._serve, sock, name=f"http/{sock.fileno()}")

    def _serve(self, sock: HostSocket) -> None:
        connection = Connection(sock)
        with sock:
            try:
                while self._serve_one(connection):
                    pass
            except HttpError as error:
                connection.answer(error.status, f"{error}\n".encode(), keep=False)
            except ConnectionError:
                pass  # the client has gone

    def _serve_one(self, connection: Connection) -> bool:
        """Answer one request; whether another may follow."""
        request = connection.head()
        if request is None:
            return False
        method, path, headers = request
        body = connection.body(headers.get("content-length", "0"))
        with self._lock:
            self._visits += 1
        keep = headers.get("connection", "keep-alive").lower() != "close"
        status, page = self._page(method, path, body)
        connection.answer(status, page.encode(), keep)
        return keep

    def _page(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        page = self._pages.get((method, path))
        if page is None:
            known = any(path == other for _, other in self._pages)
            return (405, "not that way\n") if known else (404, "no such page\n")
        try:
            return 200, page(body)
        except (ValueError, TypeError) as error:
            return 400, f"{type(error).__name__}\n"


# -- the clients


def visit(address: tuple[str, int], *requests: tuple[str, str, bytes | None]) -> list[str]:
    """Ask for pages, one after the other, over one connection; in an OS thread."""
    client = http.client.HTTPConnection(*address, timeout=10)
    try:
        return [ask(client, *request) for request in requests]
    finally:
        client.close()


def ask(client: http.client.HTTPConnection, method: str, path: str, body: bytes | None) -> str:
    client.request(method, path, body)
    response = client.getresponse()
    return f"{method} {path}: {response.status} {response.read().decode().strip()}"


async def main() -> None:
    service = Service()
    kernel = lkl_start_kernel(service.init, loglevel=0)
    service.ready = Completion(kernel)
    pool = ThreadPoolExecutor()

    def in_thread(*requests: tuple[str, str, bytes | None]) -> Any:
        return asyncio.get_running_loop().run_in_executor(pool, visit, service.address, *requests)

    async with running(kernel) as k:
        await k.wait(service.ready)
        print("one client, one connection:")
        pages = [("GET", "/", None), ("POST", "/sum", b"[1, 2, 39]"), ("POST", "/sum", b"{"), ("GET", "/sleep", None)]
        pages += [("GET", "/await", None), ("PUT", "/", b""), ("GET", "/nowhere", None), ("GET", "/visits", None)]
        for line in await in_thread(*pages):
            print(f"  {line}")
        print("three clients who meet, and one who is in a hurry:")
        meeting = [in_thread(("GET", "/meet", None)) for _ in range(2)]
        print(f"  {(await in_thread(('GET', '/', None)))[0]}")
        print(f"  so far, {sum(client.done() for client in meeting)} of the others are done")
        for (line,) in await asyncio.gather(*meeting, in_thread(("GET", "/meet", None))):
            print(f"  {line}")
        await k.halt()
    pool.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
