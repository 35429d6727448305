"""Running an explored test: its campaign, or the replay of one schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.errors import ApiMisuse, NotATest, ScheduleFileError
from lkl_green.pytest_plugin import event_loops, telling
from lkl_green.pytest_plugin.each_schedule import EachSchedule, SetUpFailed
from lkl_green.pytest_plugin.examples import explore_examples, let_fixtures_be
from lkl_green.pytest_plugin.explored import asked_for
from lkl_green.pytest_plugin.keys import CAMPAIGN, SCHEDULE
from lkl_green.pytest_plugin.options import complete
from lkl_green.pytest_plugin.progress import ProgressLine
from lkl_green.pytest_plugin.tmp_path import before_fork
from lkl_green.testing import explore, replay
from lkl_green.testing.detect.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.testing import Report


def prepare(item: pytest.Function) -> None:
    """Before pytest's set-up of an explored test: have its phases do what exploring needs."""
    try:
        asked = asked_for(item)
        complete(item.config, asked.options)
        setup = asked.options.pop("setup", None)
        campaign = EachSchedule(item, asked.function, setup)
        campaign.check()
        event_loops.check(item)
    except (NotATest, TypeError) as error:
        raise telling.refusal(error) from None
    options = asked.options
    if event_loops.is_async(item):
        options.setdefault("threads", True)  # an event loop waits in the kernel only then
    item.stash[CAMPAIGN] = campaign
    campaign.take_over()
    if getattr(item.obj, "is_hypothesis_test", False):
        let_fixtures_be(item)
        vars(item)["runtest"] = lambda: explore_examples(item, campaign, lambda: _run(item, campaign, options))
    else:
        vars(item)["runtest"] = lambda: _run(item, campaign, options)


def _run(item: pytest.Function, campaign: EachSchedule, options: dict[str, Any]) -> None:
    __tracebackhide__ = True
    schedule = item.config.stash.get(SCHEDULE, None)
    test = _as_test(campaign)
    try:
        if schedule is not None:
            _replay(item, test)
        else:
            _explore(item, campaign, test, options)
    except SetUpFailed as failed:
        error = failed.__cause__
        assert error is not None
        raise error from None
    finally:
        campaign.finish()


def _as_test(campaign: EachSchedule) -> Callable[[], None]:
    try:
        return campaign.as_test()
    except TypeError as error:
        raise telling.refusal(error) from None


def _explore(item: pytest.Function, campaign: EachSchedule, test: Callable[[], None], options: dict[str, Any]) -> None:
    __tracebackhide__ = True
    config = item.config
    if hasattr(config, "workerinput"):
        options["jobs"] = 1  # xdist has shared out the processors already; what is found is the same
    if options.get("jobs", 1) > 1:
        before_fork(item)
    line = ProgressLine(config)
    ours = {"name": item.nodeid, "on_progress": line.show if line.wanted else None}
    before = {name: (scope, Snapshot(name, value)) for name, (scope, value) in campaign.wider_values().items()}
    try:
        report = explore(test, **(ours | options))
    except (ApiMisuse, ValueError) as error:
        raise telling.refusal(error) from None
    finally:
        line.clear()
    options["threads"] = report.threads  # known now: with hypothesis another campaign follows
    note = _changed_by_schedules(before) if options.get("verify", True) else ""
    _tell(item, report, note, replays=campaign.inner is None)


def _tell(item: pytest.Function, report: Report, note: str, *, replays: bool) -> None:
    __tracebackhide__ = True
    if not report.passed:
        telling.fail(item, report, note, replays=replays)
    if note:
        pytest.fail(f"state kept between schedules; none failed in {report.counted()}\n{note}", pytrace=False)
    telling.tell_passed(item, report)


def _changed_by_schedules(before: dict[str, tuple[str, Snapshot]]) -> str:
    """Which fixtures with a wider scope the schedules have changed, in words."""
    told = []
    for name, (scope, snapshot) in before.items():
        changes = snapshot.changes()
        if changes:
            told.append(f"schedules change the value of the fixture {name!r} (scope {scope!r}): {'; '.join(changes)}")
    if told:
        told.append(
            "What a schedule changes there, the next one finds: it begins from another state than the test does. Give "
            "the fixture the scope 'function', or put its value back in a function-scoped fixture or in setup="
        )
    return "\n".join(told)


def _replay(item: pytest.Function, test: Callable[[], None]) -> None:
    __tracebackhide__ = True
    schedule = item.config.stash[SCHEDULE]
    try:
        failure = replay(test, schedule)
    except ScheduleFileError as error:
        raise pytest.fail.Exception(f"--lkl-replay: {error}", pytrace=False) from None
    if failure is not None:
        failure.how_to_replay = telling.replay_command(item, str(item.config.option.lkl_replay))
        telling.raise_failure(item, failure)
