"""Modules that are imported while a campaign lasts.

A module is loaded by whatever loads it anyhow, pytest's rewriting of assertions included, and cached on disk as always.
Then, before anything can use it, its functions are given points in memory.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class ImportHook:
    """A finder on `sys.meta_path`.

    Args:
        wants: told the name and file of a module; whether it gets points.
        loaded: called with such a module when it has been loaded, and its file.
    """

    def __init__(self, wants: Callable[[str, str | None], bool], loaded: Callable[[ModuleType, str], object]) -> None:
        self._wants = wants
        self._loaded = loaded

    def install(self) -> None:
        """Begin."""
        sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """End."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """What the other finders find, with a loader that tells us."""
        for finder in sys.meta_path:
            find: Any = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None and self._wants(name, spec.origin) and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, self._loaded)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    """Another loader, which the module never learns of."""

    def __init__(self, loader: Any, loaded: Callable[[ModuleType, str], object]) -> None:
        self._loader = loader
        self._loaded = loaded

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the other loader does."""
        create = getattr(self._loader, "create_module", None)
        return None if create is None else create(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the other loader does; then its functions get points."""
        spec = module.__spec__
        assert spec is not None
        spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._loaded(module, spec.origin or "")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
