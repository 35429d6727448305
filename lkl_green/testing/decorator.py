"""`@schedules(...)`: a test function that, when it is called, is explored."""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from lkl_green.testing.campaign import test_name
from lkl_green.testing.explore import explore
from lkl_green.testing.plain import check_plain
from lkl_green.testing.settings import Settings, check_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lkl_green.testing.policies.base import Policy

_EXPLORED = "__lkl_green_explored__"
_MARK = "schedules"


def schedules(
    count: int | None = Settings.schedules,
    *,
    policy: Policy | str = Settings.policy,
    seed: int = Settings.seed,
    setup: Callable[..., Mapping[str, Any] | None] | None = None,
    shrink: bool = True,
    **options: Any,
) -> Callable[[Callable[..., object]], Callable[..., None]]:
    """Explore the schedules of a test whenever it is called.

    The test keeps its signature. Called by anything but pytest, it is given its arguments once, and its body runs once
    in each schedule with the same values: what is to be new in each, the body makes, or `setup`. The pytest plugin
    treats it as it treats the marker `schedules`: function-scoped fixtures are made anew in each schedule.

    Args:
        count: how many schedules, or what the policy wants; `schedules=` is the same.
        policy: how they are made.
        seed: the same seed gives the same schedules.
        setup: called in each schedule before the test, with those of the test's arguments that it names. A mapping that
            it returns gives the test more arguments; the test's parameters for them need defaults, or pytest would
            look for fixtures of that name.
        shrink: look for the simplest schedule that fails.
        options: what else `explore()` takes.

    Raises:
        NotATest: the decorated function is a coroutine function or a generator function.
        TypeError: `explore()` has no such option.
        ScheduleFailed: when the test is called and fails in some schedule, or not all of them could be run.
    """
    count = options.pop("schedules", count)
    if not isinstance(count, int | None):
        raise TypeError("schedules is a decorator that is called: @schedules() or @schedules(1000)")
    check_options(options)

    def decorate(test: Callable[..., object]) -> Callable[..., None]:
        check_plain(test)
        named = {"name": test_name(test), **options}

        @functools.wraps(test)
        def explore_it(*args: Any, **kwargs: Any) -> None:
            body = bind(test, inspect.signature(test).bind(*args, **kwargs), setup)
            explore(body, schedules=count, policy=policy, seed=seed, shrink=shrink, **named).assert_passed()

        asked = {"schedules": count, "policy": policy, "seed": seed, "setup": setup, "shrink": shrink, **options}
        vars(explore_it)[_EXPLORED] = test, asked
        return explore_it

    return decorate


def explored(test: Any, marks: Iterable[Any] = ()) -> tuple[Any, dict[str, Any]]:
    """The function that `schedules()` was put on, and what it asks for, as options of `explore()` and `setup`.

    Args:
        test: any object.
        marks: of the module that it is from. A marker of pytest counts as the decorator does.

    Raises:
        TypeError: a marker that makes no sense.
    """
    if hasattr(test, _EXPLORED):
        function, options = getattr(test, _EXPLORED)
        return function, dict(options)
    own = getattr(test, "pytestmark", ())
    nearest = next((mark for mark in (*own, *marks) if getattr(mark, "name", "") == _MARK), None)
    return test, {} if nearest is None else options_of(nearest.args, nearest.kwargs)


def options_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a marker `schedules(count, ...)` says, as options of `explore()` and `setup`. Raises TypeError.

    The count may be given as `schedules=`, too, as `explore()` calls it.
    """
    options = dict(kwargs)
    counts = [*args, *(options.pop(name) for name in ("count", "schedules") if name in options)]
    count = counts[0] if counts else None
    if len(counts) > 1 or not isinstance(count, int | None):
        raise TypeError("the marker is schedules(count, *, policy=..., seed=..., ...)")
    check_options(options.keys() - {"setup"})
    if count is not None:
        options["schedules"] = count
    return options


def bind(
    test: Callable[..., object],
    arguments: inspect.BoundArguments,
    setup: Callable[..., Mapping[str, Any] | None] | None = None,
) -> Callable[[], object]:
    """The test as a function without arguments: one schedule's beginning, and its body.

    Args:
        test: it.
        arguments: what it is called with.
        setup: as in `schedules()`.

    Raises:
        TypeError: `setup` wants what is no argument of the test.
    """
    args, kwargs = arguments.args, arguments.kwargs
    if setup is None:
        return functools.wraps(test)(lambda: test(*args, **kwargs))
    check_plain(setup)
    wanted = _arguments_for(setup, test, arguments)

    def body() -> object:
        made = setup(**wanted) or {}
        bound = inspect.BoundArguments(arguments.signature, OrderedDict({**arguments.arguments, **made}))
        unknown = set(made) - set(arguments.signature.parameters)
        if unknown:
            raise TypeError(f"setup made {', '.join(sorted(unknown))}, which the test does not take")
        return test(*bound.args, **bound.kwargs)

    return functools.wraps(test)(body)


def _arguments_for(
    setup: Callable[..., object], test: Callable[..., object], arguments: inspect.BoundArguments
) -> dict[str, Any]:
    given = arguments.arguments
    wanted = inspect.signature(setup).parameters.values()
    for parameter in wanted:
        if parameter.name not in given and parameter.default is parameter.empty:
            name = getattr(test, "__qualname__", test)
            raise TypeError(f"setup wants {parameter.name!r}, which is no argument that {name!s} is called with")
    return {parameter.name: given[parameter.name] for parameter in wanted if parameter.name in given}
