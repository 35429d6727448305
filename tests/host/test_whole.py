"""A signal handler raises where CPython 3.14 lets it: between a lock and the block of its `with`."""

from __future__ import annotations

import signal
import threading
from _thread import RLock, interrupt_main
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.host.whole import WholeLock, whole_lock

if TYPE_CHECKING:
    from collections.abc import Iterator


class Interrupt(Exception):
    pass


@pytest.fixture
def struck() -> Iterator[Any]:
    """Has a signal come, whose handler raises as soon as CPython looks."""

    def handle(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, handle)
    yield partial(interrupt_main, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def free_for_others(lock: Any) -> bool:
    got = []
    other = threading.Thread(target=lambda: got.append(lock.acquire(blocking=False)))
    other.start()
    other.join(5)
    return got == [True]


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_exception_as_the_lock_is_taken_leaves_it_free(struck: Any, when: str) -> None:
    class Struck(WholeLock):
        def acquire(self, *args: Any, **kwargs: Any) -> bool:
            mine = threading.current_thread() is threading.main_thread()
            if mine and when == "before":
                struck()
            got = RLock.acquire(self, *args, **kwargs)
            if mine:
                struck()
            return got

    lock = Struck()
    with pytest.raises(Interrupt), lock:
        pytest.fail("the block was entered")
    assert free_for_others(lock)


def test_an_exception_in_the_block_leaves_it_free(struck: Any) -> None:
    lock = WholeLock()
    with pytest.raises(Interrupt), lock:
        struck()
    assert free_for_others(lock)


def test_others_wait_while_a_block_runs() -> None:
    lock = whole_lock()
    with lock:
        assert not free_for_others(lock)
    assert free_for_others(lock)


def test_a_signal_at_the_entry_of_a_block_leaves_nothing_taken(struck: Any) -> None:
    """What the interpreter does with a lock of its own: if this fails, `whole_lock()` needs another version in it."""
    taken = []

    class Native:
        __enter__ = staticmethod(struck)  # C, as a lock's is

        def __exit__(self, *_: object) -> None:
            taken.append("given back")

    with pytest.raises(Interrupt), Native():
        len("")
    assert taken == ([] if type(whole_lock()) is WholeLock else ["given back"])
