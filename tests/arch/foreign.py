"""An OS thread of the application that the kernel does not know until it makes a system call."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green import Kernel

PATIENCE_S = 10.0
# A thread that calls without a pause keeps the kernel from ever being idle.
SLICE = 100


class ForeignThread:
    """Calls what it is told to, one thing after the other; the kernel is run only while a test waits for it."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._work: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._done = threading.Event()
        self._result: Any = None
        self._os_thread = threading.Thread(target=self._main, daemon=True)
        self._os_thread.start()

    def _main(self) -> None:
        while (fn := self._work.get()) is not None:
            try:
                self._result = fn()
            except BaseException as error:
                self._result = error
            self._done.set()

    def start(self, fn: Callable[..., Any], *args: Any) -> None:
        """Let it call `fn(*args)` and do not wait."""
        self._done.clear()
        self._work.put(lambda: fn(*args))

    @property
    def busy(self) -> bool:
        """Whether it has not come back from its last call."""
        return not self._done.is_set()

    def result(self) -> Any:
        """Run the kernel until the call is over; its result, or its exception raised here."""
        for _ in range(int(PATIENCE_S * 1000)):
            if self._done.wait(0.001):
                break
            if not self._kernel.halted:
                self._kernel.lkl_run(max_switches=SLICE)
        assert not self.busy, "the call never returned"
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Let it call `fn(*args)`, and run the kernel until that is over."""
        self.start(fn, *args)
        return self.result()

    def syscall(self, nr: int, *params: Any) -> Any:
        """Let it make a system call."""
        return self.call(self._kernel.lkl_syscall, nr, *params)

    def end(self) -> None:
        """Let it end, without running the kernel."""
        self._work.put(None)
        self._os_thread.join(PATIENCE_S)
        assert not self._os_thread.is_alive()


def run_until(kernel: Kernel, condition: Callable[[], object]) -> None:
    """Run the kernel until something is so."""
    for _ in range(int(PATIENCE_S * 1000)):
        if condition():
            return
        kernel.lkl_run(max_switches=SLICE)
        threading.Event().wait(0.001)
    raise AssertionError("it did not come to this")
