"""`threading.local` for kernel threads.

The values of one object for one thread are a dict, which becomes the object's `__dict__` whenever that thread looks at
it. A thread's dicts are kept by the thread and go with it; they are keyed weakly by the object, and go with that, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary

from lkl_green.kernel.current import running_here
from lkl_green.testing.threads import native
from lkl_green.testing.threads.thread import Handle

if TYPE_CHECKING:
    from lkl_green.kernel.task import Task

_Values = WeakKeyDictionary[Any, dict[str, Any]]


class _Outside(native.Local):  # type: ignore[misc, valid-type, name-defined, unused-ignore]
    """The values of one OS thread outside the kernel."""

    def __init__(self) -> None:
        self.values: _Values = WeakKeyDictionary()


_outside = _Outside()
_of_tasks: WeakKeyDictionary[Task, _Values] = WeakKeyDictionary()


def _values() -> _Values:
    """The values of the current thread, of all its local objects."""
    kernel = running_here.kernel
    if kernel is None:
        return _outside.values
    task = kernel.sched.current
    handle = task.kthread
    if type(handle) is Handle:
        if handle.locals is None:
            handle.locals = WeakKeyDictionary()
        return handle.locals
    if task not in _of_tasks:
        _of_tasks[task] = WeakKeyDictionary()
    return _of_tasks[task]


class _Key:
    """What is known of one local object, apart from its values.

    Attributes:
        args, kwargs: with which `__init__` is called again in each thread.
        lock: OS threads outside the kernel may use it at the same time.
    """

    __slots__ = ("__weakref__", "args", "kwargs", "lock")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs
        self.lock = native.RLock()


class local:  # noqa: N801 - threading.local
    """Attributes that each thread has for itself."""

    __slots__ = ("__dict__", "__weakref__", "_local__key")

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Self:
        """Make one; `__init__` runs again in each thread that uses it."""
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError("Initialization arguments are not supported")
        self = object.__new__(cls)
        key = _Key(args, kwargs)
        object.__setattr__(self, "_local__key", key)
        _values()[key] = object.__getattribute__(self, "__dict__")
        return self

    def __getattribute__(self, name: str) -> Any:
        key = object.__getattribute__(self, "_local__key")
        with key.lock:
            _switch_to_own(self, key)
            return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._refuse_dict(name)
        key = object.__getattribute__(self, "_local__key")
        with key.lock:
            _switch_to_own(self, key)
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        self._refuse_dict(name)
        key = object.__getattribute__(self, "_local__key")
        with key.lock:
            _switch_to_own(self, key)
            object.__delattr__(self, name)

    def _refuse_dict(self, name: str) -> None:
        if name == "__dict__":
            raise AttributeError(f"{type(self).__name__!r} object attribute '__dict__' is read-only")


def _switch_to_own(self: local, key: _Key) -> None:
    values = _values()
    own = values.get(key)
    if own is None:
        own = values[key] = {}
        object.__setattr__(self, "__dict__", own)
        if type(self).__init__ is not object.__init__:
            type(self).__init__(self, *key.args, **key.kwargs)
            object.__setattr__(self, "__dict__", own)
    elif object.__getattribute__(self, "__dict__") is not own:
        object.__setattr__(self, "__dict__", own)
