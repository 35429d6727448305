"""The HTTP service of the examples, driven by real HTTP clients and by bad ones."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from lkl_green.embed import running
from lkl_green.linux import Completion

EXAMPLE = Path(__file__).parents[2] / "examples" / "24_http_service.py"
PATIENCE_S = 20


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("http_service", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.fixture
def drive(example, boot):
    """drive(clients): run the service inside asyncio, and `clients(address)` in an OS thread; what that returns."""

    async def in_asyncio(clients):
        service = example.Service()
        kernel = boot(service.init, clock="monotonic")
        service.ready = Completion(kernel)
        async with running(kernel) as k:
            await k.wait(service.ready)
            result = await asyncio.wait_for(asyncio.to_thread(clients, service.address), PATIENCE_S)
            await k.halt()
        return result

    return lambda clients: asyncio.run(in_asyncio(clients))


def url(address, path):
    return f"http://{address[0]}:{address[1]}{path}"


def test_urllib(drive):
    def clients(address):
        with urllib.request.urlopen(url(address, "/"), timeout=PATIENCE_S) as answer:
            page = answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404") as caught:
            urllib.request.urlopen(url(address, "/nowhere"), timeout=PATIENCE_S)
        with caught.value as error:
            return page, error.read()

    assert drive(clients) == (b"hello from a kernel thread\n", b"no such page\n")


def test_httpx(drive):
    httpx = pytest.importorskip("httpx", reason="httpx is in the dependency group 'test'")

    def clients(address):
        with httpx.Client(base_url=url(address, ""), timeout=PATIENCE_S, trust_env=False) as client:
            answers = [client.post("/sum", json=list(range(n))) for n in range(50)]
            return [int(answer.text) for answer in answers], client.get("/await").text

    assert drive(clients) == ([sum(range(n)) for n in range(50)], "awaited in the event loop\n")


def test_many_clients_at_once(drive, example):
    def clients(address):
        results = []
        threads = [
            threading.Thread(target=lambda: results.extend(example.visit(address, *[("GET", "/sleep", None)] * 10)))
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        return results

    assert drive(clients) == ["GET /sleep: 200 slept for a millisecond"] * 200


def test_a_large_body_in_small_pieces(drive):
    body = b"[" + b"1," * 100_000 + b"1]"

    def clients(address):
        with socket.create_connection(address, timeout=PATIENCE_S) as client:
            client.sendall(b"POST /sum HTTP/1.1\r\nContent-Length: %d\r\n" % len(body))
            client.sendall(b"Connection: close\r\n\r\n")
            for begin in range(0, len(body), 10_000):
                client.sendall(body[begin : begin + 10_000])
            return client.makefile("rb").read()

    assert drive(clients).endswith(b"\r\n\r\n100001\n")


def test_two_requests_in_one_packet(drive):
    def clients(address):
        with socket.create_connection(address, timeout=PATIENCE_S) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\nGET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n")
            return client.makefile("rb").read()

    answers = drive(clients)
    assert answers.count(b"HTTP/1.1 200 OK") == answers.count(b"HTTP/1.1 404 Not Found") == 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / SPDY/3\r\n\r\n", 400),
        (b"POST /sum HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST /sum HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 4000, 413),
        (b"POST /sum HTTP/1.1\r\nContent-Length: 5\r\n\r\nnull\n", 400),
    ],
)
def test_bad_requests_get_an_answer(drive, request_, status):
    def clients(address):
        with socket.create_connection(address, timeout=PATIENCE_S) as client:
            client.sendall(request_)
            client.shutdown(socket.SHUT_WR)
            response = http.client.HTTPResponse(client)
            response.begin()
            response.read()
            return response.status

    assert drive(clients) == status


def test_clients_that_hang_up_in_the_middle_harm_nobody(drive, example):
    def clients(address):
        for part in (b"", b"GET", b"POST /sum HTTP/1.1\r\nContent-Length: 100\r\n\r\n1", b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(address, timeout=PATIENCE_S) as client:
                client.sendall(part)
        return example.visit(address, ("GET", "/", None))

    assert drive(clients) == ["GET /: 200 hello from a kernel thread"]
