"""Random programs in an event loop: whatever is called, cancelled and halted in whatever order, all of it ends."""

from __future__ import annotations

import gc
import os
import random
import warnings
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lkl_green import KernelHalted
from lkl_green.embed import await_
from lkl_green.errors import AwaitCancelled
from lkl_green.linux import Completion, Mutex, msleep, schedule

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lkl_green.embed import Embedded
    from tests.embed.conftest import Kernels

pytestmark = pytest.mark.anyio

_PROGRAMS = int(os.environ.get("LKL_GREEN_EXAMPLES", "100"))

# What cancelled, killed and halted work may raise in whoever waits for it.
_EXPECTED = (KernelHalted, AwaitCancelled, TimeoutError)


class Boom(Exception):
    """An error of the program."""


class Storm:
    """One program.

    Args:
        seed: of what it does.
        k: the kernel.
    """

    def __init__(self, seed: int, k: Embedded) -> None:
        self.chance = random.Random(seed)
        self.k = k
        self.mutex = Mutex(k.kernel)
        self.completion = Completion(k.kernel)
        self.open = 0

    # -- in kernel threads

    def thread(self, depth: int) -> Callable[[], object]:
        """A plain function."""
        kinds = ["sleep", "yield", "mutex", "await", "await_error", "nested", "error"]
        steps = [self.chance.choice(kinds) for _ in range(self.chance.randint(1, 3))]
        delays = [self.chance.choice((0, 1, 3)) for _ in steps]
        inner = self.coroutine(depth - 1) if depth else None

        def run() -> None:
            self.open += 1
            try:
                for step, delay in zip(steps, delays, strict=True):
                    self._do(step, delay, inner)
            finally:
                self.open -= 1

        return run

    def _do(self, step: str, delay: int, inner: Callable[[], Awaitable[object]] | None) -> None:
        if step == "sleep":
            msleep(delay)
        elif step == "yield":
            schedule()
        elif step == "mutex":
            with self.mutex:
                msleep(delay)
        elif step == "await":
            await_(anyio.sleep(delay / 1000))
        elif step == "await_error":
            with pytest.raises(Boom):
                await_(self.fails())
        elif step == "nested" and inner is not None:
            await_(inner())
        elif step == "error":
            raise Boom

    def coroutine(self, depth: int) -> Callable[[], Awaitable[object]]:
        """A coroutine function, for a kernel thread or for the loop."""
        kinds = ["sleep", "scope", "shield", "group", "nested"]
        steps = [self.chance.choice(kinds) for _ in range(self.chance.randint(1, 3))]
        delays = [self.chance.choice((0, 1, 3)) / 1000 for _ in steps]
        inner = self.thread(depth - 1) if depth > 0 else None

        async def run() -> None:
            self.open += 1
            try:
                for step, delay in zip(steps, delays, strict=True):
                    await self._await(step, delay, inner)
            finally:
                try:
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(0)
                finally:  # asyncio's own cancellation knows no shields
                    self.open -= 1

        return run

    async def _await(self, step: str, delay: float, inner: Callable[[], object] | None) -> None:
        if step == "sleep":
            await anyio.sleep(delay)
        elif step == "scope":
            with anyio.move_on_after(delay):
                await anyio.sleep(0.002)
        elif step == "shield":
            with anyio.CancelScope(shield=True):
                await anyio.sleep(delay)
        elif step == "group":
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, delay)
        elif inner is not None:
            await self.k.call(inner)

    async def fails(self) -> None:
        await anyio.sleep(0)
        raise Boom

    # -- in the loop

    async def work(self, steps: list[tuple[str, float, Any]]) -> None:
        """A task."""
        for step, delay, what in steps:
            try:
                with anyio.move_on_after(delay):
                    await self._step(step, what)
            except (*_EXPECTED, Boom):
                continue

    async def _step(self, step: str, what: Any) -> None:
        k = self.k
        if step == "call":
            await k.call(what)
        elif step == "spawn":
            thread = k.spawn(quiet(what))
            await thread.join()
        elif step == "cancel":
            thread = k.spawn(quiet(what))
            await anyio.sleep(0.001)
            await thread.cancel()
        elif step == "system call":
            await k.sys.nanosleep(500_000)
        elif step == "wait":
            await k.wait(self.completion)
        else:
            self.completion.complete()

    def plan(self) -> list[list[tuple[str, float, Any]]]:
        """What each task does."""
        kinds = ["call", "call", "call", "spawn", "cancel", "system call", "wait", "complete"]
        delays = (0.0005, 0.002, 0.02)
        return [
            [(self.chance.choice(kinds), self.chance.choice(delays), self.work_for_kernel()) for _ in range(4)]
            for _ in range(self.chance.randint(2, 5))
        ]

    def work_for_kernel(self) -> Callable[[], object]:
        """A function of either kind."""
        depth = self.chance.randint(0, 2)
        return self.thread(depth) if self.chance.random() < 0.5 else self.coroutine(depth)


def quiet(work: Callable[[], Any]) -> Callable[[], object]:
    """The same without errors, which would be an oops in a thread that is not called."""

    def run() -> None:
        try:
            result = work()
            if result is not None:
                await_(result)
        except (Boom, *_EXPECTED):
            pass

    return run


async def one(kernels: Kernels, seed: int) -> None:
    """Run a program to its end; it may end by itself, by an error, or by a halt.

    Panics are left out: what an `async def` thread does then in its clean-up runs outside of its task.
    """
    end = random.Random(-seed).choice(["", "", "", "halt", "error"])
    storm = None
    try:
        async with kernels.running() as k:
            storm = Storm(seed, k)
            plan = storm.plan()
            async with anyio.create_task_group() as group:
                for steps in plan:
                    group.start_soon(storm.work, steps)
                if end:
                    await anyio.sleep(0.002)
                    if end == "halt":
                        await k.halt()
                    else:
                        raise LookupError
                else:
                    for _ in range(20):
                        storm.completion.complete()
    except BaseException as error:
        left = list(flat(error))
        assert all(isinstance(each, LookupError | KernelHalted) for each in left), (seed, left)
    assert storm is not None
    assert storm.open == 0, f"seed {seed}: something has not ended"


def flat(error: BaseException) -> Any:
    """The errors in a group, and in groups in it."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from flat(each)
    else:
        yield error


@pytest.mark.parametrize("part", range(4))
async def test_whatever_comes_all_of_it_ends(kernels: Kernels, part: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(part, _PROGRAMS, 4):
            await one(kernels, seed)
    gc.collect()
