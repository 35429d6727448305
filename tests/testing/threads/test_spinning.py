"""A loop that waits for another thread and passes no scheduling point is told soon; a slow computation is none."""

from __future__ import annotations

import re
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from greenlet import getcurrent, greenlet

from lkl_green.errors import KernelPanic
from lkl_green.green import run_threads
from lkl_green.green.spin import Looks
from lkl_green.kernel.stacktext import task_frames
from lkl_green.testing import explore
from lkl_green.testing.run import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable


def spin() -> None:
    flag: list[int] = []
    threading.Timer(1, flag.append, args=(1,)).start()
    while not flag:
        pass


def test_a_loop_that_spins_is_told_by_line_and_in_the_words_of_threading() -> None:
    failure = explore(spin, threads=True, policy="fifo").failure
    assert failure is not None
    assert failure.verdict is Verdict.HUNG
    assert re.search("in spin: (while not flag:|pass)", failure.error)
    assert "a thread that spins never lets the others run here: wait for an Event" in failure.error


@pytest.mark.parametrize("options", [{}, {"switch": "semaphore"}, {"host": "thread"}], ids=str)
def test_it_is_told_under_run_threads(options: dict[str, Any]) -> None:
    with pytest.raises(KernelPanic, match=r"in spin: (while not flag:|pass)"):
        run_threads(spin, watch_s=0.4, **options)


# -- looks at a thread: each program yields where it is looked at


class Box:
    def __init__(self) -> None:
        self.done = False
        self.count = 0

    def is_done(self) -> bool:
        self.looked_at()
        return self.done

    def looked_at(self) -> None:
        """Where the looks come from."""


def a_loop_that_asks_an_object(box: Box) -> None:
    while not box.is_done():
        pass


def a_loop_that_counts(box: Box) -> None:
    for _number in range(100):
        box.is_done()


def a_loop_that_takes_from_a_list(box: Box) -> None:
    todo = [0] * 100
    while todo:
        todo.pop()
        box.is_done()


def a_loop_that_changes_an_attribute(box: Box) -> None:
    while True:
        box.count += 1
        box.is_done()


def a_recursion(box: Box, depth: int = 0) -> None:
    box.is_done()
    a_recursion(box, depth + 1)


def a_function_that_is_mapped(box: Box) -> None:
    def work(_number: int) -> None:
        box.is_done()

    list(map(work, range(100)))


MOVING = [
    a_loop_that_counts,
    a_loop_that_takes_from_a_list,
    a_loop_that_changes_an_attribute,
    a_recursion,
    a_function_that_is_mapped,
]


def spins(program: Callable[[Box], None]) -> bool:
    """What four looks at a program say, which runs in a stack of its own."""
    box, looks = Box(), Looks()
    looker = getcurrent()
    box.looked_at = lambda: looker.switch(sys._getframe(1))  # type: ignore[method-assign]
    looked_at = greenlet(program)
    for _ in range(4):
        looks.look(looked_at.switch(box))
    return looks.spins


@pytest.mark.parametrize("program", MOVING, ids=lambda program: program.__name__)
def test_a_computation_moves(program: Callable[[Box], None]) -> None:
    assert not spins(program)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="a look of this test is at a call, which may be one of C here")
def test_a_loop_that_asks_an_object_does_not_move() -> None:
    assert spins(a_loop_that_asks_an_object)


def test_looks_that_find_no_code_of_the_program_say_nothing() -> None:
    looks = Looks()
    for _ in range(4):
        looks.look(task_frames(sys._getframe()).gi_frame)  # type: ignore[attr-defined]
    assert not looks.spins
