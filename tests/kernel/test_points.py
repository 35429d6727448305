"""The table of scheduling points: all that is announced stands in it, and what looks at a lock is announced."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from lkl_green.errors import KernelBug, LockMisuse
from lkl_green.kernel.points import (
    AFTER,
    AWAIT,
    CALLBACK,
    CANCEL,
    COMMUTES,
    GIVES,
    POINTS,
    RESUME,
    TAKES,
    YIELD,
    Effect,
    Kind,
)
from lkl_green.linux import Mutex, Semaphore, SpinLock, WaitQueueHead, current_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lkl_green"
# Also the benchmarks: they have locks of their own.
SOURCES = [*PACKAGE.rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def announced(path: Path) -> Iterator[tuple[str, ast.expr]]:
    """The first argument of each call in a file that announces a scheduling point, with its place.

    An argument called `kind` is what a function `_announce(kind)` was given; its callers are here, too.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args and name_of(node.func) in ("listener", "_announce"):
            place = f"{path.relative_to(ROOT)}:{node.lineno}"
            first = node.args[0]
            if isinstance(first, ast.IfExp):
                yield place, first.body
                yield place, first.orelse
            elif not (isinstance(first, ast.Name) and first.id == "kind"):
                yield place, first


# But for `_announce(task)` of signals: it is given the object, and has the kind in it.
SITES = [
    (place, argument.value)
    for path in SOURCES
    for place, argument in announced(path)
    if isinstance(argument, ast.Constant) or not place.startswith("lkl_green/kernel/signal")
]


def test_every_announcing_site_takes_its_kind_from_the_table() -> None:
    assert len(SITES) > 70
    assert [(place, kind) for place, kind in SITES if kind not in POINTS] == []


def test_every_kind_in_the_table_is_announced_somewhere() -> None:
    never = set(POINTS) - {kind for _, kind in SITES}
    # What a task, or a loop, is about to do that has announced nothing.
    assert never == {AFTER, RESUME, YIELD, AWAIT, CALLBACK, CANCEL}


def test_the_type_and_the_table_name_the_same_kinds() -> None:
    assert set(get_args(Kind)) == set(POINTS)


def test_each_row_has_one_effect_and_a_reason() -> None:
    assert {point.effect for point in POINTS.values()} == set(get_args(Effect))
    assert all(point.why for point in POINTS.values())
    assert not COMMUTES & (TAKES | GIVES)


def test_a_kind_has_the_effect_that_its_old_name_has() -> None:
    other = [(kind, old) for kind, row in POINTS.items() for old in row.was if POINTS[old].effect != row.effect]
    assert other == [("wait_event", "wait")]  # the reason for the new name


def test_a_misspelt_kind_is_refused() -> None:
    with pytest.raises(KernelBug, match=r"'lokc' was announced to .* and is not a kind"):
        POINTS["lokc"]


# -- what is announced, in each configuration


@pytest.fixture
def points(run):
    """points(fn): the kinds that `fn()` announces when a kernel thread calls it."""

    def points(fn):
        kinds = []

        def init():
            sched = current_kernel().sched
            sched.listener = lambda kind, obj: kinds.append(kind)
            try:
                fn()
            finally:
                sched.listener = None

        run(init)
        return kinds

    return points


def test_looking_at_a_mutex_reads_it(points):
    def init():
        mutex = Mutex()
        assert not mutex.is_locked()
        with mutex:
            assert mutex.is_locked()

    assert points(init) == ["read", "lock", "read", "unlock"]


def test_a_spin_lock_that_is_tried_is_announced_whether_it_is_free_or_not(points):
    def init():
        lock = SpinLock()
        assert lock.trylock()
        assert not lock.trylock()
        lock.unlock()
        with pytest.raises(LockMisuse):
            lock.unlock()

    assert points(init) == ["spin_trylock", "spin_trylock", "spin_unlock", "spin_unlock"]


def test_a_semaphore_that_is_tried_is_not_one_that_may_sleep(points):
    def init():
        semaphore = Semaphore(4)
        semaphore.down()
        semaphore.down_interruptible()
        semaphore.down_killable()
        semaphore.down_timeout(1)
        assert not semaphore.down_trylock()
        semaphore.up()

    assert points(init) == ["down", "down", "down", "down", "down_trylock", "up"]


def test_an_exclusive_wait_is_served_in_order_of_arrival_and_says_so(points):
    def init():
        queue = WaitQueueHead()
        queue.wait_event(lambda: True)
        queue.wait_event(lambda: True, exclusive=True)

    assert points(init) == ["wait_event", "wait"]
