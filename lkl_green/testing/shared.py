"""Shared variables whose every access is a scheduling point."""

from __future__ import annotations

from typing import Generic, TypeVar

from lkl_green.kernel.current import running_here

T = TypeVar("T")


class Shared(Generic[T]):
    """A variable that several tasks use.

    Reading and writing `value` are two operations, so `x.value += 1` can be interrupted in between, as it can be in a
    thread. Where no kernel runs, it is a plain variable.

    Args:
        value: the first value.
        name: what schedules call it.
    """

    __slots__ = ("_value", "name")

    def __init__(self, value: T, name: str = "") -> None:
        self._value = value
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

    def peek(self) -> T:
        """The value, without a scheduling point: for assertions at the end, and for reports."""
        return self._value

    def __repr__(self) -> str:
        return f"<Shared {self.name or hex(id(self))} {self._value!r}>"
