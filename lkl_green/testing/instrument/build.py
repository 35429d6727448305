"""Pieces of rewritten syntax trees, and what the source calls an object."""

from __future__ import annotations

import ast
from typing import TypeVar

from lkl_green.testing.instrument.site import Site, mark

_Node = TypeVar("_Node", bound=ast.AST)

# Names of this kind are made by pytest when it rewrites assertions: no source can have them.
_GENERATED = "@"
_LONGEST = 40


class Sites:
    """The sites of a module, and the marks that stand for them.

    Attributes:
        by_mark: every site.
    """

    def __init__(self) -> None:
        self.by_mark: dict[str, Site] = {}

    def new(self, name: str, text: str, scope: str, like: ast.AST) -> ast.expr:
        """A site, as an expression that stands for it."""
        key = mark(len(self.by_mark))
        self.by_mark[key] = Site(name, text, scope)
        return at(like, ast.Constant(key))


def at(like: ast.AST, node: _Node) -> _Node:
    """The node, at the place in the source where `like` is: carets, coverage and debuggers go by that."""
    return ast.copy_location(node, like)


def call(like: ast.AST, function: str, *args: ast.expr, keywords: list[ast.keyword] | None = None) -> ast.Call:
    """A call of a function of `announce`, or of `operator`."""
    return at(like, ast.Call(at(like, ast.Constant(mark(function))), list(args), keywords or []))


def spread(like: ast.AST, expr: ast.expr) -> ast.Starred:
    """`*expr`, as an argument."""
    return at(like, ast.Starred(expr, ast.Load()))


def load(like: ast.AST, name: str) -> ast.Name:
    """The value of a local variable."""
    return at(like, ast.Name(name, ast.Load()))


def assign(like: ast.AST, name: str, value: ast.expr) -> ast.Assign:
    """An assignment to a local variable."""
    return at(like, ast.Assign([at(like, ast.Name(name, ast.Store()))], value))


def is_generated(node: ast.AST) -> bool:
    """Whether an expression is a variable that pytest's rewriting has made."""
    return isinstance(node, ast.Name) and node.id.startswith(_GENERATED)


def is_failing_branch(node: ast.If) -> bool:
    """Whether this is what pytest does when an assertion has failed: it formats a message and raises."""
    return bool(node.body) and isinstance(node.body[-1], ast.Raise) and any(map(is_generated, ast.walk(node.test)))


def text_of(node: ast.AST, generated: dict[str, str]) -> str:
    """What the source calls an object, cut where it is long.

    Args:
        node: an expression.
        generated: what stands behind the variables that pytest's rewriting has made.
    """
    return _text(node, generated)[:_LONGEST]


def _text(node: ast.AST, generated: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return generated.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_text(node.value, generated)}.{node.attr}"
    if isinstance(node, ast.Call):
        return f"{_text(node.func, generated)}()"
    if isinstance(node, ast.Subscript):
        return f"{_text(node.value, generated)}[{_text(node.slice, generated)}]"
    if isinstance(node, ast.Constant):
        return repr(node.value)
    return "..."
