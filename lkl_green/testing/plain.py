"""What can be explored: a plain function. Whatever would only make a coroutine or a generator tests nothing."""

from __future__ import annotations

from lkl_green.errors import NotATest
from lkl_green.kernel.callback import not_plain


def check_plain(test: object) -> None:
    """Raises NotATest for what is no plain callable: calling it would run nothing of it."""
    if not callable(test):
        raise NotATest(f"{test!r} cannot be called; a test is a function that schedules are explored of")
    if getattr(test, "is_hypothesis_test", False):
        raise NotATest(
            f"{getattr(test, '__qualname__', test)!s} draws its examples itself, others in each schedule, so that no "
            "schedule could be run again. Put @given above @schedules(...), or call explore() in the test: then the "
            "schedules of each example are explored"
        )
    kind = not_plain(test)
    if kind is not None:
        raise NotATest(
            f"{getattr(test, '__qualname__', test)!s} is {kind}: calling it would run nothing of it. A test whose "
            "schedules are explored is a plain function, run as a kernel thread; asynchronous code can be started "
            "inside it with asyncio.run(), with threads=True"
        )
