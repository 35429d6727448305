"""The columns that are kernels: one program in several configurations."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from time import perf_counter_ns, thread_time_ns
from typing import TYPE_CHECKING, Any

from lkl_green import GreenletHost, HostOps, Kernel, ThreadHost, lkl_start_kernel

if TYPE_CHECKING:
    from collections.abc import Callable


def _pinned_host() -> HostOps:
    """OS threads that all run on one CPU, where the system can do that."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return ThreadHost(cpu=min(cpus) if cpus else None)


@dataclass(frozen=True)
class Configuration:
    """A way to run the kernel.

    Attributes:
        name: the column's name.
        host: makes the host operations; each kernel gets its own.
        switch: "direct" or "semaphore".
        share: each row does its number of operations divided by this.
        has_os_threads: whether each task is an OS thread, of which nobody wants 100,000.
        now_ns: the clock to measure with: CPU time where everything happens on one OS thread.
    """

    name: str
    host: Callable[[], HostOps]
    switch: str
    share: int
    has_os_threads: bool
    now_ns: Callable[[], int]

    def start(self, init: Callable[..., Any] | None = None, **options: Any) -> Kernel:
        """Boot a kernel; whoever asks for it halts it."""
        return lkl_start_kernel(init, host=self.host(), switch=self.switch, **{"loglevel": 0, **options})

    def run(self, init: Callable[[], Any], **options: Any) -> Any:
        """Run a kernel from boot to halt; what `init` returns."""
        with self.start(init, **options) as kernel:
            return kernel.run()


CONFIGURATIONS = {
    configuration.name: configuration
    for configuration in (
        Configuration("direct", GreenletHost, "direct", share=1, has_os_threads=False, now_ns=thread_time_ns),
        Configuration("hosted", GreenletHost, "semaphore", share=5, has_os_threads=False, now_ns=thread_time_ns),
        Configuration("pthreads", ThreadHost, "semaphore", share=50, has_os_threads=True, now_ns=perf_counter_ns),
        Configuration(
            "pthreads/1cpu", _pinned_host, "semaphore", share=50, has_os_threads=True, now_ns=perf_counter_ns
        ),
    )
}


def configuration_name(name: str) -> str:
    """A configuration's name on the command line. Raises ArgumentTypeError for its former name."""
    if name.partition("/")[0] == "threads":
        raise argparse.ArgumentTypeError(f"{name!r}: kernel threads that are OS threads are called 'p{name}' now")
    return name
