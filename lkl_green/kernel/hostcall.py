"""What passes between an OS thread of the application and its host task; see `lkl_green.kernel.hosttask`."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from lkl_green.host.native import allocate_lock

if TYPE_CHECKING:
    from contextvars import Context

    from lkl_green.host.native import LockType
    from lkl_green.kernel.task import Task


class Request:
    """One system call of the application.

    Attributes:
        done: whether `result` or `error` is set.
        answered: released when it is, for a foreign thread that waits.
    """

    __slots__ = ("answered", "done", "error", "nr", "params", "result")

    def __init__(self, nr: int, params: tuple[Any, ...]) -> None:
        self.nr = nr
        self.params = params
        self.result = 0
        self.error: BaseException | None = None
        self.done = False
        self.answered: LockType | None = None

    def answer(self, result: int, error: BaseException | None = None) -> None:
        """Set the outcome and let the caller go."""
        self.result, self.error, self.done = result, error, True
        if self.answered is not None:
            self.answered.release()

    def outcome(self) -> int:
        """The result; raises what the call raised, if that was not an OSError."""
        if self.error is not None:
            raise self.error
        return self.result


class HostTask:
    """An OS thread's side of its host task: the value under its TLS key."""

    __slots__ = ("borrowed", "ended", "new_group", "request", "serving", "task")

    def __init__(self, borrowed: bool, new_group: bool) -> None:
        self.borrowed = borrowed
        self.new_group = new_group
        self.ended = False
        self.request: Request | None = None
        self.serving: Request | None = None
        self.task: Task | None = None


class Post:
    """What a foreign OS thread leaves for the kernel: a call, or word of its end (`request` is None)."""

    __slots__ = ("accepted", "context", "host_task", "is_accepted", "request", "tid")

    def __init__(self, host_task: HostTask, request: Request | None, tid: int) -> None:
        self.host_task = host_task
        self.request = request
        self.tid = tid
        self.context: Context = copy_context()
        self.is_accepted = False
        self.accepted = allocate_lock()
        self.accepted.acquire()

    def accept(self) -> None:
        """The kernel has taken it in or refused it: let the thread that left it go on."""
        self.is_accepted = True
        self.accepted.release()
