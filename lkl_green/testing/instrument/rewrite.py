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
from typing import TYPE_CHECKING, Any

from lkl_green.testing.instrument import build
from lkl_green.testing.instrument.build import at, call, is_generated, load, spread
from lkl_green.testing.instrument.names import scopes_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lkl_green.testing.instrument.names import Scope

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
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_TEMPORARY = "@lkl_green_{}"


class Rewriter(ast.NodeTransformer):
    """Rewrites one module.

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

    # -- attributes and items

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """An attribute is read, written or deleted."""
        if not self._active or _is_super(node.value) or self._is_foreign(node.value) or _is_special(node.attr):
            self.generic_visit(node)
            return node
        site = self._site(node.value, self._mangled(node.attr), self._text(node.value))
        function = "read" if isinstance(node.ctx, ast.Load) else "write"
        node.value = call(node.value, function, self.visit(node.value), site)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """An item is read; or written or deleted, where the key is a name or a constant."""
        if not self._active:
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
            node.value = self._stored(node.target, node.value)  # type: ignore[arg-type]
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
        if len(node.targets) == 1 and isinstance(target := node.targets[0], ast.Subscript):
            if not self._is_simple(target.slice):
                site = self._site(target.value, "", self._text(target.value))
                pair = call(node, "deleted_pair", self.visit(target.value), self._key(target.slice), site)
                return at(node, ast.Expr(call(target, "delitem", spread(target, pair))))
        before = self._binds(node, *node.targets)
        node.targets = self._all(node.targets)
        return [*before, node]

    # -- containers as a whole

    def _read_whole(self, node: ast.expr) -> ast.expr:
        """An expression whose value is looked at as a whole."""
        text = self._text(node)
        new: ast.expr = self.visit(node)
        refers = isinstance(node, _REFERENCES) and self._active
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
        if not self._active or isinstance(node, _MADE_HERE) or self._is_reader(node):
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
            return self._method(node)
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

    def _is_foreign(self, node: ast.expr) -> bool:
        """Whether this is a variable that pytest has made, and that holds nothing of the program's."""
        return is_generated(node) and node.id not in self._generated  # type: ignore[attr-defined]

    def _is_container_method(self, function: ast.expr) -> bool:
        if is_generated(function):
            return self._generated.get(function.id, "").rpartition(".")[2] in _METHODS  # type: ignore[attr-defined]
        return isinstance(function, ast.Attribute) and function.attr in _METHODS and not _is_super(function.value)

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

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Lists of statements may grow."""
        if node in self._scopes:  # a comprehension, or the module
            outer = self._enter(node, active=self._active)
            super().generic_visit(node)
            self._leave(outer)
            return node
        return super().generic_visit(node)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _is_view(node: ast.expr) -> bool:
    """Whether this is `d.items()` or its like."""
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    return is_method and node.func.attr in ("items", "keys", "values")  # type: ignore[attr-defined]


def _imported(tree: ast.Module) -> frozenset[str]:
    """The names that the module's top level imports."""
    imports = (node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    return frozenset((alias.asname or alias.name).partition(".")[0] for node in imports for alias in node.names)
