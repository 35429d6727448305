"""The file layer under many schedules: whoever runs first, bytes, elements and events all arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from users import nr_files

from lkl_green.fs.pipe import create_pipe_files
from lkl_green.kernel.unistd import EFD_SEMAPHORE
from lkl_green.linux import (
    EPOLL_CTL_ADD,
    EPOLLET,
    EPOLLIN,
    EPOLLONESHOT,
    O_NONBLOCK,
    EpollEvent,
    EventFd,
    EventPoll,
    KFifo,
    do_poll,
    socketpair,
)
from lkl_green.testing import explore, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lkl_green.testing import Spawned


def join(threads: Iterable[Spawned]) -> None:
    for thread in threads:
        thread.join()


def two_writers_and_two_readers_of_a_small_pipe() -> None:
    r, w = create_pipe_files(size=4096)
    received: list[bytes] = []

    def writer(letter: bytes) -> None:
        assert w.write(letter * 3000) == 3000

    def reader() -> None:
        while data := r.read(1500):
            received.append(data)

    writers = [spawn(writer, letter) for letter in (b"x", b"y")]
    readers = [spawn(reader) for _ in range(2)]
    join(writers)
    w.close()
    join(readers)
    r.close()
    text = b"".join(received)
    assert (text.count(b"x"), text.count(b"y")) == (3000, 3000)


def a_fifo_with_one_place() -> None:
    fifo: KFifo[tuple[str, int]] = KFifo(1)
    got: list[tuple[str, int]] = []

    def putter(name: str) -> None:
        for number in range(2):
            fifo.put((name, number))

    def getter() -> None:
        got.extend(fifo)

    putters = [spawn(putter, name) for name in "ab"]
    getters = [spawn(getter) for _ in range(2)]
    join(putters)
    fifo.close()
    join(getters)
    assert sorted(got) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def _clients() -> tuple[list, list[Spawned]]:
    """Two sockets, to each of which somebody writes twice and then says goodbye."""

    def client(end) -> None:
        for _ in range(2):
            end.write(b"1")
        end.close()

    pairs = [socketpair(O_NONBLOCK) for _ in range(2)]
    return [ours for ours, _ in pairs], [spawn(client, theirs) for _, theirs in pairs]


def an_edge_triggered_server() -> None:
    epoll = EventPoll()
    ends, clients = _clients()
    for end in ends:
        epoll.ctl(EPOLL_CTL_ADD, end, EpollEvent(EPOLLIN | EPOLLET, end))
    total = 0
    while len(epoll):
        for event in epoll.wait():
            try:
                while data := event.data.read(10):
                    total += len(data)
                event.data.close()
            except BlockingIOError:
                continue
    epoll.close()
    join(clients)
    assert total == 4


def a_poll_server() -> None:
    ends, clients = _clients()
    total = 0
    while ends:
        for end, events in zip(list(ends), do_poll([(end, EPOLLIN) for end in ends]), strict=True):
            if events:
                data = end.read(10)
                total += len(data)
                if not data:
                    ends.remove(end)
                    end.close()
    join(clients)
    assert total == 4


def three_who_wait_for_a_semaphore() -> None:
    event = EventFd(0, EFD_SEMAPHORE)
    waiters = [spawn(event.read, 8) for _ in range(3)]
    signallers = [spawn(event.signal, number) for number in (2, 1)]
    join([*waiters, *signallers])
    assert event.count == 0
    event.close()


def two_servers_at_one_epoll() -> None:
    epoll = EventPoll()
    events = [EventFd(0, O_NONBLOCK) for _ in range(2)]
    for event in events:
        epoll.ctl(EPOLL_CTL_ADD, event, EpollEvent(EPOLLIN | EPOLLONESHOT, event))

    def server() -> None:
        (event,) = epoll.wait(1)
        event.data.read(8)

    join([*(spawn(server) for _ in events), *(spawn(event.signal) for event in events)])
    for file in (epoll, *events):
        file.close()


STORIES = [
    two_writers_and_two_readers_of_a_small_pipe,
    a_fifo_with_one_place,
    an_edge_triggered_server,
    a_poll_server,
    three_who_wait_for_a_semaphore,
    two_servers_at_one_epoll,
]


@pytest.mark.parametrize("policy", ["random", "pos"])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_in_every_schedule(story: Callable[[], None], policy: str) -> None:
    def test() -> None:
        story()
        assert nr_files() == 0

    report = explore(test, schedules=400, policy=policy, seed=1)
    assert report.passed, report.text()
    assert report.schedules == 400
