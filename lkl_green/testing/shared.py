"""Shared variables whose every access is a scheduling point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from lkl_green.kernel.current import running_here

if TYPE_CHECKING:
    from lkl_green.kernel.points import Kind
    from lkl_green.kernel.task import Task

T = TypeVar("T")


class Shared(Generic[T]):
    """A variable that several tasks use.

    Reading and writing `value` are two operations, so `x.value += 1` can be interrupted in between, as it can be in a
    thread. `fetch_add()`, `exchange()` and `compare_exchange()` are one operation each, as those of C11's atomics are.
    Where no kernel runs, it is a plain variable.

    Args:
        value: the first value.
        name: what schedules call it.
    """

    __slots__ = ("_expected", "_value", "name")

    def __init__(self, value: T, name: str = "") -> None:
        self._value = value
        self._expected: dict[Task, T] | None = None  # by tasks that are about to compare
        self.name = name

    @property
    def value(self) -> T:
        """The value."""
        kernel = running_here.kernel
        if kernel is not None:
            listener = kernel.sched.listener
            if listener is not None:
                listener("read", self)
        return self._value

    @value.setter
    def value(self, value: T) -> None:
        kernel = running_here.kernel
        if kernel is not None:
            listener = kernel.sched.listener
            if listener is not None:
                listener("write", self)
        self._value = value

    def fetch_add(self, number: T) -> T:
        """Add to the value, in one operation; what it was before."""
        self._announce("fetch_add")
        old = self._value
        self._value = old + number  # type: ignore[operator]
        return old

    def exchange(self, value: T) -> T:
        """Set the value, in one operation; what it was before."""
        self._announce("exchange")
        old, self._value = self._value, value
        return old

    def compare_exchange(self, expected: T, value: T) -> bool:
        """Set the value if it equals `expected`, in one operation; whether it did. If not, this only reads."""
        kernel = running_here.kernel
        if kernel is not None and kernel.sched.listener is not None:
            if self._expected is None:
                self._expected = {}
            task = kernel.sched.current
            self._expected[task] = expected
            try:
                kernel.sched.listener("compare_exchange", self)
            finally:
                del self._expected[task]
        if self._value != expected:
            return False
        self._value = value
        return True

    def would_exchange(self, task: Task) -> bool:
        """Whether the `compare_exchange()` that a task is about to do would succeed now."""
        return self._expected is not None and self._expected.get(task) == self._value

    def _announce(self, kind: Kind) -> None:
        kernel = running_here.kernel
        if kernel is not None and kernel.sched.listener is not None:
            kernel.sched.listener(kind, self)

    def peek(self) -> T:
        """The value, without a scheduling point: for assertions at the end, and for reports."""
        return self._value

    def __repr__(self) -> str:
        return f"<Shared {self.name or hex(id(self))} {self._value!r}>"
