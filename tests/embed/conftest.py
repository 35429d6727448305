"""Fixtures: a kernel inside each event loop, with nothing left behind."""

from __future__ import annotations

import gc
import importlib.util
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from greenlet import greenlet

from lkl_green import Kernel, lkl_start_kernel
from lkl_green.embed import running
from lkl_green.host.ops import LiveObjects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from lkl_green.embed import Embedded

LOOPS = [pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")]
if importlib.util.find_spec("uvloop"):
    LOOPS.append(pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"))
if importlib.util.find_spec("trio"):
    LOOPS.append(pytest.param(("trio", {}), id="trio"))

LIMIT_S = 20


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Each event loop; a test that is marked `anyio` runs in all of them."""
    return request.param


def descriptors() -> set[str]:
    """The open descriptors of this process, with what they are, where the system tells."""
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return set()
    found = set()
    for number in numbers:
        try:
            found.add(f"{number}: {os.readlink(f'/proc/self/fd/{number}')}")
        except OSError:  # the descriptor of the listing itself
            continue
    return found


def suspended_greenlets() -> list[greenlet]:
    """Greenlets that are in the middle of something."""
    return [thing for thing in gc.get_objects() if isinstance(thing, greenlet) and thing.gr_frame is not None]


class Kernels:
    """The kernels of a test."""

    def __init__(self) -> None:
        self.started: list[Kernel] = []

    def start(self, init: Callable[..., Any] | None = None, *args: Any, **options: Any) -> Kernel:
        """Start a kernel of the real time in the `direct` configuration, if nothing else is said."""
        kernel = lkl_start_kernel(init, *args, **{"loglevel": 0, **options})
        self.started.append(kernel)
        return kernel

    @asynccontextmanager
    async def running(self, kernel: Kernel | None = None, **options: Any) -> AsyncIterator[Embedded]:
        """`running()`, for a limited time."""
        with anyio.fail_after(LIMIT_S):
            async with running(self.start() if kernel is None else kernel, **options) as k:
                yield k


@pytest.fixture
def kernels() -> Iterator[Kernels]:
    """Starts kernels; after the test they have halted, and neither greenlets nor descriptors are left."""
    before = len(suspended_greenlets())
    kernels = Kernels()
    yield kernels
    for kernel in kernels.started:
        assert kernel.halted, "the block is over, and its kernel has not halted"
        assert kernel.embedding is None
        assert kernel.host.live() == LiveObjects(), "the halted kernel left host objects behind"
    given_up = sum(len(kernel.reboot.abandoned) for kernel in kernels.started)
    if len(suspended_greenlets()) > before + given_up:
        gc.collect()
        assert len(suspended_greenlets()) <= before + given_up, "greenlets are left in the middle of something"
