"""What several programs need: joining threads, arrays, and a condition variable of kernel primitives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.kernel.current import current_kernel
from lkl_green.linux import TASK_UNINTERRUPTIBLE, Semaphore, Task, set_current_state
from lkl_green.testing import Shared

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lkl_green.testing import Spawned


def join(tasks: Iterable[Spawned]) -> None:
    """Wait for all of them, in order."""
    for task in tasks:
        task.join()


def array(name: str, values: Iterable[Any]) -> list[Shared[Any]]:
    """An array whose every element is a variable of its own."""
    return [Shared(value, f"{name}[{index}]") for index, value in enumerate(values)]


class Mutex:
    """pthread_mutex_t: whoever comes first after it was unlocked has it.

    The kernel's own mutex is handed over to the longest waiter. That makes threads that contend for it take turns, and
    hides bugs that these programs have.

    Args:
        name: what schedules call it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._sched = current_kernel().sched
        self._held = False
        self._waiters: list[Task] = []

    def lock(self) -> None:
        """Lock, sleeping while it is taken."""
        sched = self._sched
        self._announce("lock")
        while self._held:
            self._waiters.append(sched.current)
            set_current_state(TASK_UNINTERRUPTIBLE)
            sched.schedule()
            self._announce("lock")
        self._held = True

    def unlock(self) -> None:
        """Unlock, and let all that wait try again."""
        self._announce("unlock")
        self._held = False
        waiters, self._waiters = self._waiters, []
        for task in waiters:
            self._sched.try_to_wake_up(task)

    def _announce(self, kind: str) -> None:
        if self._sched.listener is not None:
            self._sched.listener(kind, self)

    def __enter__(self) -> None:
        self.lock()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.unlock()


class Condition:
    """pthread_cond_t: `wait()` and `signal()` are called with the mutex held.

    Args:
        mutex: it.
        name: what schedules call it.
    """

    def __init__(self, mutex: Mutex, name: str) -> None:
        self._mutex = mutex
        self._waiters = 0
        self._signals = Semaphore(0, name=name)

    def wait(self) -> None:
        """Give the mutex back, sleep until there is a signal, and take it again."""
        self._waiters += 1
        self._mutex.unlock()
        self._signals.down()
        self._mutex.lock()

    def signal(self) -> None:
        """Wake one, if there is one."""
        if self._waiters:
            self._waiters -= 1
            self._signals.up()
