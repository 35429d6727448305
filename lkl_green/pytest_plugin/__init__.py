"""The pytest plugin: tests whose every schedule counts.

    @pytest.mark.schedules(1000, policy="pos")
    def test_transfers(bank): ...

A marked test is explored instead of called. Its function-scoped fixtures, `setup_method()` and `setUp()` are run anew
in each schedule. It fails with the exception of the first schedule in which it fails, as if that had been the only one;
report sections say how to run this schedule again.

Nothing of the kernel is imported before the first marked test runs: every pytest run of every project that has this
package installed loads this module.

    options         the command line and the configuration
    explored        which tests are explored, and with which options
    each_schedule   a test's set-up, call and tear-down as one function
    method          its function, on a new instance for each schedule
    event_loops     asynchronous tests
    garbage         what schedules leave behind that were cut off
    tmp_path        its temporary directory, empty in each schedule
    examples        tests of hypothesis: one campaign for each example
    running         exploring a test, or replaying it
    telling         how a failure is reported
    progress        the line on the terminal
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.pytest_plugin import options
from lkl_green.pytest_plugin.explored import is_explored
from lkl_green.pytest_plugin.keys import CAMPAIGN, SCHEDULE, SECTION, SEED_WAS_DRAWN

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from _pytest.fixtures import FixtureDef, SubRequest

    from lkl_green.testing import Schedule

_MARKER = """\
schedules(count, *, {options}): run the test as a kernel thread of lkl_green under many schedules, and fail if it \
fails in one of them"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """--lkl-* and their ini settings."""
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    """The marker; a random seed is drawn here, once, so that xdist's workers get the same."""
    config.addinivalue_line("markers", _MARKER.format(options=options.names(config)))
    options.draw_seed(config)
    if config.option.lkl_replay is not None:
        config.stash[SCHEDULE] = _load(config.option.lkl_replay)


def _load(path: Path) -> Schedule:
    from lkl_green.errors import ScheduleFileError
    from lkl_green.testing import Schedule

    try:
        return Schedule.load(path)
    except ScheduleFileError as error:
        raise pytest.UsageError(f"--lkl-replay: {error}") from None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist which seed was drawn; it is given our arguments, and would draw another one."""
    node.workerinput["lkl_seed"] = node.config.option.lkl_seed


def pytest_report_header(config: pytest.Config) -> str | None:
    """The seed, where it was drawn."""
    seed = config.option.lkl_seed
    return f"lkl_green: --lkl-seed={seed}" if config.stash.get(SEED_WAS_DRAWN, False) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --lkl-replay, the test that the schedule is of; the only marked one, if its name has changed."""
    schedule = config.stash.get(SCHEDULE, None)
    if schedule is None:
        return
    marked = [item for item in items if is_explored(item)]
    chosen = [item for item in items if item.nodeid == schedule.test] or marked
    if len(chosen) != 1:
        raise pytest.UsageError(
            f"--lkl-replay: the schedule is of {schedule.test or 'an unknown test'}; of the selected tests, "
            f"{len(chosen)} have the marker 'schedules' and none has this name: select the one to replay"
        )
    config.hook.pytest_deselected(items=[item for item in items if item is not chosen[0]])
    items[:] = chosen


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Divide the phases of an explored test differently."""
    if not is_explored(item):
        return
    if not isinstance(item, pytest.Function):
        pytest.fail(f"the marker 'schedules' is for test functions and methods, not for {item!r}", pytrace=False)
    from lkl_green.pytest_plugin.running import prepare

    prepare(item)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: FixtureDef[Any], request: SubRequest) -> object | None:
    """Give `tmp_path` the same directory in each schedule of a campaign."""
    if fixturedef.argname != "tmp_path" or fixturedef.func.__module__ != "_pytest.tmpdir":
        return None
    if CAMPAIGN not in request._pyfuncitem.stash:
        return None
    from lkl_green.pytest_plugin.tmp_path import set_up

    return set_up(fixturedef, request)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what there is to say about the schedule below the failure.

    What fails in the set-up or tear-down of a schedule is an error, as it is elsewhere in pytest.
    """
    was_call = call.when == "call"
    campaign = item.stash.get(CAMPAIGN, None)
    if was_call and campaign is not None and call.excinfo is not None:
        call.when = campaign.phase_of(call.excinfo.value)
    report = yield
    if was_call:
        told = item.stash.get(SECTION, "")
        if told:
            report.sections.append(("schedule", told))
    return report
