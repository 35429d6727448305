"""Tests of hypothesis: each example has a campaign of its own.

`@given` calls the test once for each example, outside every kernel. What it calls is exchanged for a function that
explores the test with this example. Fixtures are made anew in each schedule, so that hypothesis need not warn of
function-scoped ones. It hands on what it was given for them; each schedule uses its own values instead.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.pytest_plugin.keys import SCHEDULE

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.pytest_plugin.each_schedule import EachSchedule

_SETTINGS = "_hypothesis_internal_use_settings"


def let_fixtures_be(item: pytest.Function) -> None:
    """Suppress the health checks on fixtures, as hypothesis's plugin does where they do not apply.

    The phase that explains a failure by its lines is left out, too. It runs a failing example many times, and finds
    lines of this package.
    """
    hypothesis: Any = sys.modules["hypothesis"]
    checks, settings = hypothesis.HealthCheck, hypothesis.settings
    function = getattr(item.obj, "__func__", item.obj)
    present: Any = getattr(function, _SETTINGS, settings.default)
    suppressed = {checks.function_scoped_fixture, checks.differing_executors, *present.suppress_health_check}
    phases = [phase for phase in present.phases if phase is not hypothesis.Phase.explain]
    changed = settings(parent=present, deadline=None, suppress_health_check=suppressed, phases=phases)
    setattr(function, _SETTINGS, changed)


def explore_examples(item: pytest.Function, campaign: EachSchedule, explore: Callable[[], None]) -> None:
    """Call a test of hypothesis, and explore each example.

    Args:
        item: the test.
        campaign: its schedules.
        explore: runs the campaign.
    """
    if SCHEDULE in item.config.stash:
        pytest.fail("--lkl-replay: a schedule of a test of hypothesis is of one example, and cannot be replayed")
    handle: Any = item.obj.hypothesis
    test = handle.inner_test
    names = item._fixtureinfo.argnames
    instance = item.instance

    def example(*args: Any, **kwargs: Any) -> None:
        def call() -> None:
            given = {name: item.instance if value is instance else value for name, value in kwargs.items()}
            test(*args, **{**given, **{name: item.funcargs[name] for name in names}})

        campaign.inner = call
        explore()

    handle.inner_test = example
    values = campaign.wider_values()
    item.funcargs = {name: values[name][1] if name in values else None for name in names}
    try:
        type(item).runtest(item)
    finally:
        handle.inner_test = test
