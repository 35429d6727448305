"""What rewriting knows at each place of a module's syntax tree: the scope, and what the source calls things."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from lkl_green.testing.instrument import build
from lkl_green.testing.instrument.build import at, call, is_generated
from lkl_green.testing.instrument.names import scopes_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lkl_green.testing.instrument.names import Scope


class Context(ast.NodeTransformer):
    """Walks the tree of one module, rewrites variables, and leaves the rest as it is.

    Args:
        tree: of the module. It is changed.
        filename: of the module.

    Attributes:
        sites: the accesses that were found.
    """

    def __init__(self, tree: ast.Module, filename: str) -> None:
        self._filename = filename
        self.sites = build.Sites()
        self._scopes = scopes_of(tree)
        self._scope: Scope = self._scopes[tree]
        self._active = False  # inside a function's body
        self._class = ""
        self._generated: dict[str, str] = {}
        self._imported = _imported(tree)
        self._temporaries = 0

    # -- scopes

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Its body; its decorators and defaults belong to the scope around it."""
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        """As FunctionDef."""
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.decorator_list = self._all(node.decorator_list)
        self._defaults(node.args)
        if node.name != "__del__":
            outer = self._enter(node)
            node.body = self._body(node.body)
            self._leave(outer)
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """As FunctionDef."""
        self._defaults(node.args)
        outer = self._enter(node)
        node.body = self.visit(node.body)
        self._leave(outer)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Its methods only."""
        outer, around = self._enter(node, active=False), self._class
        self._class = node.name
        node.body = self._body(node.body)
        self._class = around
        self._leave(outer)
        return node

    def _enter(self, node: ast.AST, *, active: bool = True) -> tuple[Scope, bool]:
        outer = self._scope, self._active
        self._scope, self._active = self._scopes[node], active
        return outer

    def _leave(self, outer: tuple[Scope, bool]) -> None:
        self._scope, self._active = outer

    def _defaults(self, arguments: ast.arguments) -> None:
        arguments.defaults = self._all(arguments.defaults)
        arguments.kw_defaults = [default and self.visit(default) for default in arguments.kw_defaults]

    def _body(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        new: list[ast.stmt] = []
        for statement in statements:
            made = self.visit(statement)
            new.extend(made if isinstance(made, list) else [made])
        return new

    def _all(self, exprs: Iterable[ast.expr]) -> list[ast.expr]:
        return [self.visit(expr) for expr in exprs]

    # -- sites

    def _site(self, like: ast.AST, name: str, text: str) -> ast.expr:
        return self.sites.new(name, text, "", like)

    def _text(self, node: ast.AST) -> str:
        return build.text_of(node, self._generated)

    def _mangled(self, name: str) -> str:
        """What a private name in a class is for the compiler."""
        owner = self._class.lstrip("_")
        private = name.startswith("__") and not name.endswith("__") and owner
        return f"_{owner}{name}" if private else name

    # -- variables

    def _variable(self, node: ast.AST, name: str) -> ast.expr | None:
        """The site of a variable that needs points; None for others."""
        name = self._mangled(name)
        home = self._scope.home(name) if self._active else None
        if home is None or not home.needs_point(name):
            return None
        text = f"{home.name}.{name}" if home.name else name
        return self.sites.new(name, text, f"{self._filename}::{home.name}" if home.name else self._filename, node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A variable is read."""
        site = self._variable(node, node.id) if isinstance(node.ctx, ast.Load) else None
        return node if site is None else at(node, ast.BoolOp(ast.Or(), [call(node, "name", site), node]))

    def _binds(self, node: ast.stmt, *targets: ast.AST) -> list[ast.stmt]:
        """Points before a statement, for variables that it binds in other ways than by an assignment of one value."""
        names = [name for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        stored = (self._variable(name, name.id) for name in names if not isinstance(name.ctx, ast.Load))
        return [at(node, ast.Expr(call(node, "store", site))) for site in stored if site is not None]

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.AST:
        """A variable is bound in an expression."""
        site = self._variable(node, node.target.id)
        node.value = self.visit(node.value)
        if site is not None:
            node.value = call(node, "store", site, node.value)
        return node

    # -- expressions

    def _is_simple(self, node: ast.expr) -> bool:
        """Whether an expression can be evaluated twice: a constant, or a variable that no other thread binds."""
        if isinstance(node, ast.Name):
            home = self._scope.home(node.id)
            return home is None or not home.needs_point(node.id)
        return isinstance(node, ast.Constant)

    def _key(self, key: ast.expr) -> ast.expr:
        """A key as an expression."""
        if not isinstance(key, ast.Slice):
            return self.visit(key)  # type: ignore[no-any-return]
        parts = [at(key, ast.Constant(None)) if part is None else part for part in (key.lower, key.upper, key.step)]
        return call(key, "slice", *self._all(parts))

    def _is_confined(self, node: ast.AST) -> bool:
        """Whether this is a container that only this call can reach."""
        if not isinstance(node, ast.Name):
            return False
        home = self._scope.home(node.id)
        return home is not None and home.confines(node.id)

    def _is_foreign(self, node: ast.expr) -> bool:
        """Whether this is a variable that pytest has made, and that holds nothing of the program's."""
        return is_generated(node) and node.id not in self._generated  # type: ignore[attr-defined]

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Lists of statements may grow."""
        if node in self._scopes:  # a comprehension, or the module
            outer = self._enter(node, active=self._active)
            super().generic_visit(node)
            self._leave(outer)
            return node
        return super().generic_visit(node)


def _imported(tree: ast.Module) -> frozenset[str]:
    """The names that the module's top level imports."""
    imports = (node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    return frozenset((alias.asname or alias.name).partition(".")[0] for node in imports for alias in node.names)


def is_super(node: ast.expr) -> bool:
    """Whether this is `super()`, which has no attributes of its own."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
