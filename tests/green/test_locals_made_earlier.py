"""Classes that were derived from threading.local before the replacements were installed."""

from __future__ import annotations

import threading
import time
from typing import Any

from lkl_green.green import green_threads, run_threads


class Registry(threading.local):
    kind = "registry"

    def __init__(self, name: str, *, limit: int = 1) -> None:
        super().__init__()
        self.name = name
        self.limit = limit
        self.held: list[str] = []

    def add(self, what: str) -> list[str]:
        self.held.append(what)
        return self.held


class Limited(Registry):
    def add(self, what: str) -> list[str]:
        return super().add(what)[: self.limit]


class Slotted(threading.local):
    __slots__ = ("shared",)


REGISTRIES: dict[str, Any] = {"base": Registry("base"), "derived": Limited("derived", limit=5)}
SLOTTED = Slotted()
REGISTRIES["base"].held.append("of the OS thread")


def test_each_kernel_thread_has_its_own_values(configuration: dict[str, Any]) -> None:
    def program() -> list[Any]:
        seen: list[Any] = []

        def work(name: str) -> None:
            for registry in REGISTRIES.values():
                registry.add(name)
            time.sleep(1)
            seen.append([(registry.name, registry.limit, registry.held) for registry in REGISTRIES.values()])

        threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return seen

    values = run_threads(program, **configuration)
    assert values == [[("base", 1, [name]), ("derived", 5, [name])] for name in "ab"]


def test_classes_and_objects_are_what_they_were_to_each_other_and_are_put_back() -> None:
    cls, registry, slotted = Registry, REGISTRIES["base"], SLOTTED
    with green_threads():
        assert cls is not Registry
        assert isinstance(REGISTRIES["derived"], Registry)
        assert issubclass(Limited, Registry)
        assert Limited("new").kind == "registry"
        assert REGISTRIES["base"].held == ["of the OS thread"]
        SLOTTED.shared = 1
        assert SLOTTED.shared == 1
    assert Registry is cls
    assert REGISTRIES["base"] is registry
    assert SLOTTED is slotted
    assert Limited("again", limit=2).add("x") == ["x"]
