"""`threading.local` for kernel threads.

The values of one object for one thread are a dict, which becomes the object's `__dict__` whenever that thread looks at
it. The object keeps the dicts of all threads, and each thread a list of the objects it has used, weakly, to take its
dicts away when it ends. The other way round, a thread that kept its values by object would keep alive every value that
knows its object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary, WeakSet

from lkl_green.green.thread import Handle
from lkl_green.host import native
from lkl_green.kernel.current import running_here

if TYPE_CHECKING:
    from lkl_green.kernel.task import Task


class Key:
    """What is known of one local object.

    Attributes:
        args, kwargs: with which `__init__` is called again in each thread.
        lock: OS threads outside the kernel may use it at the same time.
        threads: the values of the program's threads.
        others: the values of other tasks, the main thread's among them.
        outside: the values of each OS thread outside the kernel.
    """

    __slots__ = ("__weakref__", "args", "kwargs", "lock", "others", "outside", "threads")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs
        self.lock = native.RLock()
        self.threads: dict[Task, dict[str, Any]] = {}
        self.others: WeakKeyDictionary[Task, dict[str, Any]] = WeakKeyDictionary()
        self.outside = native.local()

    def find(self) -> dict[str, Any] | None:
        """The values of the current thread, if it has any."""
        kernel = running_here.kernel
        if kernel is None:
            return getattr(self.outside, "values", None)
        task = kernel.sched.current
        return (self.threads if type(task.kthread) is Handle else self.others).get(task)

    def keep(self, values: dict[str, Any]) -> None:
        """These are the values of the current thread from now on."""
        kernel = running_here.kernel
        if kernel is None:
            self.outside.values = values
            return
        task = kernel.sched.current
        handle = task.kthread
        if type(handle) is not Handle:
            self.others[task] = values
            return
        self.threads[task] = values
        if handle.locals is None:
            handle.locals = WeakSet()
        handle.locals.add(self)


class local:  # noqa: N801 - threading.local
    """Attributes that each thread has for itself."""

    __slots__ = ("__dict__", "__weakref__", "_local__key")

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Self:
        """Make one; `__init__` runs again in each thread that uses it."""
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError("Initialization arguments are not supported")
        self = object.__new__(cls)
        key = Key(args, kwargs)
        object.__setattr__(self, "_local__key", key)
        key.keep(object.__getattribute__(self, "__dict__"))
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


def _switch_to_own(self: local, key: Key) -> None:
    own = key.find()
    if own is None:
        own = {}
        key.keep(own)
        object.__setattr__(self, "__dict__", own)
        if type(self).__init__ is not object.__init__:
            type(self).__init__(self, *key.args, **key.kwargs)
            object.__setattr__(self, "__dict__", own)
    elif object.__getattribute__(self, "__dict__") is not own:
        object.__setattr__(self, "__dict__", own)
