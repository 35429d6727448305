"""An open file (include/linux/fs.h, struct file): what is behind a descriptor number, and what kernel code uses as is.

A kind of file is a subclass that says five things: `_read`, `_write`, `poll`, `_ioctl`, `_release`. The public methods
around them check what can be checked for all kinds and announce the scheduling point.

*Sleeping.* Each file has one wait queue, `f_wq`. Whoever changes what `poll()` would say calls
`f_wq.wake_up_poll(mask)`, or `f_wq.wake_up()`, after the change. A subclass that has to wait calls
`wait_until(condition)`: it raises EAGAIN if the file is non-blocking, ends on signals, and ends if the file is closed
meanwhile.

*Scheduling points* are announced with the object that the operation changes or depends on, which for the ends of a
pipe is what is between them (`shared`). A read is a "receive": it changes the object, so two reads do not commute.

*References.* `f_count` counts descriptors and holders in kernel code; the last `close()` releases the file at once.
Dropped: a reference for the time of a system call, as Linux holds one. There, closing a file under a thread that reads
from it leaves the reader asleep for good; here the reader gets EBADF, which costs nothing and says what happened.

*Context.* `poll` must not sleep. `_release` may, as in Linux: `close()` is called by tasks, of which one that exits may
sleep, too. But kernel code that closes the last reference in an interrupt handler must know that this kind of file does
not sleep, and a file that is still open when the kernel has halted is released where nothing can sleep.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Self

from lkl_green.fs.waitqueue import FileWaitQueue
from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.nocopy import NoCopy
from lkl_green.kernel.signum import SIGPIPE
from lkl_green.kernel.task import TASK_INTERRUPTIBLE
from lkl_green.kernel.unistd import EPOLLHUP, EPOLLIN, EPOLLOUT, O_ACCMODE, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.points import Kind

    Buffer = bytes | bytearray | memoryview

MAX_WAITERS = 1 << 30
SETFL_MASK = O_NONBLOCK  # the flags that can be changed while a file is open


class File(NoCopy):
    """An open file.

    Args:
        flags: O_RDONLY, O_WRONLY or O_RDWR, and O_NONBLOCK.
        kernel: the kernel it belongs to; the current one if left out.
        name: shown in `repr` and deadlock reports.

    Attributes:
        f_flags: as given, and as changed by `set_flags()`.
        f_count: references to it; 0 once it is released.
        f_wq: where tasks sleep until its state changes.
    """

    __slots__ = ("__weakref__", "_kernel", "_sched", "f_count", "f_flags", "f_name", "f_wq")

    def __init__(self, flags: int = O_RDWR, kernel: Kernel | None = None, name: str = "") -> None:
        self._kernel = kernel = kernel if kernel is not None else current_kernel()
        self._sched = kernel.sched
        self.f_flags = flags
        self.f_count = 1
        self.f_name = name
        self.f_wq = FileWaitQueue(kernel, name)
        kernel.fs.file_opened(self)

    @property
    def name(self) -> str:
        """As given."""
        return self.f_name

    # -- what a kind of file says

    def _read(self, count: int) -> bytes:
        """Up to `count` bytes, at least one unless it is the end; `count` is positive. EINVAL if it cannot be read."""
        raise OSError(errno.EINVAL, f"{self!r} cannot be read")

    def _write(self, data: bytes | bytearray) -> int:
        """Write; how many bytes. EINVAL if it cannot be written."""
        raise OSError(errno.EINVAL, f"{self!r} cannot be written")

    def poll(self) -> int:
        """What would not block now: EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR, EPOLLRDHUP; never sleeps."""
        return EPOLLIN | EPOLLOUT

    def _ioctl(self, request: int, arg: Any) -> int:
        """Anything else; ENOTTY for what it does not know."""
        raise OSError(errno.ENOTTY, f"{self!r} knows no ioctl {request:#x}")

    def shared(self, kind: Kind) -> object:
        """The object of a scheduling point of this kind: what other files' operations on it have in common."""
        return self

    def _release(self) -> None:
        """The last reference has gone: give back what is behind it; may sleep."""

    # -- what everybody uses

    def read(self, count: int) -> bytes:
        """Read up to `count` bytes; b"" at the end (vfs_read()).

        Raises:
            BlockingIOError: EAGAIN, it would have to wait and is non-blocking.
            InterruptedError: EINTR, a signal came first.
            OSError: EBADF if it is closed or write-only, EINVAL for a negative count.
        """
        sched = self._sched
        if sched.listener is not None:
            sched.listener("receive", self.shared("receive"))
        if not self.f_count or self.f_flags & O_ACCMODE == O_WRONLY:
            raise self._bad("read from it")
        if count <= 0:
            if count:
                raise OSError(errno.EINVAL, f"read of {count} bytes")
            return b""
        return self._read(count)

    def write(self, data: Buffer) -> int:
        """Write; how many bytes were taken (vfs_write()).

        Raises:
            BlockingIOError: EAGAIN, it would have to wait and is non-blocking.
            InterruptedError: EINTR, a signal came before the first byte was written.
            BrokenPipeError: EPIPE, nobody will ever read it; a process gets SIGPIPE, too.
            OSError: EBADF if it is closed or read-only, EFAULT for what is not bytes.
        """
        sched = self._sched
        if sched.listener is not None:
            sched.listener("write", self.shared("write"))
        if not self.f_count or self.f_flags & O_ACCMODE == O_RDONLY:
            raise self._bad("write to it")
        if not isinstance(data, (bytes, bytearray)):
            if not isinstance(data, memoryview):
                raise OSError(errno.EFAULT, f"write() takes bytes, not {type(data).__name__}; encode text first")
            data = data.tobytes()
        written = self._write(data)
        if sched.after is not None:
            sched.after()
        return written

    def ioctl(self, request: int, arg: Any = None) -> int:
        """Whatever else this kind of file can do. Raises OSError: ENOTTY, EBADF."""
        if not self.f_count:
            raise self._bad("ioctl")
        return self._ioctl(request, arg)

    def set_flags(self, flags: int) -> None:
        """Change O_NONBLOCK; other bits are ignored (F_SETFL)."""
        self.f_flags = self.f_flags & ~SETFL_MASK | flags & SETFL_MASK

    # -- references

    def get(self) -> Self:
        """One more reference (get_file()). Raises OSError(EBADF) if it is closed."""
        if not self.f_count:
            raise self._bad("use it")
        self.f_count += 1
        return self

    def close(self) -> None:
        """One reference less; the last one releases the file (fput()). Raises OSError(EBADF) if there was none."""
        sched = self._sched
        if sched.listener is not None:
            sched.listener("close", self.shared("close"))
        if not self.f_count:
            raise self._bad("close it again")
        self.f_count -= 1
        if not self.f_count:
            self._gone()

    def _gone(self) -> None:
        self._kernel.fs.file_closed(self)
        try:
            self._release()
        finally:
            self.f_wq.release_watchers()
            # Whoever waits for a file that is gone waits for nothing.
            self.f_wq.wake_up_poll(EPOLLHUP, nr_exclusive=MAX_WAITERS)

    def wait_until(self, ready: Callable[[], object], exclusive: bool = False) -> None:
        """Sleep until `ready()`, for kinds of files.

        Args:
            ready: tested before sleeping and after each wake-up of `f_wq`.
            exclusive: be one of those of whom a wake-up wakes one.

        Raises:
            BlockingIOError: EAGAIN, the file is non-blocking.
            InterruptedError: EINTR, a signal came first.
            OSError: EBADF, the file was closed meanwhile.
        """
        if ready():
            return
        if self.f_flags & O_NONBLOCK:
            raise BlockingIOError(errno.EAGAIN, f"{self!r} is non-blocking and not ready")
        self.f_wq.do_wait(lambda: not self.f_count or ready(), TASK_INTERRUPTIBLE, None, exclusive)
        if not self.f_count:
            raise OSError(errno.EBADF, f"{self!r} was closed while {self._sched.current.comm} waited for it")

    def broken_pipe(self) -> None:
        """Nobody will ever read what the current task writes: a process gets SIGPIPE besides the error."""
        self._kernel.signals.do_send_sig(SIGPIPE, self._sched.current)

    def _bad(self, what: str) -> OSError:
        why = "it is closed" if not self.f_count else "it is not open for that"
        return OSError(errno.EBADF, f"{self._sched.current.comm} cannot {what}: {self!r}: {why}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.f_count:
            self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.f_name or hex(id(self))}{'' if self.f_count else ' closed'}>"
