"""Names that a program took from `threading` or `time` before the replacements were installed.

`from threading import Lock`, `def wait(sleep=time.sleep)`, `lock = Lock()` at module level, a dataclass with
`field(default_factory=Lock)`: each holds an original where a patched module can no longer reach it. They are found by
walking the program's modules: their globals, the defaults and closures of their functions, the attributes of their
classes, and the objects and containers that hang from them. The standard library is not walked, except where the patch
table names it: its own locks are held for moments, and must not become scheduling points.

Each change is remembered, and undone where the program has not changed the place since. What was made meanwhile is put
right by the same walk with the table turned round: the program's new objects, and all modules that were imported, those
of the standard library, too. This walk alone would not do. Several originals have one replacement, and only the name
under which a module holds the replacement tells which of them it would have had.
"""

from __future__ import annotations

import gc
import sys
import sysconfig
import threading
import types
from collections import deque
from contextlib import suppress
from functools import partial
from operator import is_
from typing import TYPE_CHECKING, Any

from lkl_green.green.condition import exchange_lock, put_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_DEPTH = 6
_LEFT_ALONE = frozenset(
    (
        *("_pytest", "coverage", "execnet", "gevent", "greenlet", "hypothesis", "iniconfig", "lkl_green", "pluggy"),
        *("py", "pytest", "pytest_asyncio", "setuptools", "sortedcontainers", "xdist"),
    )
)
_STDLIB = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_SITE = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_WALKED = (
    "threading",
    "queue",
    "dataclasses",
    "functools",
    "concurrent.futures",
)  # whose objects may hold the program's
_AROUND_FUNCTIONS = (staticmethod, classmethod, types.MethodType, property, partial)
_ATOMS = (str, bytes, int, float, complex, type(None), types.ModuleType, types.BuiltinFunctionType)


def program_modules() -> Iterator[types.ModuleType]:
    """The modules that belong to the program: not the standard library, its tests excepted, nor what runs tests."""
    for name, module in list(sys.modules.items()):
        if type(module) is types.ModuleType and is_program(name, module):
            yield module


def is_program(name: str, module: types.ModuleType | None = None) -> bool:
    """Whether a module belongs to the program; `module` is the one that is loaded under this name, if left out."""
    module = module or sys.modules.get(name)
    top = name.partition(".")[0]
    if top in _LEFT_ALONE:
        return False
    if top in ("test", "__main__"):
        return True
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return top not in sys.stdlib_module_names and top not in sys.builtin_module_names
    return not file.startswith(_STDLIB) or file.startswith(_SITE)


class Rebinder:
    """One walk.

    Args:
        table: originals and what to put in their place.
        convert: the same for objects that are not in the table, such as locks: the object itself, or another.
        named: what to put in the place of an object that is held under a name, by the object's id and the name. The
            table has the objects, too.
    """

    def __init__(
        self,
        table: list[tuple[Any, Any]],
        convert: Callable[[Any], Any],
        named: dict[tuple[int, Any], Any] | None = None,
    ) -> None:
        self._table = {id(old): new for old, new in table}
        self._named = named or {}
        self._kept = table  # the ids are good for as long as the objects live
        self._convert = convert
        self._seen: set[int] = set()
        self._changes: list[tuple[Callable[[], Any], Callable[[Any], object], Any, Any]] = []

    @property
    def count(self) -> int:
        """How many places were changed."""
        return len(self._changes)

    def undo(self) -> None:
        """Put back what was changed and has not been changed again."""
        while self._changes:
            read, write, old, new = self._changes.pop()
            with suppress(LookupError, AttributeError, ValueError):  # the place is no more
                if read() is new:
                    write(old)

    def _change(self, read: Callable[[], Any], write: Callable[[Any], object], old: Any, new: Any) -> None:
        write(new)
        self._changes.append((read, write, old, new))

    def walk(self, roots: Iterable[object] = (), others: Iterable[types.ModuleType] = ()) -> int:
        """Walk all modules of the program, and `roots`; how many places were changed.

        Args:
            roots: what will be called. It may live where no module is, made by `exec()`, and hold what no module holds:
                the fixtures of a test.
            others: modules that are not of the program, to be walked as well.
        """
        modules = list(dict.fromkeys((*program_modules(), *others)))
        self._names = {module.__name__ for module in modules}
        for module in modules:
            self._dict(module.__dict__, _DEPTH)
        for root in roots:
            self._root(root)
        return self.count

    def _root(self, root: object) -> None:
        function = root
        while function is not None:
            namespace: dict[str, Any] = getattr(function, "__globals__", {})
            name = namespace.get("__name__")
            if isinstance(name, str) and name not in sys.modules:
                self._names.add(name)
                self._dict(namespace, _DEPTH)
            function = getattr(function, "__wrapped__", None)
        self._visit(root, _DEPTH)

    def _exchange(
        self, value: Any, name: Any, read: Callable[[], Any], write: Callable[[Any], object], depth: int
    ) -> None:
        """Put something else in a place, or go on to what hangs from it."""
        new = self._new(value, name)
        if new is not value:
            self._change(read, write, value, new)
        if new is value or type(new) is tuple:
            self._visit(new, depth)

    def _new_tuple(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        new = tuple(map(self._new, value))
        return value if all(map(is_, new, value)) else new

    def _new(self, value: Any, name: Any = None) -> Any:
        if type(value) is tuple:
            return self._new_tuple(value)
        if isinstance(value, _ATOMS) and not isinstance(value, types.BuiltinFunctionType):
            return value
        new = self._table.get(id(value), self)
        if new is self:
            return self._convert(value)
        return self._named.get((id(value), name), new) if type(name) is str else new

    def adopt_condition(self, condition: Any) -> None:
        """Exchange the lock of a Condition, if the lock has a stand-in."""
        old, new = condition._lock, self._new(condition._lock)
        if new is not old:
            before = dict(vars(condition))
            exchange_lock(condition, new)
            self._changes.append((partial(getattr, condition, "_lock"), partial(put_back, condition), before, new))

    # -- what holds references

    def _dict(self, namespace: dict[Any, Any], depth: int) -> None:
        for key, value in list(namespace.items()):
            place = partial(namespace.__getitem__, key), partial(namespace.__setitem__, key)
            self._exchange(value, key, *place, depth - 1)

    def _visit(self, value: Any, depth: int) -> None:
        if depth <= 0 or isinstance(value, _ATOMS) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, types.FunctionType):
            self._function(value, depth)
        elif isinstance(value, type):
            if value.__module__ in self._names:
                self._class(value, depth)
        elif isinstance(value, _AROUND_FUNCTIONS):
            self._around_functions(value, depth)
        elif isinstance(value, types.GeneratorType):
            self._generator(value, depth)
        elif isinstance(value, dict):
            self._dict(value, depth)
        elif isinstance(value, list | deque):
            self._list(value, depth)
        elif isinstance(value, tuple | set | frozenset):
            for item in list(value):
                self._visit(item, depth - 1)
        else:
            self._instance(value, depth)

    def _around_functions(self, value: Any, depth: int) -> None:
        if isinstance(value, partial):
            self._partial(value, depth - 1)
            return
        for name in ("__func__", "__self__", "fget", "fset", "fdel"):
            self._visit(getattr(value, name, None), depth)

    def _function(self, function: types.FunctionType, depth: int) -> None:
        if function.__module__ not in self._names:
            return
        if function.__defaults__:
            place = lambda: function.__defaults__, partial(setattr, function, "__defaults__")
            self._exchange(function.__defaults__, None, *place, depth - 1)
        if function.__kwdefaults__:
            self._dict(function.__kwdefaults__, depth)
        for cell in function.__closure__ or ():
            self._cell(cell, depth)
        self._visit(getattr(function, "__wrapped__", None), depth)

    def _cell(self, cell: types.CellType, depth: int) -> None:
        with suppress(ValueError):  # a variable that has no value yet
            place = partial(getattr, cell, "cell_contents"), partial(setattr, cell, "cell_contents")
            self._exchange(cell.cell_contents, None, *place, depth - 1)

    def _generator(self, generator: Any, depth: int) -> None:
        """What the function of a generator was defined with; its own variables are out of reach."""
        for held in gc.get_referents(generator):
            if type(held) is types.CellType:
                self._cell(held, depth)
            elif type(held) is types.FunctionType:
                self._function(held, depth)

    def _partial(self, value: Any, depth: int) -> None:
        def put(function: Any, args: tuple[Any, ...]) -> None:
            value.__setstate__((function, args, value.keywords, vars(value)))

        self._exchange(value.func, None, lambda: value.func, lambda new: put(new, value.args), depth)
        self._exchange(value.args, None, lambda: value.args, lambda new: put(value.func, new), depth)
        self._dict(value.keywords, depth)

    def _class(self, cls: type, depth: int) -> None:
        for name, value in list(vars(cls).items()):
            new = self._new(value.__func__ if isinstance(value, staticmethod) else value, name)
            if new is not value and not (isinstance(value, staticmethod) and new is value.__func__):
                put = staticmethod(new) if isinstance(value, staticmethod) else new
                self._change(partial(vars(cls).__getitem__, name), partial(self._set, cls, name), value, put)
            else:
                self._visit(value, depth - 1)

    def _list(self, items: Any, depth: int) -> None:
        for number, value in enumerate(list(items)):
            place = partial(items.__getitem__, number), partial(items.__setitem__, number)
            self._exchange(value, None, *place, depth - 1)

    def _instance(self, value: Any, depth: int) -> None:
        kind = type(value)
        module = kind.__module__
        if isinstance(value, threading.Condition):
            self.adopt_condition(value)
            return
        if module not in self._names and not module.startswith(_WALKED):
            return
        namespace = getattr(value, "__dict__", None)
        if type(namespace) is dict:
            self._dict(namespace, depth)
        for base in kind.__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                self._slot(value, name, depth)

    def _slot(self, value: Any, name: str, depth: int) -> None:
        if name in ("__dict__", "__weakref__"):
            return
        try:
            held = getattr(value, name)
        except AttributeError:
            return
        place = partial(getattr, value, name), partial(self._set, value, name)
        self._exchange(held, name, *place, depth - 1)

    @staticmethod
    def _set(holder: Any, name: str, value: Any) -> None:
        try:
            setattr(holder, name, value)
        except (AttributeError, TypeError):  # frozen
            object.__setattr__(holder, name, value)
