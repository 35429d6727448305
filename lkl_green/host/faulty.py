"""A host on which a chosen call fails, to test what nobody sees otherwise: running out of memory or threads.

    host = FaultyHost(GreenletHost(), "sem_alloc", 3)      # the third sem_alloc gives None
    host = FaultyHost(GreenletHost(), {"sem_alloc": 3, "thread_create": 1})
    host = FaultyHost(GreenletHost(), lambda operation: ...)     # ask each time

A test that wants every failure first counts: it runs the scenario with `n=0`, which fails nothing, reads `calls`, and
then runs it once for each operation and each `n` up to its count.
"""

# ruff: noqa: D102 - HostOps describes the operations.

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from lkl_green.host.ops import HostOps

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from lkl_green.host.ops import HostMutex, HostSemaphore, HostTimer, JmpBuf, LiveObjects, TlsKey
    from lkl_green.host.poller import Poller

# The operations that can fail, in the order of HostOps.
CAN_FAIL = (
    "sem_alloc",
    "mutex_alloc",
    "thread_create",
    "tls_alloc",
    "tls_set",
    "mem_alloc",
    "timer_alloc",
    "timer_set_oneshot",
)


class FaultyHost(HostOps):
    """Wraps a host and makes the n-th call of an operation fail, the way that operation reports failure.

    Args:
        host: the host that does the work.
        operation: the operation that fails; a mapping of operations to the number of the call that fails; or a function
            that is given the operation at each call and says whether this one does.
        n: which call fails, from 1; 0: none.

    Attributes:
        calls: how often each operation that can fail was called.
    """

    def __init__(self, host: HostOps, operation: str | Mapping[str, int] | Callable[[str], bool], n: int = 0) -> None:
        self._host = host
        self._decide: Callable[[str], bool] | None = None
        self._fails_at: dict[str, int] = {}
        if isinstance(operation, str):
            self._fails_at = {operation: n}
        elif isinstance(operation, Mapping):
            self._fails_at = dict(operation)
        else:
            self._decide = operation
        for name, number in self._fails_at.items():
            _check(name, number)
        self.calls: Counter[str] = Counter()
        self.foreign_threads_run_kernel = host.foreign_threads_run_kernel

    def _fails(self, operation: str) -> bool:
        self.calls[operation] += 1
        if self._decide is not None:
            return self._decide(operation)
        return self.calls[operation] == self._fails_at.get(operation, 0)

    @property
    def on_interrupt(self) -> Callable[[BaseException], None] | None:
        """That of the wrapped host, which calls it."""
        return self._host.on_interrupt

    @on_interrupt.setter
    def on_interrupt(self, hook: Callable[[BaseException], None] | None) -> None:
        self._host.on_interrupt = hook

    @property
    def on_exception(self) -> Callable[[Any, BaseException], None] | None:
        """That of the wrapped host, which calls it."""
        return self._host.on_exception

    @on_exception.setter
    def on_exception(self, hook: Callable[[Any, BaseException], None] | None) -> None:
        self._host.on_exception = hook

    # -- what can fail

    def sem_alloc(self, count: int) -> HostSemaphore | None:
        return None if self._fails("sem_alloc") else self._host.sem_alloc(count)

    def mutex_alloc(self, recursive: bool) -> HostMutex | None:
        return None if self._fails("mutex_alloc") else self._host.mutex_alloc(recursive)

    def thread_create(self, fn: Callable[[Any], object], arg: Any) -> int:
        return 0 if self._fails("thread_create") else self._host.thread_create(fn, arg)

    def tls_alloc(self, destructor: Callable[[Any], None] | None = None) -> TlsKey | None:
        return None if self._fails("tls_alloc") else self._host.tls_alloc(destructor)

    def tls_set(self, key: TlsKey, data: Any) -> int:
        return -1 if self._fails("tls_set") else self._host.tls_set(key, data)

    def mem_alloc(self, size: int) -> bytearray | None:
        return None if self._fails("mem_alloc") else self._host.mem_alloc(size)

    def timer_alloc(self, fn: Callable[[Any], None], arg: Any) -> HostTimer | None:
        return None if self._fails("timer_alloc") else self._host.timer_alloc(fn, arg)

    def timer_set_oneshot(self, timer: HostTimer, delta_ns: int) -> int:
        return -1 if self._fails("timer_set_oneshot") else self._host.timer_set_oneshot(timer, delta_ns)

    # -- what cannot

    def sem_free(self, sem: HostSemaphore) -> None:
        self._host.sem_free(sem)

    def sem_up(self, sem: HostSemaphore) -> None:
        self._host.sem_up(sem)

    def sem_down(self, sem: HostSemaphore) -> None:
        self._host.sem_down(sem)

    def mutex_free(self, mutex: HostMutex) -> None:
        self._host.mutex_free(mutex)

    def mutex_lock(self, mutex: HostMutex) -> None:
        self._host.mutex_lock(mutex)

    def mutex_unlock(self, mutex: HostMutex) -> None:
        self._host.mutex_unlock(mutex)

    def thread_detach(self) -> None:
        self._host.thread_detach()

    def thread_exit(self) -> NoReturn:
        self._host.thread_exit()

    def thread_join(self, tid: int) -> int:
        return self._host.thread_join(tid)

    def thread_self(self) -> int:
        return self._host.thread_self()

    def thread_equal(self, a: int, b: int) -> bool:
        return self._host.thread_equal(a, b)

    def thread_stack(self, tid: int) -> FrameType | None:
        return self._host.thread_stack(tid)

    def gettid(self) -> int:
        return self._host.gettid()

    def tls_free(self, key: TlsKey) -> None:
        self._host.tls_free(key)

    def tls_get(self, key: TlsKey) -> Any:
        return self._host.tls_get(key)

    def jmp_buf_set(self, jmp_buf: JmpBuf, fn: Callable[[], object]) -> int:
        return self._host.jmp_buf_set(jmp_buf, fn)

    def jmp_buf_longjmp(self, jmp_buf: JmpBuf, value: int) -> NoReturn:
        self._host.jmp_buf_longjmp(jmp_buf, value)

    def mem_free(self, mem: bytearray) -> None:
        self._host.mem_free(mem)

    def time(self) -> int:
        return self._host.time()

    def timer_free(self, timer: HostTimer) -> None:
        self._host.timer_free(timer)

    def print(self, text: str) -> None:
        self._host.print(text)

    def panic(self) -> NoReturn:
        self._host.panic()

    def idle_sleep(self, timeout_ns: int | None) -> None:
        self._host.idle_sleep(timeout_ns)

    def idle_wake(self) -> None:
        self._host.idle_wake()

    def poller(self) -> Poller:
        self.made_poller = self._host.poller()
        return self.made_poller

    def host_init(self) -> None:
        self._host.host_init()

    def host_cleanup(self) -> None:
        self._host.host_cleanup()
        self.made_poller = None

    def live(self) -> LiveObjects:
        return self._host.live()


def _check(operation: str, n: int) -> None:
    if operation not in CAN_FAIL:
        raise ValueError(f"{operation!r} is no host operation that can fail. These can: {', '.join(CAN_FAIL)}")
    if n < 0:
        raise ValueError(f"{operation}: n is {n}. Calls are counted from 1; 0 fails none")
