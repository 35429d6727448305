"""Threads and futures that are made in a kernel hash to numbers, not to addresses.

The standard library keeps both in sets, and iterates over these: a pool joins its threads in the order of their hashes;
`wait()` and `as_completed()` lock their futures in this order. Programs do the same. Numbers make the order the same in
each run, in a schedule and in `run_threads()` alike. Threads and futures that were made outside of kernels keep their
hashes.
"""

from __future__ import annotations

import threading
from concurrent.futures import _base as futures_base
from typing import TYPE_CHECKING, Any

from lkl_green.kernel.current import running_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ORDINAL = "_lkl_green_ordinal"


def table(count: Callable[[str, int], int]) -> Iterator[tuple[Any, str, Any]]:
    """(class or module, name, replacement).

    Args:
        count: the next number of a kind, from a first one on, in the present kernel.
    """
    for kind, owner in (("thread hash", threading.Thread), ("future hash", futures_base.Future)):
        yield owner, "__init__", _counting(owner, kind, count)
        yield owner, "__hash__", _hash
    yield futures_base, "id", hash  # by which _AcquireFutures sorts


def _counting(owner: Any, kind: str, count: Callable[[str, int], int]) -> Callable[..., None]:
    original: Callable[..., None] = owner.__init__

    def make(self: Any, *args: Any, **kwargs: Any) -> None:
        if running_here.kernel is not None:
            self.__dict__[_ORDINAL] = count(kind, 1)
        original(self, *args, **kwargs)

    return make


def _hash(self: Any) -> int:
    ordinal: int | None = self.__dict__.get(_ORDINAL)
    return object.__hash__(self) if ordinal is None else ordinal
