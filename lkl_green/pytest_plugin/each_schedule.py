"""A test whose function-scoped set-up is done anew in each schedule.

pytest runs an item in three phases: set-up, call, tear-down. For an explored item they are divided differently:

    set-up     fixtures with a wider scope (class, module, package, session) are made, outside every kernel
    call       the schedules; each of them sets up what is left, calls the test, and tears it down, in its main thread
    tear-down  fixtures with a wider scope are finished, as for any other item

So a schedule is what a whole run of the test would be. The item's own `setup()`, `runtest()` and `teardown()` are
called in it, those of its class: subclasses, such as those for unittest and pytest-asyncio, need not know of schedules.

*What is put back before each schedule.* The item's fixture values, its request, the instance of its class, markers that
fixtures have added, and what caplog has caught. A fixture with a wider scope gets a finalizer from each function-scoped
fixture that uses it; these are removed, or a thousand schedules would leave a thousand of them.

*Tear-down always runs.* After a failing test it runs inside the schedule. The failure is noted before, so that a
tear-down that blocks does not hide it. In a schedule that is cut off (a deadlock, too many steps) the main thread is
taken out of its frames, and tear-down runs on that way: there, whatever blocks raises. What even then did not run is
done before the next schedule begins.
"""

from __future__ import annotations

import sys
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.fixtures import FixtureDef

from lkl_green.errors import TaskUnwind
from lkl_green.pytest_plugin.event_loops import AnyioRunner
from lkl_green.pytest_plugin.garbage import Garbage
from lkl_green.pytest_plugin.method import Method
from lkl_green.testing.early import note_failure, nothing_decided
from lkl_green.testing.plain import check_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Literal, TypeAlias

    Setup: TypeAlias = Callable[..., Mapping[str, Any] | None]
    Phase: TypeAlias = Literal["setup", "call", "teardown"]

# What counts as a failure. Other outcomes of pytest (skip, xfail, exit) end the campaign.
_FAILURES = (Exception, pytest.fail.Exception)


class SetUpFailed(BaseException):
    """Set-up failed before anything was decided, so that it fails in every schedule. The cause is what it raised."""


class EachSchedule:
    """An item's set-up, call and tear-down as one function, to be run in each schedule.

    Args:
        item: a test that pytest has collected.
        function: what to call instead of the item's own function; None: that one.
        setup: called before the test, with those of its arguments that it names. A mapping that it returns gives the
            test more arguments.

    Attributes:
        inner: called instead of the item's `runtest()`, if it is set.
    """

    def __init__(
        self, item: pytest.Function, function: Callable[..., object] | None = None, setup: Setup | None = None
    ) -> None:
        self.item = item
        self.inner: Callable[[], object] | None = None
        self._method = Method(item, function)
        self._setup = setup
        self._stack = item.session._setupstate.stack
        self._finalizers: list[Callable[[], object]] = []
        self._wider: dict[str, FixtureDef[Any]] = {}
        self._lengths: list[tuple[list[Any], int]] = []
        self._caplog: Any = None
        self._anyio = AnyioRunner()
        self._garbage = Garbage()
        self._subtest_failures: list[BaseException] = []
        self._phases: dict[int, tuple[BaseException, Phase]] = {}

    # -- once, outside the kernel

    def check(self) -> None:
        """Raises TypeError if `setup` is not a plain function, or wants what is not an argument of the test."""
        if self._setup is not None:
            check_plain(self._setup)
            self._method.check_setup(self._setup)

    def take_over(self) -> None:
        """Let pytest's phases do what is left for them; `runtest()` is the caller's to set."""
        own = vars(self.item)
        own["setup"] = self._set_up_wider
        own["teardown"] = lambda: None
        if hasattr(self.item, "addSubTest"):
            own["addSubTest"] = self._note_subtest

    def _set_up_wider(self) -> None:
        """Make the fixtures with a wider scope that the test is known to use."""
        item = self.item
        definitions = item._fixtureinfo.name2fixturedefs
        for name in list(item.fixturenames):
            found = definitions.get(name)
            if found and self._scope(name, found[-1]) != "function":
                item._request.getfixturevalue(name)
                self._wider[name] = item._request._get_active_fixturedef(name)

    def _scope(self, name: str, definition: FixtureDef[Any]) -> str:
        """As parametrize() has it, which may give a fixture another scope."""
        callspec = getattr(self.item, "callspec", None)
        given = None if callspec is None else callspec._arg2scope.get(name)
        return definition.scope if given is None else str(given.value)

    def wider_values(self) -> dict[str, tuple[str, object]]:
        """Scope and value of each fixture with a wider scope that the test uses, by name."""
        results = {name: (fixture.scope, fixture.cached_result) for name, fixture in self._wider.items()}
        return {name: (scope, result[0]) for name, (scope, result) in results.items() if result is not None}

    def as_test(self) -> Callable[[], None]:
        """One schedule, as a plain function.

        It is named like the test, and its closure holds what the test's would, because the replacements for `threading`
        look there for locks that were made before.

        Raises:
            TypeError: an event loop has been made that would outlive the schedules.
        """
        self._anyio.check()
        self._remember()
        held = [value for _scope, value in self.wider_values().values()]
        run = self._run

        @wraps(self._method.function)
        def schedule() -> None:
            run(held)

        vars(schedule).pop("is_hypothesis_test", None)  # its examples come from outside
        return schedule

    def _remember(self) -> None:
        """What every schedule begins with."""
        # Which conftest files apply to a test does not change in a campaign, and is asked several times a fixture.
        session = self.item.session
        vars(session)["gethookproxy"] = cache(session.gethookproxy)
        lists: Iterable[list[Any]] = [fixture._finalizers for fixture in self._wider.values()]
        self._lengths = [(one, len(one)) for one in (*lists, self.item.own_markers)]
        logging = sys.modules.get("_pytest.logging")
        self._caplog = None if logging is None else self.item.stash.get(logging.caplog_handler_key, None)

    def phase_of(self, error: BaseException) -> Phase:
        """In which phase of a schedule an exception was raised."""
        noted = self._phases.get(id(error))
        return noted[1] if noted is not None and noted[0] is error else "call"

    def finish(self) -> None:
        """After the last schedule: do what the last tear-down did not get to."""
        self._tear_down()
        self._reset()
        vars(self.item.session).pop("gethookproxy", None)
        self._garbage.collect()
        self._stack[self.item] = ([self.item.teardown], None)

    # -- one schedule, inside the kernel

    def _run(self, _held: object) -> None:
        if self._finalizers:
            self._tear_down()
        self._reset()
        item = self.item
        self._finalizers = [lambda: type(item).teardown(item)]
        self._stack[item] = (self._finalizers, None)
        phase: Phase = "setup"
        try:
            type(item).setup(item)
            phase = "call"
            self._call()
        except _FAILURES as error:
            self._note(error, phase)
            raise
        finally:
            self._finish_schedule()

    def _reset(self) -> None:
        item = self.item
        item._initrequest()
        self._method.renew()
        self._anyio.forget()
        for values, length in self._lengths:
            del values[length:]
        if self._caplog is not None:
            self._caplog.clear()

    def _note(self, error: BaseException, phase: Phase) -> None:
        if phase == "setup":
            self._phases[id(error)] = error, phase
            if nothing_decided():
                raise SetUpFailed from error
        note_failure(error)

    def _call(self) -> None:
        item = self.item
        if self._setup is not None:
            self._method.give(self._setup(**self._arguments_of_setup()) or {})
        if self.inner is not None:
            self.inner()
            return
        try:
            type(item).runtest(item)
        finally:
            caught = vars(item).pop("_excinfo", None) or ()  # unittest does not raise; it collects
        failures = [info.value for info in caught] + self._subtest_failures
        self._subtest_failures = []
        if failures:
            raise next((error for error in failures if isinstance(error, TaskUnwind)), failures[0])

    def _arguments_of_setup(self) -> dict[str, Any]:
        assert self._setup is not None
        return self._method.arguments_for(self._setup, self.item.funcargs)

    def _note_subtest(self, _case: object, _test: object, info: Any) -> None:
        """As `TestCaseFunction.addSubTest`, which would report each subtest of each schedule."""
        if info is not None:
            error = info[1] if isinstance(info, tuple) else info.value
            self._subtest_failures.append(error)

    def _finish_schedule(self) -> None:
        """Tear down. What it raises is added to an exception that is on its way already, as a note."""
        on_its_way = sys.exception()
        if isinstance(on_its_way, TaskUnwind):
            self._garbage.expect()
            self._tear_down()
            return
        for error in self._tear_down():
            if on_its_way is None or not isinstance(error, (*_FAILURES, TaskUnwind)):
                self._phases[id(error)] = error, "teardown"
                raise error
            if isinstance(error, _FAILURES):
                on_its_way.add_note(f"and its tear-down failed: {type(error).__name__}: {error}")

    def _tear_down(self) -> list[BaseException]:
        """Call the finalizers, last in first out, all of them; what they raised, an end of the campaign first."""
        errors: list[BaseException] = []
        while self._finalizers:
            finalizer = self._finalizers.pop()
            _let_finish(finalizer)
            try:
                finalizer()
            except BaseException as error:
                errors.append(error)
        return sorted(errors, key=lambda error: isinstance(error, _FAILURES))


def _let_finish(finalizer: Callable[[], object]) -> None:
    """Let a fixture be finished whose set-up was cut off: pytest takes it for one that never began, and keeps it so."""
    fixture: Any = getattr(getattr(finalizer, "func", None), "__self__", None)
    if isinstance(fixture, FixtureDef) and fixture.cached_result is None and fixture._finalizers:
        fixture.cached_result = (None, None, None)
