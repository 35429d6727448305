"""Fixtures: a kernel in each of the three configurations, and a log in which tests tell their story."""

from __future__ import annotations

import gc
import signal
import time
from typing import TYPE_CHECKING, Any

import hypothesis  # noqa: F401 - before the heap is frozen: it looks for references by the collector
import pytest

from lkl_green import Kernel, format_trace, lkl_start_kernel
from lkl_green.host.ops import LiveObjects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "direct": {"host": "greenlet", "switch": "direct"},
    "hosted": {"host": "greenlet", "switch": "semaphore"},
    "pthreads": {"host": "thread", "switch": "semaphore"},
}


PATIENCE_S = 10


def pytest_configure() -> None:
    """Take SIGINT and SIGQUIT, here and in programs that tests start: a shell makes its background jobs ignore them."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> None:
    """Take what exists by now out of the collector's sight.

    Many tests look through all objects for what they have left behind. In a run of the whole suite most objects belong
    to pytest and to modules, and looking through them took half of the time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], bool]:
    """eventually(condition): whether it comes true. An OS thread, for one, ends a little after it was last heard of."""

    def eventually(condition: Callable[[], bool]) -> bool:
        end_s = time.monotonic() + PATIENCE_S
        while not condition() and time.monotonic() < end_s:
            time.sleep(0.001)
        return condition()

    return eventually


@pytest.fixture(params=CONFIGURATIONS)
def configuration(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Arguments of lkl_start_kernel() for one of the configurations; a test that uses it runs in all three."""
    return dict(CONFIGURATIONS[request.param])


@pytest.fixture
def boot(configuration: dict[str, Any]) -> Iterator[Callable[..., Kernel]]:
    """boot(init, *args, **options): a kernel under virtual time, halted and checked for leaks after the test."""
    kernels: list[Kernel] = []

    def boot(init: Callable[..., Any] | None = None, *args: Any, **options: Any) -> Kernel:
        arguments = {"clock": "virtual", "loglevel": 0, **configuration, **options}
        kernel = lkl_start_kernel(init, *args, **arguments)
        kernels.append(kernel)
        return kernel

    yield boot
    for kernel in kernels:
        kernel.lkl_sys_halt()
        assert kernel.host.live() == LiveObjects(), "the halted kernel left host objects behind"


@pytest.fixture
def kernel(boot: Callable[..., Kernel]) -> Kernel:
    """A kernel without init that stays up until the test is over."""
    return boot()


@pytest.fixture
def run(boot: Callable[..., Kernel]) -> Callable[..., Any]:
    """run(init, *args, **options): boot, run to power-off, and return what init returned."""

    def run(init: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return boot(init, *args, **options).run()

    return run


@pytest.fixture
def log() -> list[Any]:
    """Where a test's threads write what they do, in order."""
    return []


def traces_of(init: Callable[..., Any], *args: Any, **options: Any) -> dict[str, str]:
    """Run one program in all configurations; the ftrace text of each."""
    traces = {}
    for name, configuration in CONFIGURATIONS.items():
        arguments = {"clock": "virtual", "loglevel": 0, "trace": True, **configuration, **options}
        kernel = lkl_start_kernel(init, *args, **arguments)
        try:
            kernel.run()
        finally:
            kernel.lkl_sys_halt()
        assert kernel.sched.trace is not None
        traces[name] = format_trace(kernel.sched.trace.records)
    return traces


@pytest.fixture
def parity() -> Callable[..., str]:
    """parity(init, *args): assert that all configurations give the same trace; that trace."""

    def parity(init: Callable[..., Any], *args: Any, **options: Any) -> str:
        traces = traces_of(init, *args, **options)
        for name, text in traces.items():
            assert text.splitlines() == traces["direct"].splitlines(), f"{name} differs from direct"
        return traces["direct"]

    return parity
