"""A threading program from its beginning to its end: what the interpreter does around a main thread."""

from __future__ import annotations

import concurrent.futures.thread
from typing import TYPE_CHECKING, Any

from lkl_green import lkl_start_kernel
from lkl_green.errors import KernelPanic
from lkl_green.green.patch import green_threads
from lkl_green.green.pools import workers
from lkl_green.green.thread import Handle, current_handle, threads_of
from lkl_green.kernel.current import current_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.kernel import Kernel

futures: Any = concurrent.futures.thread


def run_threads(main: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run a function that uses threads, in a kernel of its own; what it returns.

    Args:
        main: the program's main thread.
        args: its arguments.
        options: of `lkl_start_kernel()`, where the clock is virtual unless they say otherwise, and `watch_s` of
            `green_threads()`.

    Raises:
        Deadlock: with who holds what and who waits for it.
        KernelPanic: the watchdog ended a thread that never let the others run.
        Exception: whatever leaves `main`, as in plain Python.
    """
    watch_s = options.pop("watch_s", 5.0)
    kernel = lkl_start_kernel(as_main(main), *args, **{"clock": "virtual", "loglevel": 0, **options})
    with green_threads(kernel, watch_s, roots=[main, *args]):
        try:
            return kernel.run()
        except KernelPanic as panic:
            error = panic.__cause__
            if not isinstance(error, Exception):
                raise
    raise error  # out here, where the panic does not become its context


def as_main(main: Callable[..., Any]) -> Callable[..., Any]:
    """`main` as the function of pid 1: at its end, other threads are waited for, daemons excepted."""

    def run(*args: Any) -> Any:
        try:
            return main(*args)
        finally:
            finish_threads()

    return run


def finish_threads() -> None:
    """Wait for all threads that are no daemons, as the interpreter does at exit (threading._shutdown)."""
    kernel = current_kernel()
    if kernel.sched.current.killed:
        return
    was_shut = futures._shutdown
    pools = [pool for _, pool, _ in workers(kernel) if pool is not None and not pool._shutdown]
    try:
        _end_idle_workers(kernel)
        _join_all(kernel)
    finally:
        futures._shutdown = was_shut  # the next kernel may have pools, too
        for pool in pools:
            pool._shutdown = False


def take_down_daemons(kernel: Kernel) -> None:
    """End the threads that are left, where they are. The interpreter stops them; here they are unwound, too."""
    me = current_handle()
    for task in list(kernel.pids):
        if type(task.kthread) is Handle and task.kthread is not me:
            kernel.exits.take_down(task)


def _join_all(kernel: Kernel) -> None:
    me = current_handle()
    while True:
        waited_for = [
            thread for thread in threads_of(kernel) if not thread.daemon and thread.__dict__["_green"] is not me
        ]
        if not waited_for:
            return
        for thread in waited_for:
            thread.join()


def _end_idle_workers(kernel: Kernel) -> None:
    """Tell the idle workers of thread pools to end (concurrent.futures.thread._python_exit)."""
    for _, _, work_queue in workers(kernel):
        futures._shutdown = True
        work_queue.put(None)
