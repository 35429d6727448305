"""The pytest plugin: tests whose every schedule counts.

    @pytest.mark.schedules(1000, policy="pos")
    def test_transfers(bank): ...

A marked test is explored instead of called. It fails with the exception of the first schedule in which it fails, as if
that had been the only one; report sections say how to run this schedule again. Its fixtures are made once, before the
first schedule.

Nothing of the kernel is imported before the first marked test runs: every pytest run of every project that has this
package installed loads this module.
"""

from __future__ import annotations

import dataclasses
import inspect
import random
import shlex
import unittest
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from lkl_green.testing import Failure, Progress, Report, Schedule

_MARKER = """\
schedules(count, *, {options}): run the test as a kernel thread of lkl_green under many schedules, and fail if it \
fails in one of them"""

_TRACE_DIR = ".lkl_schedules"
_MAX_SEED = 1_000_000_000
_PROGRESS_AFTER_S = 1.0

_section = pytest.StashKey[str]()
_schedule = pytest.StashKey["Schedule"]()
_seed_was_drawn = pytest.StashKey[bool]()


# -- options


def pytest_addoption(parser: pytest.Parser) -> None:
    """--lkl-* and their ini settings."""
    group = parser.getgroup("lkl_green", "schedules of concurrent code (lkl_green)")
    group.addoption(
        "--lkl-schedules", type=_positive, metavar="N", help="how many schedules each marked test is run in"
    )
    group.addoption("--lkl-seed", type=_seed, metavar="N", help="seed of the schedules, or 'random'; default 0")
    group.addoption("--lkl-policy", metavar="NAME", help="how schedules are made")
    group.addoption(
        "--lkl-points",
        choices=("memory", "sync"),
        help="where threads are interleaved: at accesses of ordinary code, too, or at locks and their like only",
    )
    group.addoption(
        "--lkl-replay", type=Path, metavar="FILE", help="run the marked test in this recorded schedule only"
    )
    group.addoption(
        "--lkl-shrink", action="store_true", default=None, help="look for a simpler failing schedule; the default"
    )
    group.addoption("--no-lkl-shrink", action="store_false", dest="lkl_shrink", help="report a failure as it was found")
    group.addoption(
        "--lkl-trace-dir", type=Path, metavar="DIR", help="where failing schedules are written; default .lkl_schedules"
    )
    parser.addini("lkl_schedules", "how many schedules a marked test is run in that does not say itself")
    parser.addini("lkl_seed", "seed of the schedules, or 'random'")
    parser.addini("lkl_policy", "how schedules are made")
    parser.addini("lkl_points", "where threads are interleaved: memory or sync")
    parser.addini("lkl_shrink", "look for a simpler failing schedule", type="bool", default=True)
    parser.addini("lkl_trace_dir", "where failing schedules are written, from the root directory")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{text!r} is not a number of schedules")
    return int(text)


def _seed(text: str) -> int | str:
    return text if text == "random" else int(text)


def pytest_configure(config: pytest.Config) -> None:
    """The marker; a random seed is drawn here, once, so that xdist's workers get the same."""
    config.addinivalue_line("markers", _MARKER.format(options=_option_names(config)))
    if config.option.lkl_seed is None and config.getini("lkl_seed") == "random":
        config.option.lkl_seed = "random"
    if hasattr(config, "workerinput"):
        config.option.lkl_seed = config.workerinput["lkl_seed"]
    if config.option.lkl_seed == "random":
        config.option.lkl_seed = random.SystemRandom().randrange(_MAX_SEED)
        config.stash[_seed_was_drawn] = True
    if config.option.lkl_replay is not None:
        config.stash[_schedule] = _load(config.option.lkl_replay)


def _option_names(config: pytest.Config) -> str:
    """What `pytest --markers` shows; other runs do not read it, and need not import the explorer for it."""
    if not config.option.markers:
        return "**options"
    from lkl_green.testing.settings import option_names

    return ", ".join(["setup", *option_names()])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist which seed was drawn; it is given our arguments, and would draw another one."""
    node.workerinput["lkl_seed"] = node.config.option.lkl_seed


def _load(path: Path) -> Schedule:
    from lkl_green.errors import ScheduleFileError
    from lkl_green.testing import Schedule

    try:
        return Schedule.load(path)
    except ScheduleFileError as error:
        raise pytest.UsageError(f"--lkl-replay: {error}") from None


def pytest_report_header(config: pytest.Config) -> str | None:
    """The seed, where it was drawn."""
    seed = config.option.lkl_seed
    return f"lkl_green: --lkl-seed={seed}" if config.stash.get(_seed_was_drawn, False) else None


def _setting(config: pytest.Config, name: str, marked: object = None) -> Any:
    """The command line, else the marker, else the configuration, else the default."""
    given = getattr(config.option, f"lkl_{name}")
    if given is not None:
        return given
    if marked is not None:
        return marked
    written = config.getini(f"lkl_{name}")
    if isinstance(written, bool):
        return written
    if not written:
        return _default(name)
    if name not in ("schedules", "seed"):
        return written
    try:
        return (_positive if name == "schedules" else int)(written)
    except ValueError:
        raise pytest.UsageError(f"lkl_{name} = {written!r} in the configuration is not a number") from None


def _default(name: str) -> Any:
    from lkl_green.testing.settings import Settings

    return getattr(Settings, name)


# -- which tests


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --lkl-replay, the test that the schedule is of; the only marked one, if its name has changed."""
    schedule = config.stash.get(_schedule, None)
    if schedule is None:
        return
    marked = [item for item in items if item.get_closest_marker("schedules")]
    chosen = [item for item in marked if item.nodeid == schedule.test] or marked
    if len(chosen) != 1:
        raise pytest.UsageError(
            f"--lkl-replay: the schedule is of {schedule.test or 'an unknown test'}; of the selected tests, "
            f"{len(chosen)} have the marker 'schedules' and none has this name: select the one to replay"
        )
    config.hook.pytest_deselected(items=[item for item in items if item is not chosen[0]])
    items[:] = chosen


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Refuse the marker where it would be ignored: unittest and asynchronous plugins call tests themselves."""
    if item.get_closest_marker("schedules") is None:
        return
    function = getattr(item, "obj", None)
    if not isinstance(item, pytest.Function) or (item.cls is not None and issubclass(item.cls, unittest.TestCase)):
        pytest.fail("the marker 'schedules' is for test functions and methods of plain classes", pytrace=False)
    from lkl_green.errors import NotATest
    from lkl_green.testing.plain import check_plain

    try:
        check_plain(function)
    except NotATest as error:
        raise _refusal(error) from None


# -- running one


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Explore a marked test, or replay it."""
    marker = pyfuncitem.get_closest_marker("schedules")
    if marker is None:
        return None
    from lkl_green.testing import decorator

    config = pyfuncitem.config
    options = _marked(marker)
    setup = options.pop("setup", None)
    names = pyfuncitem._fixtureinfo.argnames
    arguments = inspect.signature(pyfuncitem.obj).bind(**{name: pyfuncitem.funcargs[name] for name in names})
    test = decorator.bind(pyfuncitem.obj, arguments, setup)
    schedule = config.stash.get(_schedule, None)
    if schedule is not None:
        _replay(pyfuncitem, test, schedule)
    else:
        _explore(pyfuncitem, test, options)
    return True


def _marked(marker: pytest.Mark) -> dict[str, Any]:
    from lkl_green.testing.decorator import options_of

    try:
        return options_of(marker.args, marker.kwargs)
    except TypeError as error:
        raise _refusal(error) from None


def _refusal(error: Exception) -> BaseException:
    """A mistake in the use of the marker: one line, no traceback."""
    return pytest.fail.Exception(f"the marker 'schedules': {error}", pytrace=False)


def _explore(item: pytest.Function, test: Any, options: dict[str, Any]) -> None:
    from lkl_green.errors import ApiMisuse
    from lkl_green.testing import explore

    config = item.config
    for name in ("schedules", "policy", "points", "seed", "shrink"):
        options[name] = _setting(config, name, options.get(name))
    if hasattr(config, "workerinput"):
        options["jobs"] = 1  # xdist has shared out the processors already; what is found is the same
    options.setdefault("name", item.nodeid)
    line = _ProgressLine(config)
    options.setdefault("on_progress", line.show if line.wanted else None)
    try:
        report = explore(test, **options)
    except (ApiMisuse, ValueError) as error:
        raise _refusal(error) from None
    finally:
        line.clear()
    if not report.passed:
        _fail(item, report)
    elif report.warnings:
        item.stash[_section] = "\n".join(f"warning: {warning}" for warning in report.warnings)  # shown with -rP


def _replay(item: pytest.Function, test: Any, schedule: Schedule) -> None:
    from lkl_green.errors import ScheduleFileError
    from lkl_green.testing import replay

    try:
        failure = replay(test, schedule)
    except ScheduleFileError as error:
        raise pytest.fail.Exception(f"--lkl-replay: {error}", pytrace=False) from None
    if failure is not None:
        failure.how_to_replay = _command(item, str(item.config.option.lkl_replay))
        _raise(item, failure)


# -- what failed


def _fail(item: pytest.Function, report: Report) -> None:
    from lkl_green.testing.filing import keep

    failure = report.failure
    if failure is None:
        pytest.fail(f"{report.outcome.value}: {report.reason}; schedules run: {report.schedules}", pytrace=False)
    if isinstance(failure.exception, pytest.skip.Exception | pytest.xfail.Exception):
        raise failure.exception
    path = _schedule_file(item)
    shown = _shown(item.config, path)
    keep(failure, path, shown_as=shown, replay=_command(item, shown))
    _raise(item, failure)


def _command(item: pytest.Function, path: str) -> str:
    """What runs the schedule again, to be copied."""
    file, colons, function = str(item.nodeid).partition("::")
    test = f"{_shown(item.config, item.config.rootpath / file)}{colons}{function}"
    return shlex.join(["pytest", test, f"--lkl-replay={path}"])


def _raise(item: pytest.Function, failure: Failure) -> None:
    """Let pytest tell an exception of the test as it tells all exceptions, and the rest in a section below."""
    __tracebackhide__ = True
    from lkl_green.testing import Verdict

    item.stash[_section] = dataclasses.replace(failure, traceback="", detail="").text()
    if failure.verdict is Verdict.FAILED and failure.exception is not None:
        raise failure.exception
    pytest.fail("\n".join(part for part in (failure.headline(), failure.detail) if part), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what there is to say about the schedule below the failure."""
    report = yield
    if call.when == "call":
        told = item.stash.get(_section, "")
        if told:
            report.sections.append(("schedule", told))
    return report


def _schedule_file(item: pytest.Function) -> Path:
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


class _ProgressLine:
    """A line on the terminal that says how far a long test is; not in xdist's workers, which have none."""

    def __init__(self, config: pytest.Config) -> None:
        self._terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        self.wanted = self._terminal is not None and self._terminal.isatty and not hasattr(config, "workerinput")
        self._shown = False

    def show(self, progress: Progress) -> None:
        """Write it, from the first second on."""
        if progress.elapsed_s < _PROGRESS_AFTER_S:
            return
        if not self._shown:
            self._write(self._terminal.ensure_newline)
            self._shown = True
        self._write(lambda: self._terminal.rewrite(str(progress), erase=True))

    def clear(self) -> None:
        """Take it away; pytest goes on at the beginning of the line."""
        if self._shown:
            self._write(lambda: (self._terminal.rewrite("", erase=True), self._terminal.write("\r")))

    def _write(self, write: Callable[[], object]) -> None:
        """What the test prints is captured; we are not the test."""
        capturing = nullcontext() if self._capture is None else self._capture.global_and_fixture_disabled()
        with capturing:
            write()
            self._terminal.flush()
