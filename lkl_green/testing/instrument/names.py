"""Which variables of a module need points: those that several functions share and that change.

A local variable that no inner function uses belongs to one call, and so to one thread. Of the others, these need none:

- a global variable that no function declares `global`: only the module's own top level binds it, which is over;
- a variable of a function that is bound once, before the first inner function that uses it, and not in a loop;
- a variable that is only ever bound by `def`, `class` or `import`.

A global variable that another module changes, as `module.x = 1`, is not seen here: reading it has no point in the
module's own functions.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_MADE_HERE = (ast.List, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)

_Position = tuple[int, int]


class _Binding(NamedTuple):
    position: _Position
    in_loop: bool = False
    is_definition: bool = False


class Scope:
    """A module, class, function or comprehension, and the names that it binds.

    Args:
        name: of the function, with those around it.
        kind: "module", "class", "function" or "comprehension".
        parent: the scope around it; None for a module.
    """

    def __init__(self, name: str, kind: str, parent: Scope | None) -> None:
        self.name = name
        self.kind = kind
        self.parent = parent
        self.bindings: dict[str, list[_Binding]] = {}
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        self.declared: set[str] = set()  # of a module: what functions declare `global`; of a function: `nonlocal`
        self.leaks: set[str] = set()  # names whose objects are given away, or come from elsewhere
        self.captured: dict[str, _Position] = {}  # names that inner functions use, with the first of these

    def home(self, name: str) -> Scope | None:
        """The scope that binds a name which is used in this one; None for a builtin."""
        scope: Scope | None = self
        inside = True
        while scope is not None:
            if name in scope.globals:
                scope = scope.module
            is_seen = scope.kind != "class" or inside
            if is_seen and name not in scope.nonlocals and (name in scope.bindings or name in scope.declared):
                return scope
            inside = False
            scope = scope.parent
        return None

    def confines(self, name: str) -> bool:
        """Whether what a local variable holds is made in this function, and is never given away.

        Such a list belongs to one call, and so to one thread.
        """
        return self.kind == "function" and name not in self.leaks and name not in self.captured

    @property
    def module(self) -> Scope:
        """The outermost scope."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    def needs_point(self, name: str) -> bool:
        """Whether accesses to a name that this scope binds need points."""
        if self.kind == "module" or name in self.declared:
            return name in self.declared
        if self.kind != "function" or name not in self.captured:
            return False
        bindings = self.bindings[name]
        if all(binding.is_definition for binding in bindings):
            return False
        first = bindings[0]
        return len(bindings) > 1 or first.in_loop or first.position > self.captured[name]


def scopes_of(tree: ast.Module) -> dict[ast.AST, Scope]:
    """The scope of a module and of each function, class and comprehension in it, by its node."""
    binder = _Binder()
    binder.enter(tree, Scope("", "module", None))
    uses = _Uses(binder.scopes)
    uses.visit(tree)
    return binder.scopes


class _Walker(ast.NodeVisitor):
    """Walks a tree and knows the scope."""

    def __init__(self, scopes: dict[ast.AST, Scope]) -> None:
        self.scopes = scopes
        self.scope: Scope

    def visit(self, node: ast.AST) -> None:
        """Change the scope at a node that has one; what stands outside its body belongs to the scope around it."""
        inner = self.scopes.get(node)
        if inner is None:
            super().visit(node)
            return
        inside = _inside(node)
        known = set(map(id, inside))
        for child in ast.iter_child_nodes(node):
            if id(child) not in known:
                self.visit(child)  # decorators, defaults, bases
        outer = getattr(self, "scope", inner)
        self.scope = inner
        for child in inside:
            self.visit(child)
        self.scope = outer


def _inside(node: ast.AST) -> list[ast.AST]:
    """What belongs to the scope that a node opens."""
    if isinstance(node, _COMPREHENSIONS):
        return list(ast.iter_child_nodes(node))
    body = getattr(node, "body", [])
    return body if isinstance(body, list) else [body]


class _Binder(_Walker):
    """Finds the scopes, and what they bind."""

    def __init__(self) -> None:
        super().__init__({})
        self._loops = 0

    def enter(self, node: ast.AST, scope: Scope) -> None:
        self.scopes[node] = scope
        loops, self._loops = self._loops, 0
        super().visit(node)
        self._loops = loops

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, _FUNCTIONS):
            name = getattr(node, "name", "<lambda>")
            if not isinstance(node, ast.Lambda):
                self._bind(name, node, is_definition=True)
            scope = self._inner(name, "function")
            arguments = node.args
            for argument in (
                *arguments.posonlyargs,
                *arguments.args,
                *arguments.kwonlyargs,
                *filter(None, (arguments.vararg, arguments.kwarg)),
            ):
                scope.bindings[argument.arg] = [_Binding((0, 0))]
                scope.leaks.add(argument.arg)
            self.enter(node, scope)
        elif isinstance(node, ast.ClassDef):
            self._bind(node.name, node, is_definition=True)
            self.enter(node, self._inner(node.name, "class"))
        elif isinstance(node, _COMPREHENSIONS):
            self.enter(node, self._inner("", "comprehension"))
        elif isinstance(node, _LOOPS):
            self._loops += 1
            super().visit(node)
            self._loops -= 1
        elif isinstance(node, ast.NamedExpr):
            self._bind(node.target.id, node, self._outside_comprehensions())
            self.visit(node.value)
        else:
            self._look(node)
            super().visit(node)

    def _inner(self, name: str, kind: str) -> Scope:
        outer = self.scope.name
        return Scope(f"{outer}.{name}".strip("."), kind, self.scope)

    def _outside_comprehensions(self) -> Scope:
        """Where an assignment expression binds its name."""
        scope = self.scope
        while scope.kind == "comprehension" and scope.parent is not None:
            scope = scope.parent
        return scope

    def _look(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            self._bind(node.id, node)
        elif isinstance(node, ast.alias):
            self._bind((node.asname or node.name).partition(".")[0], node, is_definition=True)
        elif isinstance(node, ast.Global):
            self.scope.globals.update(node.names)
            self.scope.module.declared.update(node.names)
        elif isinstance(node, ast.Nonlocal):
            self.scope.nonlocals.update(node.names)
        else:
            name = getattr(node, "rest", None) if isinstance(node, ast.MatchMapping) else getattr(node, "name", None)
            if isinstance(name, str):  # except ... as name, case ... as name
                self._bind(name, node)
                self.scope.leaks.add(name)

    def _bind(self, name: str, node: ast.AST, scope: Scope | None = None, *, is_definition: bool = False) -> None:
        position = (getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
        binding = _Binding(position, self._loops > 0, is_definition)
        (scope or self.scope).bindings.setdefault(name, []).append(binding)


class _Uses(_Walker):
    """Finds which names of functions are used by inner functions, and where these begin."""

    def __init__(self, scopes: dict[ast.AST, Scope]) -> None:
        super().__init__(scopes)
        self._functions: list[tuple[Scope, _Position]] = []
        self._kept: set[int] = set()  # uses of variables that give nothing away, by the id of the node

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, _FUNCTIONS):
            self._functions.append((self.scopes[node], (node.lineno, node.col_offset)))
            super().visit(node)
            self._functions.pop()
            return
        if isinstance(node, ast.Nonlocal):
            for name in node.names:
                self._declare(name)
        elif isinstance(node, ast.Name):
            self._use(node.id)
            if id(node) not in self._kept:
                self._leak(node.id)
        else:
            self._kept.update(map(id, _kept_by(node)))
        super().visit(node)

    def _leak(self, name: str) -> None:
        home = self.scope.home(name)
        if home is not None:
            home.leaks.add(name)

    def _declare(self, name: str) -> None:
        parent = self.scope.parent
        home = None if parent is None else parent.home(name)
        if home is not None:
            home.declared.add(name)

    def _use(self, name: str) -> None:
        home = self.scope.home(name)
        if home is None or home.kind != "function":
            return
        for scope, position in self._functions:  # the outermost function inside the home that uses the name
            if _is_inside(scope, home):
                home.captured[name] = min(position, home.captured.get(name, position))
                return


def _kept_by(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node at which a variable can stand without giving away the container that it holds."""
    if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, _MADE_HERE):
        yield from node.targets if isinstance(node, ast.Assign) else [node.target]
    elif isinstance(node, ast.For | ast.comprehension):
        yield node.iter
    elif isinstance(node, ast.Subscript):
        yield node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        yield node.func.value  # a method of a container does not give the container away
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len":
        yield from node.args
    elif isinstance(node, ast.Compare) and isinstance(node.ops[-1], ast.In | ast.NotIn):
        yield node.comparators[-1]


def _is_inside(scope: Scope, home: Scope) -> bool:
    outer = scope.parent
    while outer is not None:
        if outer is home:
            return True
        outer = outer.parent
    return False
