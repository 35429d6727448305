"""cachetools 4.1.1: two callers of one cached function may get different objects, of which the cache keeps one."""

from __future__ import annotations

import threading

import cachetools


class Session:
    """Something of which there should be one for each user."""


def test_one_session_for_each_user() -> None:
    @cachetools.cached(cache=cachetools.LRUCache(maxsize=8), lock=threading.Lock())
    def session(user: str) -> Session:
        return Session()

    got = []

    def log_in() -> None:
        got.append(session("ada"))

    threads = [threading.Thread(target=log_in, name=name) for name in ("laptop", "phone")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] is got[1], "ada has two sessions, and the cache knows one of them"
