"""The functions that rewritten code calls before an access.

Each returns what it was given, or what the access needs, and the access itself stays in the program's code:

    a.b             READ(a, site).b
    a.b = v         WRITE(a, site).b = v
    a.b += e        READ(a, site).b += UPDATE(a, site, e)
    a[i]            ITEM(a, i, site)[i]
    a[f()]          getitem(*PAIR(a, f(), site))        getitem and its like are written in C: they add no frame
    a[f()] = v      setitem(*TRIPLE(v, a, f(), site))
    x               NAME(site) or x                     a variable
    x = v           x = STORE(site, v)
    k in c          k in WHOLE(c, site)
    for x in c      for x in STEPS(c, site)
    c.append(v)     call(*METHOD(site, c.append, v))

So errors, tracebacks and the order of evaluation are the program's own.

Rewritten code is shared by everything that calls it while it is in place: kernel threads of a schedule, set-up code,
other OS threads. `GATE` tells them apart. It is one object of the process, as the rewritten code objects are, which
refer to these functions.

*A point that decides nothing must cost little.* If only one task can run there is nothing to decide, and these
functions look no further than at `GATE.crowd`, the controller's list of the tasks that can run. It is empty where
nothing is explored.
"""

from __future__ import annotations

import operator
import types
from typing import TYPE_CHECKING, Any, Final

from lkl_green.kernel.current import running_here
from lkl_green.testing.instrument import kinds
from lkl_green.testing.instrument.places import InheritedPlace, Places, VariablePlace
from lkl_green.testing.instrument.site import mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.testing.instrument.places import Place
    from lkl_green.testing.instrument.site import Site

_NONE: Final = ()
_UNLIMITED: Final = 1 << 62
_MOST_KEPT: Final = 1000
# Longer than one: all accesses are looked at.
_ALWAYS: Final = (None, None)


class Gate:
    """Where accesses are announced; closed, unless a schedule with points in ordinary code runs.

    Attributes:
        crowd: the tasks that can run. With two or more, accesses are announced.
        left: how many accesses the schedule may still make.
        modules: the files of the modules whose global variables have points.
    """

    __slots__ = (
        "_access",
        "_containers",
        "_endless",
        "_kept",
        "_kernel",
        "_places",
        "_variables",
        "crowd",
        "left",
        "modules",
    )

    def __init__(self) -> None:
        self.crowd: Sequence[object] = _NONE
        self.left = _UNLIMITED
        self.modules: frozenset[str] = frozenset()
        self._kernel: Kernel | None = None
        self._access: Callable[[Any, object], None]
        self._endless: Callable[[], None]
        self._places = Places()
        self._kept: dict[tuple[type, str], int] = {}
        self._containers: dict[type, bool] = {}
        self._variables: dict[tuple[str, str], VariablePlace] = {}

    def open(
        self,
        kernel: Kernel,
        crowd: Sequence[object] | None,
        limit: int,
        access: Callable[[Any, object], None],
        endless: Callable[[], None],
    ) -> None:
        """A schedule begins.

        Args:
            kernel: it runs here.
            crowd: the tasks that can run; None to announce every access, whether or not there is a choice.
            limit: so many accesses, and no more.
            access: told of each access, as (kind, place).
            endless: called at the limit; has to raise.
        """
        self._kernel = kernel
        self._access = access
        self._endless = endless
        self.left = limit
        self.crowd = _ALWAYS if crowd is None else crowd

    def close(self) -> None:
        """The schedule is over. Nothing of it is kept."""
        self.crowd = _NONE
        self.left = _UNLIMITED
        self._kernel = None
        self._places.clear()
        if len(self._kept) + len(self._containers) > _MOST_KEPT:  # the schedules define classes of their own
            self.forget_types()

    def forget_types(self) -> None:
        """Let go of the program's types: a campaign has ended."""
        self._kept.clear()
        self._containers.clear()

    @property
    def _is_here(self) -> bool:
        """Whether the caller is a thread of the schedule."""
        return self._kernel is not None and running_here.kernel is self._kernel

    def spent(self) -> None:
        """The limit of accesses was reached."""
        if self._is_here:
            self._endless()

    def announce(self, kind: str, place: Place) -> None:
        """A place is about to be accessed."""
        if self._is_here:
            if self.left < 0:
                self._endless()
            self._access(kind, place)

    # -- which place

    def attribute(self, kind: str, obj: Any, site: Site) -> None:
        """An attribute is about to be accessed."""
        of, name = type(obj), site.name
        if of is types.ModuleType:
            file = getattr(obj, "__file__", None)
            if file in self.modules:
                self.announce(kind, self.variable(file, name, name))
            return
        owners = self._owners(obj, of, name, reads=kind == "read")
        if len(owners) == 1:
            self.announce(kind, self._places.attribute(owners[0], name, site.text))
        elif owners:
            self.announce(
                kind, InheritedPlace(tuple(self._places.attribute(owner, name, site.text) for owner in owners))
            )

    def _owners(self, obj: Any, of: type, name: str, *, reads: bool) -> tuple[object, ...]:
        """Where an attribute is looked for, or will be set; nowhere, if it cannot change."""
        if isinstance(obj, type):
            return kinds.owners_in_class(obj, name) if reads else (obj,)
        kept = self._kept.get((of, name))
        if kept is None:
            kept = self._kept[of, name] = kinds.where_kept(of, name)
        if kept == kinds.NOWHERE:
            return ()
        return kinds.owners_of_read(obj, name) if reads and kept == kinds.IN_OBJECT_OR_CLASS else (obj,)

    def variable(self, scope: str, name: str, text: str) -> VariablePlace:
        """A variable of a module or function."""
        place = self._variables.get((scope, name))
        if place is None:
            place = self._variables[scope, name] = VariablePlace(text)
        return place

    def name(self, kind: str, site: Site) -> None:
        """A variable is about to be accessed."""
        self.announce(kind, self.variable(site.scope, site.name, site.text))

    def is_container(self, obj: object) -> bool:
        """Whether an object holds others, and can be changed."""
        of = type(obj)
        known = self._containers.get(of)
        if known is None:
            known = self._containers[of] = kinds.is_container(of)
        return known

    def item(self, kind: str, obj: Any, key: Any, site: Site) -> None:
        """An item is about to be accessed."""
        if self.is_container(obj):
            self.announce(kind, self._places.item(obj, key, site.text))

    def whole(self, kind: str, obj: Any, site: Site) -> None:
        """A container is about to be accessed as a whole."""
        obj = kinds.container_behind(obj)
        if self.is_container(obj):
            self.announce(kind, self._places.whole(obj, site.text))

    def call(self, site: Site, function: Any, args: Sequence[Any]) -> None:
        """A method that containers have is about to be called."""
        if not isinstance(function, types.BuiltinMethodType):
            return
        for arg in args:
            self.whole("read", arg, site)
        obj, name = function.__self__, function.__name__
        if not self.is_container(obj):
            return
        kind = "write" if kinds.changes(name) else "read"
        if args and kinds.is_of_one_item(obj, name):
            self.announce(kind, self._places.item(obj, args[0], site.text))
        else:
            self.announce(kind, self._places.whole(obj, site.text))


GATE: Final = Gate()


# -- what rewritten code calls. `left` is counted by all of them, or a loop of accesses in the only task would not end.


def read(obj: Any, site: Site) -> Any:
    """`obj.name` is about to be read."""
    GATE.left -= 1
    if len(GATE.crowd) > 1:
        GATE.attribute("read", obj, site)
    elif GATE.left < 0:
        GATE.spent()
    return obj


def write(obj: Any, site: Site) -> Any:
    """`obj.name` is about to be written or deleted."""
    if len(GATE.crowd) > 1:
        GATE.attribute("write", obj, site)
    return obj


def update(obj: Any, site: Site, value: Any) -> Any:
    """`obj.name` was read, and is about to be written."""
    if len(GATE.crowd) > 1:
        GATE.attribute("write", obj, site)
    return value


def item(obj: Any, key: Any, site: Site) -> Any:
    """`obj[key]` is about to be read."""
    GATE.left -= 1
    if len(GATE.crowd) > 1:
        GATE.item("read", obj, key, site)
    elif GATE.left < 0:
        GATE.spent()
    return obj


def set_item(obj: Any, key: Any, site: Site) -> Any:
    """`obj[key]` is about to be written or deleted."""
    if len(GATE.crowd) > 1:
        GATE.item("write", obj, key, site)
    return obj


def update_item(obj: Any, key: Any, site: Site, value: Any) -> Any:
    """`obj[key]` was read, and is about to be written."""
    if len(GATE.crowd) > 1:
        GATE.item("write", obj, key, site)
    return value


def pair(obj: Any, key: Any, site: Site) -> tuple[Any, Any]:
    """The arguments of `operator.getitem()`."""
    return item(obj, key, site), key


def deleted_pair(obj: Any, key: Any, site: Site) -> tuple[Any, Any]:
    """The arguments of `operator.delitem()`."""
    return set_item(obj, key, site), key


def triple(value: Any, obj: Any, key: Any, site: Site) -> tuple[Any, Any, Any]:
    """The arguments of `operator.setitem()`, evaluated in the order of an assignment."""
    return set_item(obj, key, site), key, value


def name(site: Site) -> None:
    """A variable is about to be read."""
    GATE.left -= 1
    if len(GATE.crowd) > 1:
        GATE.name("read", site)
    elif GATE.left < 0:
        GATE.spent()


def store(site: Site, value: Any = None) -> Any:
    """A variable is about to be written or deleted."""
    if len(GATE.crowd) > 1:
        GATE.name("write", site)
    return value


def whole(obj: Any, site: Site) -> Any:
    """A container is about to be read as a whole."""
    GATE.left -= 1
    if len(GATE.crowd) > 1:
        GATE.whole("read", obj, site)
    elif GATE.left < 0:
        GATE.spent()
    return obj


def changed(obj: Any, site: Site) -> Any:
    """A container is about to be given to a function that may change it."""
    if len(GATE.crowd) > 1:
        GATE.whole("write", obj, site)
    return obj


def update_whole(obj: Any, site: Site, value: Any) -> Any:
    """A container is about to be changed by an augmented assignment to a variable."""
    if len(GATE.crowd) > 1:
        GATE.whole("write", obj, site)
    return value


def steps(obj: Any, site: Site) -> Any:
    """What to iterate over: with a point before each step, if it is a container."""
    if GATE._kernel is None or not GATE.is_container(kinds.container_behind(obj)):
        return obj
    return _stepping(obj, iter(obj), site)


def _stepping(obj: Any, iterator: Iterator[Any], site: Site) -> Iterator[Any]:
    __tracebackhide__ = True  # pytest shows an error of the iteration at the program's line
    whole(obj, site)
    for value in iterator:
        yield value
        whole(obj, site)


def method(site: Site, *call: Any) -> tuple[Any, ...]:
    """The arguments of `operator.call()`: the method, and its own arguments."""
    GATE.left -= 1
    if len(GATE.crowd) > 1:
        GATE.call(site, call[0], call[1:])
    elif GATE.left < 0:
        GATE.spent()
    return call


FUNCTIONS: Final[dict[str, object]] = {
    mark(function.__name__): function
    for function in (
        *(read, write, update, item, set_item, update_item, pair, deleted_pair, triple, name, store, whole, changed),
        *(update_whole, steps, method, operator.getitem, operator.setitem, operator.delitem, operator.call, slice),
    )
}
