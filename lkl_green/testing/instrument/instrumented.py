"""The points of one campaign: put into the modules that get them, and taken out at its end."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from os.path import basename, isfile
from typing import TYPE_CHECKING, Any

from lkl_green.testing.instrument.announce import GATE
from lkl_green.testing.instrument.compiled import compiled
from lkl_green.testing.instrument.exchange import Exchange, functions_from
from lkl_green.testing.instrument.importhook import ImportHook
from lkl_green.testing.instrument.where import Where, unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import FunctionType, ModuleType

_SHOWN = 3


class Instrumented:
    """Modules with points.

    Args:
        test: the test. It may live in no module.
        where: which modules get points.

    Attributes:
        accesses: how many accesses have points, by file.
    """

    def __init__(self, test: object, where: Where) -> None:
        self._test = test
        self._where = where
        self._exchange = Exchange()
        self._hook = ImportHook(where, self._imported)
        self._without_source = ""
        self._around = GATE.modules
        self.accesses: dict[str, int] = {}

    def begin(self) -> None:
        """Give the modules points."""
        modules = {file: vars(module) for module, file in self._where.modules()}
        test = unwrapped(self._test)
        file = self._where.test_file
        if file not in modules and isfile(file):  # loaded in a way that sys.modules does not know of
            modules[file] = test.__globals__
        elif file not in modules:
            name = getattr(test, "__qualname__", repr(test))
            self._without_source = f"{name}: its module has no source file ({file or 'none'})"
        self._give_points(modules, [self._test, *modules.values()])
        self._hook.install()

    def end(self) -> None:
        """Take them out again."""
        self._hook.remove()
        self._exchange.undo()
        GATE.modules = self._around
        GATE.forget_types()

    def _imported(self, module: ModuleType, file: str) -> None:
        self._give_points({file: vars(module)}, [vars(module)])

    def _give_points(self, modules: Mapping[str, dict[str, Any]], holders: Iterable[object]) -> None:
        """Exchange the code of functions.

        Args:
            modules: the globals of modules, by file.
            holders: what holds functions of these modules.
        """
        found: defaultdict[str, list[FunctionType]] = defaultdict(list)
        names = {self._where.test_name, *(namespace.get("__name__", "") for namespace in modules.values())}
        for function in functions_from(holders, names):
            file = function.__code__.co_filename
            if file in modules:
                found[file].append(function)
        for file, functions in found.items():
            code = compiled(modules[file], file)
            if self._exchange.exchange(functions, code, basename(file)):
                self.accesses[file] = code.accesses
        GATE.modules |= self.accesses.keys()

    @property
    def left_out(self) -> list[str]:
        """What has no points though it should, with the reason."""
        without = [self._without_source] if self._without_source else []
        return without + [f"{name}: {reason}" for name, reason in self._exchange.left_out.items()]

    def summary(self) -> str:
        """For the report: where there are points, how many, and what was left out."""
        left_out = self.left_out
        more = f"; and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        without = f"; left out: {'; '.join(left_out[:_SHOWN])}{more}" if left_out else ""
        if not self.accesses:
            return f"no points in ordinary code, so that races between plain statements are not seen{without}"
        files = ", ".join(sorted(map(basename, self.accesses)))
        return f"points in {files}: {sum(self.accesses.values())} accesses{without}"


@contextmanager
def instrumented(test: object, points_in: Iterable[str] = ()) -> Iterator[Instrumented]:
    """Points in ordinary code, for as long as the context lasts.

    Args:
        test: the test.
        points_in: names of further modules.
    """
    points = Instrumented(test, Where(test, points_in))
    points.begin()
    try:
        yield points
    finally:
        points.end()
