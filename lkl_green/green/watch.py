"""What blocks beyond the reach of the replacements: a native lock that was not found, a C extension that waits.

Such a call stops the kernel, and no exception that is raised in the thread is seen before it returns. A signal is: it
ends the call, and its handler may raise. So an OS thread looks whether scheduling points pass. If none did for a while,
and the thread used no CPU time either, it waits. Then the watch sends SIGURG, which few programs use and the system
ignores by default, and the handler raises `BlockedCall` in the kernel thread that is stuck. Python runs signal handlers
in the process's main thread only; a kernel of another OS thread is told to its console, which is all that can be done.
A thread that spins is told to the kernel's watchdog, which ends it. One that computes is left to the watchdog's own,
longer limit.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

from lkl_green.errors import BlockedCall
from lkl_green.green.spin import Looks
from lkl_green.host import native
from lkl_green.host.stacks import os_thread_frame
from lkl_green.kernel.printk import KERN_EMERG
from lkl_green.kernel.stacktext import kernel_code_line, own_code_frame

if TYPE_CHECKING:
    from types import FrameType

    from lkl_green.kernel.kernel import Kernel

SIGNAL = getattr(signal, "SIGURG", None)


# Between two looks, in s, if the limit leaves room for four.
_LOOK_S = 0.2
_FEWEST = 4
# A thread that uses less of the CPU than this share waits.
_BUSY = 0.1


class _Still:
    """A kernel thread that has passed no scheduling point since this was made.

    Attributes:
        ident: the OS thread it runs on.
        looks: how many times it was looked at.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.ident = kernel.arch.os_thread_of(kernel.sched.current)
        self.looks = 0
        self._began_s = native.monotonic()
        self._cpu_s = native.cpu_time_s(self.ident)
        self._frames = Looks()

    def look(self) -> None:
        """Look at it once more."""
        self.looks += 1
        self._frames.look(os_thread_frame(self.ident))

    def waits(self) -> bool:
        """Whether it is in a call that blocks. Without a clock for CPU time every thread seems to be."""
        return self._cpu_share() < _BUSY

    def spins(self) -> bool:
        """Whether it runs and does not get on."""
        return self._frames.spins and self._cpu_share() >= _BUSY

    def _cpu_share(self) -> float:
        return (native.cpu_time_s(self.ident) - self._cpu_s) / max(native.monotonic() - self._began_s, 1e-9)


class Watch:
    """Watches the kernels of the OS thread that makes this.

    Args:
        kernel: the first kernel; None if there is none yet.
        limit_s: how long a kernel thread may wait without a scheduling point.

    Attributes:
        kernel: the kernel of the moment.
    """

    def __init__(self, kernel: Kernel | None, limit_s: float) -> None:
        self.kernel = kernel
        self._limit_s = limit_s
        self._owner = native.get_ident()
        self._stop = native.allocate_lock()
        self._stop.acquire()
        self._stopped = native.allocate_lock()
        self._stopped.acquire()
        self._text = ""
        self._handler: Any = None
        self._can_raise = False

    def start(self) -> None:
        """Begin."""
        native.start_new_thread(self._serve, ())  # first, so that nothing has to be undone if it fails
        if SIGNAL is not None and self._owner == threading.main_thread().ident:
            self._handler = signal.getsignal(SIGNAL)
            if self._handler is signal.SIG_DFL:
                signal.signal(SIGNAL, self._raise)
                self._can_raise = True

    def stop(self) -> None:
        """End."""
        self._stop.release()
        self._stopped.acquire()
        if self._can_raise and SIGNAL is not None:
            signal.signal(SIGNAL, self._handler)

    def _serve(self) -> None:
        """In an OS thread of its own."""
        seen: tuple[int, ...] | None = None
        period_s = min(_LOOK_S, self._limit_s / _FEWEST)
        still: _Still | None = None
        while not self._stop.acquire(timeout=period_s):
            kernel = self.kernel
            if kernel is None or kernel.halted or kernel.sched.current is kernel.sched.swapper:
                still = None
                continue
            now = id(kernel), *kernel.progress.activity()
            if still is None or now != seen:
                seen, still = now, _Still(kernel)
            still.look()
            if still.looks >= _FEWEST and still.spins():
                kernel.watchdog.bark(int(still.looks * period_s * 1e9))
            elif still.looks * period_s > self._limit_s and still.waits():
                self._tell(kernel, still.ident)
            else:
                continue
            still = None
        self._stopped.release()

    def _tell(self, kernel: Kernel, ident: int) -> None:
        task = kernel.sched.current
        where = _program_line(os_thread_frame(ident))
        self._text = (
            f"kernel thread {task.comm}-{task.pid} has not reached a scheduling point for {self._limit_s:g} s, at "
            f"{where}: it waits for something outside the kernel, such as a lock that was made before green_threads() "
            "and is held where it could not be replaced; make the lock inside"
        )
        if self._can_raise and SIGNAL is not None:
            signal.pthread_kill(self._owner, SIGNAL)
        else:
            kernel.printk.printk(self._text, KERN_EMERG)

    def _raise(self, _signal: int, _frame: FrameType | None) -> None:
        text, self._text = self._text, ""
        kernel = self.kernel
        if text and kernel is not None and kernel.sched.current is not kernel.sched.swapper:
            raise BlockedCall(text)


def advise(kernel: Kernel) -> None:
    """Have the kernel's watchdog say what to do in the words of `threading`."""
    kernel.watchdog.advice = (
        "a thread that spins never lets the others run here: wait for an Event or a Condition, or sleep in the loop"
    )
    kernel.watchdog.advice_on_calls = (
        "it waits for something outside the kernel, where nothing else can run: use locks and queues that were made "
        "inside, and time.sleep()"
    )


def _program_line(frame: FrameType | None) -> str:
    """Where the program is: the innermost line outside this package and the standard library's threading."""
    return kernel_code_line(own_code_frame(frame, (threading.__file__,)) or frame)
