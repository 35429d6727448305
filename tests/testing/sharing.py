"""Tests to explore that other processes can import."""

from __future__ import annotations

import os
import threading
import time

from lkl_green.testing import Shared, random, spawn


def count(increments: int) -> int:
    """Two tasks count without a lock: how far they get."""
    counter = Shared(0, "counter")

    def add() -> None:
        for _ in range(increments):
            counter.value += 1

    for thread in [spawn(add), spawn(add)]:
        thread.join()
    return counter.peek()


def passes() -> None:
    assert 1 <= count(1) <= 2


def fails_often() -> None:
    assert count(1) == 2


def fails_rarely() -> None:
    """Each task reads before the other one's last write: about one schedule in a thousand."""
    assert count(4) != 2


def fails_by_chance() -> None:
    assert random.randrange(300) != 0


def takes_long() -> None:
    time.sleep(0.02)


def kills_its_process() -> None:
    if random.randrange(100) == 0:
        os._exit(7)


def raises_what_cannot_be_pickled() -> None:
    class Odd(Exception):
        pass

    if count(1) == 1:
        raise Odd


def deadlocks() -> None:
    """Two locks in two orders, with `threading`."""
    left, right = threading.Lock(), threading.Lock()

    def embrace(first: threading.Lock, second: threading.Lock) -> None:
        with first, second:
            pass

    threads = [threading.Thread(target=embrace, args=pair) for pair in ((left, right), (right, left))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
