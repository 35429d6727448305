"""Rewritten code does what the code did: values, exceptions, line numbers, positions, order of evaluation."""

from __future__ import annotations

import ast
import itertools
import re
import traceback
import warnings
from textwrap import dedent
from typing import Any

import pytest

from lkl_green.kernel.current import running_here
from lkl_green.testing.instrument.announce import FUNCTIONS, GATE
from lkl_green.testing.instrument.rewrite import Rewriter
from lkl_green.testing.instrument.site import link

# Each defines `run()`.
SNIPPETS = {
    "attributes": """
        class C:
            shared = 1
            def __init__(self): self.a = self.__private = 1
            def add(self): self.a += 2; self.__private -= 1; del self.shared_not
        def run():
            c = C()
            try: c.add()
            finally: print(vars(c), C.shared)
    """,
    "order of evaluation": """
        def say(what, value): print(what); return value
        def run():
            d = {}; holder = [d]
            say("object", holder)[say("zero", 0)][say("key", "k")] = say("value", 1)
            holder[say("i", 0)][say("key", "k")] += say("added", 2)
            del say("object", d)[say("key", "k")]
            print(d)
    """,
    "an error keeps its line and columns": """
        class C: pass
        def run():
            c = C()
            return (1 +
                    c.missing)
    """,
    "a key that is missing": """
        def key(): return "k"
        def run(d={}):
            d["a"] = 1
            return d[key()]
    """,
    "a container that changes while it is iterated": """
        def run(d=dict.fromkeys(range(3))):
            for k in d.keys():
                d[k + 10] = 1
    """,
    "a call of C that fails": """
        def run(items=[1]):
            items.append(2, 3)
    """,
    "closures": """
        def run():
            n = 0
            def add(k):
                nonlocal n
                n += k
                return lambda: n
            read = add(2); add(3)
            def loop():
                for n2 in range(3): yield lambda: n2
            print(n, read(), [f() for f in loop()], [f() for f in list(loop())])
    """,
    "globals": """
        total = 0
        def add():
            global total, other
            total += 1
            for other in (1, 2): pass
            with open(__file__) if 0 else __import__("contextlib").nullcontext(5) as other: pass
            del other
            return total
        def run():
            print(add(), add(), "other" in globals())
    """,
    "walrus, match, star": """
        def run():
            a, *b = [1, 2, 3]
            (first, [second]) = 1, [2]
            if (n := len(b)) == 2: print(n, *b, {**{"x": a}})
            match {"k": [1, b]}:
                case {"k": [1, [x, *rest]], **more} if rest: print(x, rest, more)
            print([y for x in b if (y := x * 2)], {k: v for k, v in {1: b}.items()})
    """,
    "super, __class__, slots, properties, enums": """
        import enum
        class A:
            __slots__ = ("x",)
            def __init__(self): self.x = 1
            @property
            def twice(self): return self.x * 2
            @twice.setter
            def twice(self, value): self.x = value // 2
        class B(A):
            def __init__(self): super().__init__(); self.x += 1; self.kind = __class__.__name__
        class Colour(enum.Enum):
            RED = 1
            def next(self): return Colour(self.value)
        def run():
            b = B(); b.twice += 4
            print(b.x, b.kind, Colour.RED.next(), Colour["RED"], A.x.__name__)
    """,
    "generators and coroutines": """
        class Box: value = 0
        async def add(box):
            box.value += await one()
            return [v async for v in values(box)]
        async def one(): return 1
        async def values(box):
            for v in [box.value]: yield v
        def numbers(box):
            received = yield from [box.value]
            box.value = yield received
            return 7
        def run():
            box = Box()
            try: add(box).send(None)
            except StopIteration as end: print(end.value)
            g = numbers(box)
            print(next(g), next(g))
            try: g.send(5)
            except StopIteration as end: print(end.value, box.value)
    """,
    "slices and augmented items": """
        def run():
            a = list(range(6)); grid = [[0] * 2 for _ in range(2)]
            a[1:3] = [9]; a[-1] += 1; a[:2] += [7]; del a[2:3]
            grid[a[0]][len(grid) - 1] += 5
            alias = a; alias += [1]
            print(a, grid, a[::2], alias is a)
    """,
    "containers": """
        import collections, heapq
        def run():
            d, s, q = {1: 2}, {3}, collections.deque([4])
            d.update(x=1); d.setdefault("y", []).append(5); s.add(6); q.appendleft(7); q.extend(s)
            heap = [3, 1]; heapq.heapify(heap); heapq.heappush(heap, 0)
            print(d.pop(1), d.get("z", 0), sorted(d, key=str), len(q), 6 in s, not s, bool(d) and q and heap)
            print(",".join(map(str, heap)), max(*heap), [*q], list(zip(heap, q)), "".join(["a"]))
    """,
    "locals, exec and eval see the function": """
        def run(items=[1]):
            a = len(items)
            b = a + 1
            print(sorted(locals()), eval("a + b"), dir())
    """,
    "try, finally, with": """
        class Guard:
            def __init__(self): self.log = []
            def __enter__(self): self.log.append("in"); return self
            def __exit__(self, *error): self.log.append(error[0]); return True
        def run():
            guard = Guard()
            with guard as guard.me, guard as again:
                again.log[5]
            try: guard.nothing
            except AttributeError as error: print(error.args, error.name)
            finally: print(guard.log)
    """,
    "decorators and defaults": """
        import functools
        class Registry: names = []
        def register(f): Registry.names.append(f.__name__); return f
        def run():
            @register
            @functools.lru_cache
            def inner(a, b=Registry.names, *, c=len(Registry.names)):
                '''its text'''
                return a, len(b), c
            print(inner(1), inner.__wrapped__.__doc__, inner.__wrapped__.__code__.co_firstlineno)
    """,
    "a dataclass and a named tuple": """
        import dataclasses, typing
        @dataclasses.dataclass(order=True)
        class P:
            x: int
            y: list = dataclasses.field(default_factory=list)
            def moved(self): return dataclasses.replace(self, x=self.x + 1)
        class T(typing.NamedTuple):
            a: int
            def twice(self) -> "T": return self._replace(a=self.a * 2)
        def run():
            print(P(1).moved(), P(1) < P(2), T(2).twice(), T(1)[0])
    """,
}


@pytest.fixture
def announced() -> Any:
    """Points are announced to a list, as in a schedule with more than one task."""
    places: list[tuple[str, str]] = []
    kernel: Any = object()
    running_here.kernel = kernel
    GATE.open(kernel, None, 1 << 40, lambda kind, place: places.append((kind, place.called(lambda _, k: k))), list)
    yield places
    GATE.close()
    running_here.kernel = None


def executed(source: str, capsys: pytest.CaptureFixture[str], *, rewrite: bool) -> tuple[str, str, list[object]]:
    """What a snippet prints, how it fails, and where."""
    tree = ast.parse(dedent(source), "snippet.py")
    marks = dict(FUNCTIONS)
    if rewrite:
        rewriter = Rewriter(tree, "snippet.py")
        rewriter.visit(tree)
        marks |= rewriter.sites.by_mark
    namespace = executed_tree(tree, marks)
    error, places = "", []
    try:
        namespace["run"]()
    except Exception as raised:
        error = re.sub(r"\b0x[0-9a-f]+", "0x...", repr(raised))
        frames = traceback.extract_tb(raised.__traceback__)
        places = [(f.lineno, f.colno, f.end_colno, f.name) for f in frames if f.filename == "snippet.py"]
    return capsys.readouterr().out, error, places


def executed_tree(tree: ast.Module, marks: dict[str, Any]) -> dict[str, Any]:
    """The globals of a module, given its tree."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mark is a string that is called
        code = compile(tree, "snippet.py", "exec", dont_inherit=True)
    namespace: dict[str, Any] = {"__name__": "snippet", "__file__": "snippet.py"}
    exec(link(code, marks), namespace)
    return namespace


@pytest.mark.parametrize("name", SNIPPETS)
def test_rewritten_code_does_the_same(name: str, capsys: Any, announced: list[Any]) -> None:
    plain = executed(SNIPPETS[name], capsys, rewrite=False)
    assert not announced
    assert executed(SNIPPETS[name], capsys, rewrite=True) == plain
    assert announced


ACCESSES = {
    "self.count += 1": ["read C.count", "write C.count"],
    "self.count = 2": ["write C.count"],
    "del self.count": ["write C.count"],
    "self.items[0] += 1": ["read C.items", "read self.items[0]", "write self.items[0]"],
    "self.items[-1]": ["read C.items", "read self.items[...]"],
    "1 in self.items": ["read C.items", "read self.items"],
    "not self.items": ["read C.items", "read self.items"],
    "self.items and 1": ["read C.items", "read self.items"],
    "len(self.items)": ["read C.items", "read self.items"],
    "a, b, c = self.items": ["read C.items", "read self.items"],
    "self.items.append(4)": ["read C.items", "write self.items"],
    "self.by_name.get('x')": ["read C.by_name", "read self.by_name['x']"],
    "self.by_name.pop('x')": ["read C.by_name", "write self.by_name['x']"],
    "heapq.heappush(self.items, 0)": ["read C.items", "write self.items"],
    "[x for x in self.items]": ["read C.items", *["read self.items"] * 4],
    "[x for x in self.by_name.items()]": ["read C.by_name", "read self.by_name", *["read self.by_name"] * 2],
    "self.__private": ["read C._C__private"],
    "self.method()": [],
    "self.total": ["read class C.total"],
    "C.total += 1": ["read class C.total", "write class C.total"],
    "global shared; shared += 1": ["read shared", "write shared"],
    "constant + 1": [],
    "mine = [1]; mine.append(2); len(mine); mine[0]": [],
}


@pytest.mark.parametrize("statement", ACCESSES)
def test_accesses_are_announced_in_order(statement: str, capsys: Any, announced: list[Any]) -> None:
    source = f"""
        import heapq
        shared = constant = 0
        class C:
            total = 0
            def method(self): pass
            def access(self):
                {statement}
        def run(clear):
            c = C()
            vars(c).update(count=0, items=[1, 2, 3], by_name=dict(x=1), _C__private=0)
            clear()
            c.access()
    """
    tree = ast.parse(dedent(source), "snippet.py")
    rewriter = Rewriter(tree, "snippet.py")
    rewriter.visit(tree)
    executed_tree(tree, FUNCTIONS | rewriter.sites.by_mark)["run"](announced.clear)
    assert [f"{kind} {place}" for kind, place in announced] == ACCESSES[statement]


SHARED_VARIABLES = {
    "n = 0\n    def inner(): return n": False,
    "def inner(): return n\n    n = 0": True,
    "for n in range(3):\n        def inner(): return n": True,
    "n = 0\n    def inner():\n        nonlocal n\n        n = 1": True,
    "n = 0\n    n = 1\n    def inner(): return n": True,
    "def n(): pass\n    def inner(): return n": False,
    "n = 0\n    return n": False,
    "n = 0\n    return [n for _ in ()]": False,
}


@pytest.mark.parametrize("body", SHARED_VARIABLES)
def test_variables_that_cannot_change_behind_a_function_have_no_points(body: str) -> None:
    tree = ast.parse(f"def outer():\n    {body}\n")
    rewriter = Rewriter(tree, "")
    rewriter.visit(tree)
    variables = [site for site in rewriter.sites.by_mark.values() if site.name == "n"]
    assert bool(variables) is SHARED_VARIABLES[body]


def test_every_rewritten_node_has_a_place_in_the_source() -> None:
    for source in SNIPPETS.values():
        tree = ast.parse(dedent(source))
        Rewriter(tree, "").visit(tree)
        nodes = itertools.chain.from_iterable(map(ast.walk, tree.body))
        assert all(hasattr(node, "lineno") for node in nodes if isinstance(node, ast.expr | ast.stmt))
