"""pykka 4.2.0: two threads get() a future that has its value, and one of them may wait for ever."""

from __future__ import annotations

import threading

import pykka


def test_two_readers_of_one_future() -> None:
    future: pykka.Future[str] = pykka.ThreadingFuture()
    got = []

    def read() -> None:
        got.append(future.get())

    readers = [threading.Thread(target=read, name=name) for name in ("alice", "bob")]
    future.set("ready")
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert got == ["ready", "ready"]
