"""Names for the objects of one run that are the same in every run of its schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from lkl_green.kernel.current import current_kernel, running_here
from lkl_green.kernel.task import Task
from lkl_green.testing.instrument.places import Place

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.testing.actor import Actor
    from lkl_green.testing.counted import CountedNames


class KnowsActors(Protocol):
    """The controller, as far as names go."""

    names: CountedNames

    def actor_of(self, task: Task) -> Actor | None:
        """The actor that stands for a task."""


class Names:
    """Gives names in the order in which they are asked for: ask in the same order for the same names."""

    def __init__(self) -> None:
        self._objects: dict[int, str] = {}
        self._counts: dict[str, int] = {}
        # An address stands for an object only while that lives.
        self._alive: list[object] = []

    def object(self, obj: object) -> str:
        """A string is a name; else the object's own name, or its type and number."""
        if obj is None or isinstance(obj, str):
            return obj or ""
        if isinstance(obj, int):
            return str(obj)
        if isinstance(obj, Task):
            return self._task(obj)
        if isinstance(obj, Place):
            return obj.called(self._owner)
        if isinstance(obj, tuple):  # an attribute, an item: (object, which)
            return ".".join(map(self.object, obj))
        name = self._objects.get(id(obj))
        if name is None:
            own = getattr(obj, "name", "") or getattr(obj, "_name", "")
            if isinstance(own, str) and own:
                name = self._number(_settled(own), first="")
            else:
                name = self._number(type(obj).__name__, first="#1")
            self._objects[id(obj)] = name
            self._alive.append(obj)
        return name

    def _owner(self, owner: Any, kind: str) -> str:
        """The name of what stands for an object of ordinary code."""
        name = self._objects.get(id(owner))
        if name is None:
            name = self._objects[id(owner)] = self._number(kind, first="")
            self._alive.append(owner)
        return name

    def _task(self, task: Task) -> str:
        actor = _controller(current_kernel()).actor_of(task)
        return task.comm if actor is None else actor.name

    def _number(self, name: str, first: str) -> str:
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return f"{name}{first}" if count == 1 else f"{name}#{count}"


def _settled(name: str) -> str:
    kernel = running_here.kernel
    return name if kernel is None else _controller(kernel).names.settled(name)


def _controller(kernel: Kernel) -> KnowsActors:
    return kernel.sched.policy  # type: ignore[return-value]
