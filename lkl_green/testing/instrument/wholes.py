"""Containers as a whole, rewritten: what reads or changes all of a list, dict, set or deque at once."""

from __future__ import annotations

import ast
from typing import Any

from lkl_green.testing.instrument import build
from lkl_green.testing.instrument.build import call, is_generated, spread
from lkl_green.testing.instrument.context import Context, is_super

# Methods of the mutable containers, and of strings what reads one.
_METHODS = frozenset((
    *("append", "appendleft", "extend", "extendleft", "insert", "remove", "pop", "popleft", "clear", "sort", "reverse"),
    *("rotate", "index", "count", "copy", "get", "items", "keys", "values", "setdefault", "popitem", "update"),
    *("add", "discard", "union", "intersection", "difference", "symmetric_difference", "issubset", "issuperset"),
    *("isdisjoint", "intersection_update", "difference_update", "symmetric_difference_update", "join"),
    *("move_to_end", "most_common", "subtract", "elements"),
))  # fmt: skip

# Built-in functions and types that read the containers which they are given.
_READERS = frozenset((
    *("all", "any", "bool", "bytearray", "bytes", "dict", "enumerate", "filter", "frozenset", "iter", "len", "list"),
    *("map", "max", "min", "repr", "reversed", "set", "sorted", "str", "sum", "tuple", "zip"),
))  # fmt: skip

# Expressions that may stand for an object which was made elsewhere.
_REFERENCES = (ast.Name, ast.Attribute, ast.Subscript)
_MADE_HERE = (ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp)


class Wholes(Context):
    """Rewrites iteration, membership, truth, unpacking, and calls that are given containers or are their methods."""

    def _read_whole(self, node: ast.expr) -> ast.expr:
        """An expression whose value is looked at as a whole."""
        text = self._text(node)
        new: ast.expr = self.visit(node)
        refers = isinstance(node, _REFERENCES) and self._active and not self._is_confined(node)
        return call(node, "whole", new, self._site(node, "", text)) if refers else new

    def _truth(self, node: ast.expr) -> ast.expr:
        """An expression that is asked whether it is true."""
        if isinstance(node, ast.BoolOp):
            node.values = [self._truth(value) for value in node.values]
            return node
        return self._read_whole(node) if not is_generated(node) else node

    def _asserted(self, node: ast.expr) -> ast.expr:
        """What an assertion tests: without points for truth, which it has not if pytest has rewritten it."""
        if isinstance(node, ast.BoolOp):
            node.values = [self._asserted(value) for value in node.values]
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            node.operand = self._asserted(node.operand)
        else:
            return self.visit(node)  # type: ignore[no-any-return]
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        """Its test; its message is not evaluated if it holds."""
        if self._active:
            node.test = self._asserted(node.test)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """All values but the last are asked whether they are true."""
        node.values = [*map(self._truth, node.values[:-1]), self.visit(node.values[-1])]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """`not` asks whether its operand is true."""
        node.operand = self._truth(node.operand) if isinstance(node.op, ast.Not) else self.visit(node.operand)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        """Its test is asked whether it is true."""
        node.test, node.body, node.orelse = self._truth(node.test), self.visit(node.body), self.visit(node.orelse)
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        """Its test is asked whether it is true."""
        if not build.is_failing_branch(node):
            node.test = self._truth(node.test)
            node.body, node.orelse = self._body(node.body), self._body(node.orelse)
        return node

    def visit_While(self, node: ast.While) -> ast.AST:
        """Its test is asked whether it is true."""
        node.test = self._truth(node.test)
        node.body, node.orelse = self._body(node.body), self._body(node.orelse)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """`in` looks at its container as a whole."""
        node.left = self.visit(node.left)
        node.comparators = [
            self._read_whole(value) if isinstance(op, ast.In | ast.NotIn) else self.visit(value)
            for op, value in zip(node.ops, node.comparators, strict=True)
        ]
        return node

    def visit_Starred(self, node: ast.Starred) -> ast.AST:
        """Unpacking looks at a container as a whole."""
        node.value = self._read_whole(node.value) if isinstance(node.ctx, ast.Load) else self.visit(node.value)
        return node

    def _steps(self, node: ast.expr) -> ast.expr:
        """What is iterated over: a point before each step."""
        text = self._text(node.func.value if _is_view(node) else node)  # type: ignore[attr-defined]
        new: ast.expr = self.visit(node)
        if not self._active or isinstance(node, _MADE_HERE) or self._is_reader(node) or self._is_confined(node):
            return new
        return call(node, "steps", new, self._site(node, "", text))

    def visit_For(self, node: ast.For) -> Any:
        """A point before each step."""
        before = self._binds(node, node.target)
        node.iter, node.target = self._steps(node.iter), self.visit(node.target)
        node.body, node.orelse = self._body(node.body), self._body(node.orelse)
        return [*before, node]

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """A point before each step."""
        node.iter = self.visit(node.iter) if node.is_async else self._steps(node.iter)
        node.target = self.visit(node.target)
        node.ifs = [self._truth(test) for test in node.ifs]
        return node

    # -- calls

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Methods that containers have, and functions that are given containers."""
        if not self._active or self._is_foreign(node.func):
            self.generic_visit(node)
            return node
        if self._is_container_method(node.func):
            if not self._is_confined(getattr(node.func, "value", node.func)):
                return self._method(node)
            node.args, node.keywords = self._all(node.args), [self.visit(keyword) for keyword in node.keywords]
            return node
        reads, imported = self._is_reader(node), self._is_imported(node.func)
        node.func = self.visit(node.func)
        node.args = [self._argument(arg, reads, imported) for arg in node.args]
        node.keywords = [self.visit(keyword) for keyword in node.keywords]
        return node

    def _argument(self, node: ast.expr, reads: bool, imported: bool) -> ast.expr:
        if reads:
            return self._read_whole(node)
        text = self._text(node)
        new: ast.expr = self.visit(node)
        if not imported or not isinstance(node, _REFERENCES):
            return new
        return call(node, "changed", new, self._site(node, "", text))

    def _is_container_method(self, function: ast.expr) -> bool:
        if is_generated(function):
            return self._generated.get(function.id, "").rpartition(".")[2] in _METHODS  # type: ignore[attr-defined]
        return isinstance(function, ast.Attribute) and function.attr in _METHODS and not is_super(function.value)

    def _method(self, node: ast.Call) -> ast.AST:
        text = self._text(node.func).rpartition(".")[0]
        function, args = self.visit(node.func), self._all(node.args)
        keywords = [self.visit(keyword) for keyword in node.keywords]
        made = call(node, "method", self._site(node, "", text), function, *args)
        return call(node, "call", spread(node, made), keywords=keywords)

    def _is_reader(self, node: ast.expr) -> bool:
        """Whether this is a call of a built-in function that reads the containers which it is given."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in _READERS:
            return False
        return self._scope.home(node.func.id) is None

    def _is_imported(self, function: ast.expr) -> bool:
        """Whether a function comes from another module, such as `heapq.heappush`: it may change what it is given."""
        root = function.value if isinstance(function, ast.Attribute) else function
        return isinstance(root, ast.Name) and root.id in self._imported


def _is_view(node: ast.expr) -> bool:
    """Whether this is `d.items()` or its like."""
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    return is_method and node.func.attr in ("items", "keys", "values")  # type: ignore[attr-defined]
