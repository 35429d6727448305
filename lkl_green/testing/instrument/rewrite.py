"""The syntax tree of a module, rewritten: an announcement before each access, as `announce` describes it.

Only the bodies of functions are rewritten, those of lambdas, inner functions, generators and coroutines, too. What runs
when a module is imported or a class is made is not: it runs once, and has no code object that could be exchanged.

The rewritten module has the same functions in the same places, and each has the same variables, but for temporary ones
whose names no source can have. Positions in the source are kept.

Left as they are: `__del__`, which may run anywhere, even in the scheduler; annotations; the patterns of `match`;
`super().x`; and what pytest's rewriting of assertions has added.
"""

from __future__ import annotations

import ast
from typing import Any

from lkl_green.testing.instrument import build
from lkl_green.testing.instrument.build import at, call, is_generated, load, spread
from lkl_green.testing.instrument.context import is_super
from lkl_green.testing.instrument.wholes import Wholes

_TEMPORARY = "@lkl_green_{}"


class Rewriter(Wholes):
    """Rewrites one module: attributes and items, and the statements that bind or delete."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """An attribute is read, written or deleted."""
        if not self._active or is_super(node.value) or self._is_foreign(node.value) or _is_special(node.attr):
            self.generic_visit(node)
            return node
        site = self._site(node.value, self._mangled(node.attr), self._text(node.value))
        function = "read" if isinstance(node.ctx, ast.Load) else "write"
        node.value = call(node.value, function, self.visit(node.value), site)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """An item is read; or written or deleted, where the key is a name or a constant."""
        if not self._active or self._is_confined(node.value):
            self.generic_visit(node)
            return node
        site = self._site(node.value, "", self._text(node.value))
        value, key = self.visit(node.value), node.slice
        loads = isinstance(node.ctx, ast.Load)
        if self._is_simple(key):
            node.value = call(node.value, "item" if loads else "set_item", value, key, site)
        elif loads:
            return call(node, "getitem", spread(node, call(node, "pair", value, self._key(key), site)))
        else:  # among several targets: the point comes before the key is evaluated
            node.value = call(node.value, "changed", value, site)
            node.slice = self.visit(key)
        return node

    # -- statements that bind

    def visit_Assign(self, node: ast.Assign) -> Any:
        """The value, a point, the store."""
        if not self._active:
            self.generic_visit(node)
            return node
        if len(node.targets) == 1:
            target = node.targets[0]
            if is_generated(target):
                self._generated[target.id] = self._text(node.value)  # type: ignore[attr-defined]
            if isinstance(target, ast.Name):
                node.value = self._stored(target, self.visit(node.value))
                return node
            if isinstance(target, ast.Subscript) and not self._is_simple(target.slice):
                if self._is_confined(target.value):
                    self.generic_visit(node)
                    return node
                return self._set_item(node, target, node.value)
        before = self._binds(node, *node.targets)
        unpacks = any(isinstance(target, ast.Tuple | ast.List) for target in node.targets)
        node.value = self._read_whole(node.value) if unpacks else self.visit(node.value)
        node.targets = self._all(node.targets)
        return [*before, node]

    def _stored(self, target: ast.Name, value: ast.expr) -> ast.expr:
        site = self._variable(target, target.id)
        return value if site is None else call(target, "store", site, value)

    def _set_item(self, node: ast.stmt, target: ast.Subscript, value: ast.expr) -> ast.stmt:
        value, site = self.visit(value), self._site(target.value, "", self._text(target.value))
        triple = call(node, "triple", value, self.visit(target.value), self._key(target.slice), site)
        return at(node, ast.Expr(call(target, "setitem", spread(target, triple))))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        """As an assignment; what is not one declares only, and its annotation is left alone."""
        if not self._active or node.value is None:
            return node
        node.value = self.visit(node.value)
        if isinstance(node.target, ast.Name):
            node.value = self._stored(node.target, node.value)
        else:
            node.target = self.visit(node.target)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        """Two points: before the load, and between the value and the store."""
        if not self._active:
            return node
        target = node.target
        if isinstance(target, ast.Name):
            return self._augmented_variable(node, target)
        before: list[ast.stmt] = []
        target.value = self._once(target.value, before)
        text, like = self._text(target.value), target.value
        if isinstance(target, ast.Attribute):
            args, functions = [like], ("read", "update")
            name = self._mangled(target.attr)
        else:
            target.slice = self._once(target.slice, before)
            args, functions = [like, target.slice], ("item", "update_item")
            name = ""
        node.value = call(target, functions[1], *args, self._site(like, name, text), self.visit(node.value))
        target.value = call(like, functions[0], *args, self._site(like, name, text))
        after = [build.assign(node, made.targets[0].id, at(node, ast.Constant(None))) for made in before]  # type: ignore[attr-defined]
        return [*before, node, *after]

    def _once(self, node: ast.expr, before: list[ast.stmt]) -> ast.expr:
        """An expression that can be evaluated twice; a temporary variable if need be, bound before the statement."""
        if self._is_simple(node):
            return node
        text = self._text(node)
        name = _TEMPORARY.format(self._temporaries)
        self._temporaries += 1
        self._generated[name] = text
        before.append(build.assign(node, name, self._key(node)))
        return load(node, name)

    def _augmented_variable(self, node: ast.AugAssign, target: ast.Name) -> Any:
        site = self._variable(target, target.id)
        constant = isinstance(node.value, ast.Constant)
        node.value = self.visit(node.value)
        if site is not None:
            first = self._variable(target, target.id)
            assert first is not None
            node.value = call(target, "store", site, node.value)
            return [at(node, ast.Expr(call(target, "name", first))), node]
        if not constant:  # `items += [x]` changes a list in place
            whole = self._site(target, "", self._text(target))
            node.value = call(target, "update_whole", load(target, target.id), whole, node.value)
        return node

    def visit_Delete(self, node: ast.Delete) -> Any:
        """A point before each deletion."""
        if not self._active:
            return node
        target = node.targets[0]
        if len(node.targets) == 1 and isinstance(target, ast.Subscript) and not self._is_simple(target.slice):
            site = self._site(target.value, "", self._text(target.value))
            pair = call(node, "deleted_pair", self.visit(target.value), self._key(target.slice), site)
            return at(node, ast.Expr(call(target, "delitem", spread(target, pair))))
        before = self._binds(node, *node.targets)
        node.targets = self._all(node.targets)
        return [*before, node]

    # -- left as they are

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        """The pattern is left alone."""
        node.guard = node.guard and self._truth(node.guard)
        node.body = self._body(node.body)
        return node

    def visit_TypeAlias(self, node: ast.AST) -> ast.AST:
        """Its value is evaluated when somebody asks for it."""
        return node

    def visit_With(self, node: ast.With) -> Any:
        """`as` binds."""
        targets = [item.optional_vars for item in node.items if item.optional_vars is not None]
        before = self._binds(node, *targets)
        self.generic_visit(node)
        return [*before, node]


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
