"""What an access is made to: an attribute of an object, an item of a container, a container as a whole, a variable.

A place is the object of a scheduling point. It does two things. It *conflicts* with other places by being equal to
them: an attribute with the same attribute of the same object, an item with the same item and with its container as a
whole. And it has a *name* that is the same in every run of a schedule.

Neither may keep the program's objects alive, or finalizers would run at other times than without points. So an object
is remembered by a weak reference. Its place is looked up by its address, and the reference tells whether the address
still belongs to it. Objects get their names by kind and order of first use: `Counter.count`, `Counter#2.count`.

Lists, dicts and some other objects have no weak references. They are told apart by their address alone. Two accesses
that are pending at the same time have both objects alive, so that addresses are right where policies compare pending
accesses. In the past of a schedule one address may have belonged to two lists, one after the other: race reversal may
then try a race that is none, which costs one schedule. Names do not come from addresses: such an object is called what
the source calls it at the access, `self.items[0]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable

# The key of a container as a whole, and of an item whose key cannot be compared safely.
ALL: Final = object()

_SIMPLE = frozenset((str, int, bytes, bool, float, type(None)))


class Place:
    """Something that several threads can access."""

    __slots__ = ()

    def called(self, name_of: Callable[[object, str], str]) -> str:
        """The place's name.

        Args:
            name_of: names an owner of its kind, in the order in which owners are named.
        """
        raise NotImplementedError

    @property
    def group(self) -> object:
        """Equal for all places that can conflict with this one."""
        return self


class Owner:
    """Stands for an object of the program, without keeping it alive."""

    __slots__ = ("kind", "refers")

    def __init__(self, obj: object) -> None:
        self.refers = ref(obj)  # raises TypeError where there are no weak references
        self.kind = f"class {obj.__name__}" if isinstance(obj, type) else type(obj).__name__


class AttributePlace(Place):
    """An attribute of an object that can be referred to weakly. There is one of it in a run."""

    __slots__ = ("attribute", "owner")

    def __init__(self, owner: Owner, attribute: str) -> None:
        self.owner = owner
        self.attribute = attribute

    def called(self, name_of: Callable[[object, str], str]) -> str:
        """`Counter#2.count`."""
        return f"{name_of(self.owner, self.owner.kind)}.{self.attribute}"


class InheritedPlace(Place):
    """An attribute that is looked for in several objects, and found in the last: a class has it, and its object not.

    It conflicts with the attribute in each of them: to write to one of the first hides that in the last.

    Args:
        places: the attribute in each.
    """

    __slots__ = ("places",)

    def __init__(self, places: tuple[Place, ...]) -> None:
        self.places = places

    def called(self, name_of: Callable[[object, str], str]) -> str:
        """The name of the one that was found."""
        return self.places[-1].called(name_of)

    @property
    def group(self) -> object:
        """That of the attribute in the object itself."""
        return self.places[0].group

    def __eq__(self, other: object) -> bool:
        others = other.places if isinstance(other, InheritedPlace) else (other,)
        return any(place == other for place in self.places for other in others)

    def __hash__(self) -> int:
        return hash(self.places[0])


class VariablePlace(Place):
    """A global variable, or a variable of a function that inner functions share. There is one of it in a process."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def called(self, name_of: Callable[[object, str], str]) -> str:
        """`total`."""
        return self.text


class ContainerPlace(Place):
    """An item, or a whole container; also an attribute of an object without weak references. Made for one access.

    Args:
        address: of the object.
        key: of the item; ALL for the whole.
        text: the name.
    """

    __slots__ = ("address", "key", "text")

    def __init__(self, address: int, key: object, text: str) -> None:
        self.address = address
        self.key = key
        self.text = text

    def called(self, name_of: Callable[[object, str], str]) -> str:
        """`self.items[0]`."""
        return self.text

    @property
    def group(self) -> object:
        """The container."""
        return self.address

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ContainerPlace) or self.address != other.address:
            return False
        return self.key is ALL or other.key is ALL or self.key == other.key

    def __hash__(self) -> int:
        return hash(self.address)


def comparable(key: Any) -> bool:
    """Whether two keys can be compared without calling the program's code."""
    kind = type(key)
    return kind in _SIMPLE or (kind is tuple and all(map(comparable, key)))


class Places:
    """The places of one run."""

    __slots__ = ("_attributes", "_owners")

    def __init__(self) -> None:
        self._owners: dict[int, Owner] = {}
        self._attributes: dict[tuple[int, str], AttributePlace] = {}

    def clear(self) -> None:
        """The run is over."""
        self._owners.clear()
        self._attributes.clear()

    def attribute(self, obj: object, name: str, text: str) -> Place:
        """An attribute of an object.

        Args:
            obj: the object.
            name: the attribute.
            text: what the source calls the object.
        """
        key = id(obj), name
        place = self._attributes.get(key)
        if place is not None and place.owner.refers() is obj:
            return place
        owner = self._owners.get(key[0])
        if owner is None or owner.refers() is not obj:
            try:
                owner = self._owners[key[0]] = Owner(obj)
            except TypeError:
                return ContainerPlace(key[0], name, f"{text}.{name}")
        place = self._attributes[key] = AttributePlace(owner, name)
        return place

    @staticmethod
    def whole(obj: object, text: str) -> Place:
        """A container as a whole."""
        return ContainerPlace(id(obj), ALL, text)

    @staticmethod
    def item(obj: object, key: Any, text: str) -> Place:
        """An item of a container. Positions from the end of a list, and slices, stand for the whole list."""
        if not comparable(key) or (type(key) is int and key < 0 and not isinstance(obj, dict)):
            return ContainerPlace(id(obj), ALL, f"{text}[...]")
        return ContainerPlace(id(obj), key, f"{text}[{key!r:.30}]")
