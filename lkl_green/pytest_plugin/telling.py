"""How the failure of an explored test is reported."""

from __future__ import annotations

import dataclasses
import shlex
import unittest
from typing import TYPE_CHECKING, NoReturn

import pytest

from lkl_green.pytest_plugin.keys import SECTION

if TYPE_CHECKING:
    from pathlib import Path

    from lkl_green.testing import Failure, Report

_TRACE_DIR = ".lkl_schedules"


def refusal(error: Exception) -> BaseException:
    """A mistake in the use of the marker: one line, no traceback."""
    return pytest.fail.Exception(f"the marker 'schedules': {error}", pytrace=False)


def tell_passed(item: pytest.Item, report: Report) -> None:
    """What came of a test that passed, and what its schedules were; shown with -rP."""
    item.stash[SECTION] = report.text()


def fail(item: pytest.Item, report: Report, note: str, *, replays: bool = True) -> NoReturn:
    """Fail as a campaign did.

    Args:
        item: the test.
        report: what came of it.
        note: what else there is to say; "" for nothing.
        replays: whether its schedule can be run again by a command.
    """
    __tracebackhide__ = True
    from lkl_green.testing.filing import keep

    failure = report.failure
    if failure is None:
        why = f"{report.outcome.value}: {report.reason}; schedules run: {report.schedules}"
        pytest.fail("\n".join(filter(None, (why, note))), pytrace=False)
    if isinstance(failure.exception, unittest.SkipTest):
        raise failure.exception
    path = _schedule_file(item)
    shown = _shown(item.config, path)
    keep(failure, path, shown_as=shown, replay=replay_command(item, shown) if replays else "")
    raise_failure(item, failure, note)


def raise_failure(item: pytest.Item, failure: Failure, note: str = "") -> NoReturn:
    """Let pytest tell an exception of the test as it tells all exceptions, and the rest in a section below."""
    __tracebackhide__ = True
    from lkl_green.testing import Verdict

    section = dataclasses.replace(failure, traceback="", detail="").text()
    item.stash[SECTION] = "\n".join(filter(None, (section, note)))
    if failure.verdict is Verdict.FAILED and failure.exception is not None:
        raise failure.exception
    pytest.fail("\n".join(filter(None, (failure.headline(), failure.detail, note))), pytrace=False)


def replay_command(item: pytest.Item, path: str) -> str:
    """What runs the schedule again, to be copied."""
    file, colons, function = str(item.nodeid).partition("::")
    test = f"{_shown(item.config, item.config.rootpath / file)}{colons}{function}"
    return shlex.join(["pytest", test, f"--lkl-replay={path}"])


def _schedule_file(item: pytest.Item) -> Path:
    from lkl_green.testing.filing import schedule_file

    given: Path | None = item.config.option.lkl_trace_dir
    if given is not None:
        return schedule_file(item.config.invocation_params.dir / given, item.nodeid)
    return schedule_file(item.config.rootpath / (item.config.getini("lkl_trace_dir") or _TRACE_DIR), item.nodeid)


def _shown(config: pytest.Config, path: Path) -> str:
    """From where pytest was started, if it lies below; the test may have gone elsewhere."""
    here = config.invocation_params.dir
    absolute = here / path
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)
