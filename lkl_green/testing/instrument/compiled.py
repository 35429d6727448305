"""The code objects of a module, as they are loaded and as they are with points.

The source is compiled twice, as it is and rewritten. Both have the same functions in the same places, so that walking
the two trees of code objects side by side gives pairs. A loaded function has the code object that is *equal* to one of
the plain ones: equal byte code, constants, names and lines, those of its inner functions included. Name and line alone
would not do, because two lambdas can share a line, and the source may have changed since.

A test module that pytest has loaded has its assertions rewritten. That is done here first, too, by pytest itself.
Nothing that is compiled here is written to disk.
"""

from __future__ import annotations

import ast
import functools
import os
import sys
import warnings
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from lkl_green.testing.instrument.announce import FUNCTIONS
from lkl_green.testing.instrument.rewrite import Rewriter
from lkl_green.testing.instrument.site import link

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KEPT = 256


class Compiled(NamedTuple):
    """What became of a module.

    Attributes:
        codes: the code with points, by the plain code that is equal to what is loaded. The same object where a function
            has no access.
        rewritten: the codes with points, by id.
        accesses: how many accesses the module has.
        error: why there are none; "" if there is no reason.
    """

    codes: dict[CodeType, CodeType]
    rewritten: dict[int, CodeType]
    accesses: int = 0
    error: str = ""


def compiled(namespace: Mapping[str, Any], filename: str) -> Compiled:
    """The code objects of a loaded module.

    Args:
        namespace: the module's globals.
        filename: what its functions say that they are from.
    """
    try:
        found = os.stat(filename)
    except OSError:
        return Compiled({}, {}, error="its source is not there")
    return _compiled(filename, found.st_mtime_ns, found.st_size, _assertion_rewriter(namespace))


@functools.lru_cache(maxsize=_KEPT)
def _compiled(filename: str, _mtime_ns: int, _size: int, rewriter: Any) -> Compiled:
    """Kept for the campaigns that follow, as long as the file does not change."""
    try:
        with open(filename, "rb") as file:
            source = file.read()
        tree = ast.parse(source, filename)
        if rewriter is not None:
            _rewrite_assertions(tree, source, filename, rewriter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were given when the module was loaded; marks are called as functions
            plain = compile(tree, filename, "exec", dont_inherit=True)
            new, sites = _rewritten(tree, filename)
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        return Compiled({}, {}, error=f"its source cannot be compiled: {error}")
    codes = dict(_pairs(plain, new))
    return Compiled(codes, {id(code): code for code in codes.values()}, sites)


def _rewritten(tree: ast.Module, filename: str) -> tuple[CodeType, int]:
    rewriter = Rewriter(tree, filename)
    rewriter.visit(tree)
    sites = rewriter.sites.by_mark
    return link(compile(tree, filename, "exec", dont_inherit=True), FUNCTIONS | sites), len(sites)


def _pairs(plain: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Each code object inside a plain one, with its counterpart."""
    ours, theirs = _inner(plain), _inner(new)
    if [code.co_name for code in ours] != [code.co_name for code in theirs]:
        return
    for one, other in zip(ours, theirs, strict=True):
        if one.co_freevars == other.co_freevars and sorted(one.co_cellvars) == sorted(other.co_cellvars):
            yield one, other
        yield from _pairs(one, other)


def _inner(code: CodeType) -> list[CodeType]:
    return [const for const in code.co_consts if isinstance(const, CodeType)]


def _assertion_rewriter(namespace: Mapping[str, Any]) -> Any:
    """Pytest's import hook, if it has loaded the module; else None."""
    pytest_rewrite: Any = sys.modules.get("_pytest.assertion.rewrite")
    loader = getattr(namespace.get("__spec__"), "loader", None)
    if pytest_rewrite is None or not isinstance(loader, pytest_rewrite.AssertionRewritingHook):
        return None
    return loader


def _rewrite_assertions(tree: ast.Module, source: bytes, filename: str, rewriter: Any) -> None:
    pytest_rewrite: Any = sys.modules["_pytest.assertion.rewrite"]
    pytest_rewrite.rewrite_asserts(tree, source, filename, rewriter.config)
