"""The host operations: all that the kernel asks of the machine it runs on.

The names, the split and the results are LKL's (`struct lkl_host_operations`): an allocation that fails gives None, a
thread that cannot be created gives 0, `thread_join` gives -1. LKL reports misuse by undefined behaviour; here every
implementation raises the same `HostMisuse` for it, so that a program that runs on one host does not fail on another.

Two rules hold for every implementation:

1. `sem_up` marks a waiter runnable and never switches to it. LKL calls `sem_up` with `cpu.lock` held; a host that
   switched there would deadlock on that lock.
2. `sem_down` cannot be interrupted. An exception that a signal handler raises meanwhile is raised once the semaphore
   has been obtained, never instead of it; otherwise two kernel threads could run at the same time.

LKL has no operation for sleeping in idle, because its idle loop waits for the LKL CPU. Here idle belongs to the
application (`pause()`), so that `idle_sleep` and `idle_wake` are added, after UML's `os_idle_sleep`, and `poller` for
an idle that is ended by host descriptors, too; and `live` counts what is allocated, so that tests can prove that
nothing leaks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from lkl_green.errors import HostMisuse

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from lkl_green.host.poller import Poller

# A host object is opaque to its user: only the host that made it looks inside.
HostSemaphore = Any
HostMutex = Any
TlsKey = Any
HostTimer = Any


class JmpBuf:
    """A jump buffer: the point in a host thread to which `jmp_buf_longjmp` returns.

    Copying one (`copy.copy`) is allowed and means the same point, as copying LKL's struct does (reference 5.1).
    """

    __slots__ = ("token",)

    def __init__(self) -> None:
        self.token: object | None = None


@dataclass(frozen=True)
class LiveObjects:
    """How many host objects are allocated at this moment."""

    semaphores: int = 0
    mutexes: int = 0
    threads: int = 0
    tls_keys: int = 0
    timers: int = 0
    memory: int = 0
    descriptors: int = 0


class HostOps(ABC):
    """One method per LKL host operation.

    Attributes:
        foreign_threads_run_kernel: whether an OS thread that this host did not create may block in its operations, and
            so run kernel code on its own stack. If not, it can only post requests.
        on_interrupt: called at once with an exception that a signal handler raised while a host thread slept in
            `sem_down`; whoever sets it owns the exception. Without it, the exception is raised when the sleep is over.
        on_exception: called with the argument of a host thread's function and with the exception, in that thread, when
            an exception left the function or came before its first line. Without it, the exception is reported.
        made_poller: what `poller()` made; None until somebody asks for it.
        doorbell: called when something comes for the kernel from outside; from any OS thread and from signal handlers.
            A kernel that boots sets it to `idle_wake`. A loop that runs the kernel sets it to what wakes that loop.
    """

    foreign_threads_run_kernel: bool = False
    on_interrupt: Callable[[BaseException], None] | None = None
    on_exception: Callable[[Any, BaseException], None] | None = None
    made_poller: Poller | None = None
    doorbell: Callable[[], object]

    # -- semaphores

    @abstractmethod
    def sem_alloc(self, count: int) -> HostSemaphore | None:
        """Allocate a semaphore with an initial count; None if there is no memory for it."""

    @abstractmethod
    def sem_free(self, sem: HostSemaphore) -> None:
        """Free a semaphore. Raises HostMisuse if somebody waits on it or it was freed before."""

    @abstractmethod
    def sem_up(self, sem: HostSemaphore) -> None:
        """Increment, or make the longest waiter runnable. Never blocks and never switches."""

    @abstractmethod
    def sem_down(self, sem: HostSemaphore) -> None:
        """Decrement, or block until somebody ups. Not interruptible."""

    # -- mutexes

    @abstractmethod
    def mutex_alloc(self, recursive: bool) -> HostMutex | None:
        """Allocate a mutex; None if there is no memory for it."""

    @abstractmethod
    def mutex_free(self, mutex: HostMutex) -> None:
        """Free a mutex. Raises HostMisuse if it is held or waited for."""

    @abstractmethod
    def mutex_lock(self, mutex: HostMutex) -> None:
        """Lock. Raises HostMisuse if the caller holds a non-recursive one already."""

    @abstractmethod
    def mutex_unlock(self, mutex: HostMutex) -> None:
        """Unlock. Raises HostMisuse if the caller does not hold it."""

    # -- threads

    @abstractmethod
    def thread_create(self, fn: Callable[[Any], object], arg: Any) -> int:
        """Start a host thread that calls `fn(arg)`; its tid, or 0 if it could not be created.

        The new thread inherits a copy of the creator's context variables.
        """

    @abstractmethod
    def thread_detach(self) -> None:
        """Detach the calling thread: nobody will join it."""

    @abstractmethod
    def thread_exit(self) -> NoReturn:
        """End the calling thread, running its `finally` blocks (raises HostThreadExit)."""

    @abstractmethod
    def thread_join(self, tid: int) -> int:
        """Wait until a thread has ended; 0.

        Raises HostMisuse for a tid of 0, for the caller itself, for a tid that does not exist, was joined or detached.
        """

    @abstractmethod
    def thread_self(self) -> int:
        """The calling thread's tid; never 0. A thread that this host did not create is adopted."""

    @abstractmethod
    def thread_equal(self, a: int, b: int) -> bool:
        """Whether two tids are the same thread."""

    @abstractmethod
    def thread_stack(self, tid: int) -> FrameType | None:
        """The innermost Python frame of a thread that is blocked, or of a running one of another OS thread.

        LKL's gives base and size of the calling thread's stack, which Python does not have.
        """

    @abstractmethod
    def gettid(self) -> int:
        """A number for the calling thread, never 0, that need not equal its tid."""

    # -- thread-local storage

    @abstractmethod
    def tls_alloc(self, destructor: Callable[[Any], None] | None = None) -> TlsKey | None:
        """Allocate a key; None if there is no memory for it.

        When a thread ends with a value other than None under the key, `destructor(value)` runs in that thread. This
        holds for adopted threads, too.
        """

    @abstractmethod
    def tls_free(self, key: TlsKey) -> None:
        """Free a key; no destructor runs for it any more."""

    @abstractmethod
    def tls_set(self, key: TlsKey, data: Any) -> int:
        """Set the calling thread's value; 0, or -1 if there is no memory for it."""

    @abstractmethod
    def tls_get(self, key: TlsKey) -> Any:
        """The calling thread's value; None if it was never set."""

    # -- jump buffers

    @abstractmethod
    def jmp_buf_set(self, jmp_buf: JmpBuf, fn: Callable[[], object]) -> int:
        """Call `fn()` with a jump-back point; the value given to `jmp_buf_longjmp`, or 0 if `fn` returned.

        The function is passed in, and `jmp_buf_set` does not return before the jump, because a point in a frame that
        has returned would not be valid.
        """

    @abstractmethod
    def jmp_buf_longjmp(self, jmp_buf: JmpBuf, value: int) -> NoReturn:
        """Return to the jump-back point; a value of 0 becomes 1. Raises HostMisuse without a point in this thread."""

    # -- memory

    @abstractmethod
    def mem_alloc(self, size: int) -> bytearray | None:
        """Allocate `size` bytes; None if there is no memory for them."""

    @abstractmethod
    def mem_free(self, mem: bytearray) -> None:
        """Free what `mem_alloc` gave."""

    # -- time

    @abstractmethod
    def time(self) -> int:
        """Monotonic time in ns."""

    @abstractmethod
    def timer_alloc(self, fn: Callable[[Any], None], arg: Any) -> HostTimer | None:
        """Allocate a one-shot timer whose `fn(arg)` runs in some other OS thread; None if there is no memory for it."""

    @abstractmethod
    def timer_set_oneshot(self, timer: HostTimer, delta_ns: int) -> int:
        """Arm, or arm anew, for `delta_ns` from now; 0, or nonzero on error. 0 ns means at once."""

    @abstractmethod
    def timer_free(self, timer: HostTimer) -> None:
        """Disarm and free. Waits for a callback under way, unless called by that callback."""

    # -- console

    @abstractmethod
    def print(self, text: str) -> None:
        """Write console output."""

    @abstractmethod
    def panic(self) -> NoReturn:
        """Give up (raises HostPanic). LKL's may return, and then its caller goes on with cpu.lock held (rule 24a)."""

    # -- not LKL's: idle, life cycle, accounting

    @abstractmethod
    def idle_sleep(self, timeout_ns: int | None) -> None:
        """Put the calling OS thread to sleep until `idle_wake`, or for `timeout_ns` (None: no limit).

        A wake-up that came before is not lost: the next sleep returns at once. One sleeper at a time.
        """

    @abstractmethod
    def idle_wake(self) -> None:
        """End the sleep in `idle_sleep`. From any OS thread and from signal handlers; takes no lock."""

    def poller(self) -> Poller:
        """What watches host descriptors, made on first use; from then on `idle_sleep` and `idle_wake` go through it.

        Raises:
            HostMisuse: no kernel uses this host, or it cannot watch descriptors.
            OSError: EMFILE, ENFILE, ENOMEM: the host gives out.
        """
        raise HostMisuse(f"poller: a {type(self).__name__} cannot watch descriptors. Override poller() to have it")

    @abstractmethod
    def host_init(self) -> None:
        """A kernel starts: the calling OS thread becomes the owner. Called before any other operation."""

    @abstractmethod
    def host_cleanup(self) -> None:
        """The kernel has halted: give back what `host_init` took. Another `host_init` may follow."""

    @abstractmethod
    def live(self) -> LiveObjects:
        """Count what is allocated."""
