"""What belongs to one host thread: the values of thread-local keys, and where it may jump back to."""

# ruff: noqa: D102 - HostOps describes the operations.

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from lkl_green.errors import HostMisuse, HostThreadExit, LongJump
from lkl_green.host.objects import HostThread, JumpPoint, TlsKey, freed_twice, used_after_free
from lkl_green.host.services import HostServices

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.host.ops import JmpBuf

# POSIX: PTHREAD_DESTRUCTOR_ITERATIONS, for destructors that set a value again.
DESTRUCTOR_ROUNDS = 4

ThreadT = TypeVar("ThreadT", bound=HostThread)
ThingT = TypeVar("ThingT")


def allocate(registry: dict[ThingT, None], make: Callable[[], ThingT]) -> ThingT | None:
    """Make a thing and enter it into the registry; None if the memory gives out."""
    try:
        thing = make()
        registry[thing] = None
    except MemoryError:
        return None
    return thing


class ThreadLocals(HostServices, Generic[ThreadT]):
    """The part of a host that needs to know nothing of threads but which one calls."""

    # What ends a host thread without a report.
    _quiet_exits: tuple[type[BaseException], ...] = (HostThreadExit,)

    def __init__(self, console: Callable[[str], object] | None = None) -> None:
        super().__init__(console)
        # A dict for its order: destructors must not run in another one from run to run.
        self._keys: dict[TlsKey, None] = {}

    @abstractmethod
    def _current(self) -> ThreadT:
        """The calling thread's record; an unknown caller is adopted."""

    # -- thread-local storage

    def tls_alloc(self, destructor: Callable[[Any], None] | None = None) -> TlsKey | None:
        return allocate(self._keys, lambda: TlsKey(destructor))

    def tls_free(self, key: TlsKey) -> None:
        if key.freed:
            raise freed_twice("tls_free", "TLS key")
        key.freed = True
        key.values.clear()
        del self._keys[key]

    def tls_set(self, key: TlsKey, data: Any) -> int:
        if key.freed:
            raise used_after_free("tls_set", "TLS key")
        try:
            key.values[self._current()] = data
        except MemoryError:
            return -1
        return 0

    def tls_get(self, key: TlsKey) -> Any:
        if key.freed:
            raise used_after_free("tls_get", "TLS key")
        return key.values.get(self._current())

    def _run_destructors(self, thread: ThreadT) -> None:
        for _ in range(DESTRUCTOR_ROUNDS):
            ran = [self._run_destructor(key, thread) for key in list(self._keys)]
            if not any(ran):
                break
        for key in list(self._keys):
            key.values.pop(thread, None)

    def _run_destructor(self, key: TlsKey, thread: ThreadT) -> bool:
        if key.destructor is None or key.freed or key.values.get(thread) is None:
            return False
        value = key.values.pop(thread)
        try:
            key.destructor(value)
        except self._quiet_exits:
            pass
        except BaseException:
            self._report_exception(f"a TLS destructor of host thread {thread.tid} failed")
        return True

    # -- jump buffers

    def jmp_buf_set(self, jmp_buf: JmpBuf, fn: Callable[[], object]) -> int:
        point = JumpPoint(self._current())
        jmp_buf.token = point
        try:
            fn()
        except LongJump as jump:
            if jump.jmp_buf is not point:
                raise
            return jump.value
        finally:
            point.valid = False
        return 0

    def jmp_buf_longjmp(self, jmp_buf: JmpBuf, value: int) -> NoReturn:
        point = jmp_buf.token
        if not isinstance(point, JumpPoint) or not point.valid:
            raise HostMisuse(
                "jmp_buf_longjmp: no jmp_buf_set() with this buffer is under way: it was never called, or its function "
                "has returned. Jump only from within that function"
            )
        if point.thread is not self._current():
            raise HostMisuse(
                f"jmp_buf_longjmp: the buffer was set in host thread {point.thread.tid}, and a thread cannot jump into "
                "the stack of another. Jump in the thread that called jmp_buf_set()"
            )
        raise LongJump(point, value or 1)
