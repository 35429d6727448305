"""Native locks that a program made earlier are exchanged wherever it keeps them, and put back."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.green import green_threads
from lkl_green.green.lock import Lock, RLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NATIVE = (type(threading.Lock()), type(threading.RLock()))


def reveal(*locks: Any) -> tuple[Any, ...]:
    return locks


IN_A_PARTIAL = functools.partial(reveal, threading.RLock(), (threading.Lock(),))
IN_A_TUPLE = (threading.Lock(), (threading.RLock(),))


def with_lock(function: Callable[..., Any]) -> Callable[..., Any]:
    lock = threading.RLock()

    @functools.wraps(function)
    def wrapper(*_args: Any) -> Any:
        return lock

    return wrapper


def generator() -> Iterator[Any]:
    lock = threading.Lock()

    def locks() -> Iterator[Any]:
        while True:
            yield lock

    return locks()


class Gauge:
    @property
    @with_lock
    def value(self) -> Any:
        """The lock of its getter."""

    @functools.cached_property
    def computed(self) -> Any:
        """CPython 3.11 has a lock for this."""


GAUGE = Gauge()
NOT_BEGUN = generator()
BEGUN = generator()
next(BEGUN)


def lock_of_cached_property() -> Any:
    return getattr(vars(Gauge)["computed"], "lock", None)


PLACES: dict[str, Callable[[], Any]] = {
    "the arguments of a partial": lambda: IN_A_PARTIAL()[0],
    "a tuple in the arguments of a partial": lambda: IN_A_PARTIAL()[1][0],
    "a tuple": lambda: IN_A_TUPLE[0],
    "a tuple in a tuple": lambda: IN_A_TUPLE[1][0],
    "the closure of a property": lambda: GAUGE.value,
    "the closure of a generator that has begun": lambda: next(BEGUN),
    "the closure of a generator that has not begun": lambda: next(NOT_BEGUN),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_lock_is_exchanged_and_put_back(place: str) -> None:
    native_lock = PLACES[place]()
    assert type(native_lock) in NATIVE
    with green_threads():
        assert type(PLACES[place]()) in (Lock, RLock)
    assert PLACES[place]() is native_lock


@pytest.mark.skipif(lock_of_cached_property() is None, reason="from CPython 3.12 on cached_property has no lock")
def test_the_lock_of_cached_property_is_exchanged_and_put_back() -> None:
    native_lock = lock_of_cached_property()
    with green_threads():
        assert type(lock_of_cached_property()) is RLock
        assert type(functools.cached_property(len).lock) is RLock
    assert lock_of_cached_property() is native_lock
