"""Whether executing a file could define a name: looked at before a script is executed only to find that it does not."""

from __future__ import annotations

import ast

# What may bind names that the source does not show.
_UNKNOWN = {"exec", "eval", "globals", "locals", "vars", "setattr", "__dict__", "__import__"}


def may_define(source: bytes, name: str) -> bool:
    """Whether `name` may be a global of the module after the file was executed. False is certain.

    Args:
        source: the text of a file that can be compiled.
        name: the name.
    """
    finder = _Finder(name)
    finder.visit(ast.parse(source))
    return finder.found


class _Finder(ast.NodeVisitor):
    """Looks for bindings of a name at module level, in blocks as well, and for what could hide one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.found = False

    def _bound(self, name: str | None) -> None:
        self.found = self.found or name == self._name

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        """A definition binds its own name; what its body binds is local, unless a `global` says otherwise."""
        self._bound(node.name)
        for inner in ast.walk(node):
            if isinstance(inner, ast.Global):
                self.visit_Global(inner)
            elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
                self.visit_Name(inner)

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef  # noqa: N815 - the names are ast's

    def visit_Name(self, node: ast.Name) -> None:
        """An assignment of any kind, or a use of what can bind names unseen."""
        if isinstance(node.ctx, ast.Store):
            self._bound(node.id)
        elif node.id in _UNKNOWN:
            self.found = True

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """`module.__dict__`, and `sys.modules[__name__].init = ...`."""
        if node.attr in _UNKNOWN or (node.attr == self._name and isinstance(node.ctx, ast.Store)):
            self.found = True
        self.generic_visit(node)

    def visit_alias(self, node: ast.alias) -> None:
        """An import; what a star brings is not known."""
        self._bound(node.asname or node.name.partition(".")[0])
        self.found = self.found or node.name == "*"

    def visit_Global(self, node: ast.Global) -> None:
        """A function that may bind it."""
        self.found = self.found or self._name in node.names

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        """`case ... as name`."""
        self._bound(node.name)
        self.generic_visit(node)
