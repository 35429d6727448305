"""`lkl-green explore`: a test function in many schedules."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkl_green.cli.address import Addressed, load_test
from lkl_green.cli.muted import muted_stdout
from lkl_green.cli.options import (
    STATUS_FAILED,
    STATUS_INCOMPLETE,
    STATUS_USAGE,
    add_command,
    complain,
    seconds,
)
from lkl_green.cli.telling import report_as_json, report_for_people

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lkl_green.testing import Progress, Report

_EXPLORE = """\
Run a test function as a kernel thread in many schedules, until it fails in one. The function takes no arguments; tests
with fixtures are explored by pytest: see the marker `schedules`. What the test prints is not shown, but the prompt of
pdb is; replay shows all.
What a decorator or marker `schedules` on the function asks for counts where the command line says nothing else.
The exit status is 0 if all schedules pass, 1 if one fails, 2 for a mistake in the call, 3 if a limit, such as the time
budget, ended the exploration before its end: that is no pass.
"""

_EXPLORE_EXAMPLE = """\
examples:
  lkl-green explore test_bank.py::test_transfer
  lkl-green explore --threads --policy pct --schedules 100000 --jobs 4 --time-budget 60 test_bank.py::test_transfer
"""


_SWITCHES = {
    "--explore-time": "let timers expire at any point, not only when all else waits",
    "--explore-cancel": "cancel a task of an event loop at an await, one in each schedule",
    "--threads": "the test uses threading: run its threads as kernel threads",
    "--shrink": "look for the simplest schedule that fails; the default",
    "--verify": "if none fails, run a few again, to see that a schedule is the same each time; the default",
}


def add(commands: Any) -> None:
    """The command and its options."""
    explore = add_command(
        commands,
        "explore",
        "run a test in many schedules",
        _EXPLORE,
        _EXPLORE_EXAMPLE,
        "FILE.py::TEST",
    )
    explore.set_defaults(command=_explore)
    explore.add_argument(
        "--schedules", metavar="N", type=_positive, help="how many schedules; default 1000, and all for policy dpor"
    )
    explore.add_argument("--seed", metavar="N", type=int, help="the same seed gives the same schedules; default 0")
    explore.add_argument("--policy", metavar="NAME", help="how schedules are made")
    explore.add_argument("--jobs", metavar="N", type=_positive, help="processes that share the work; default 1")
    explore.add_argument(
        "--time-budget", metavar="SECONDS", type=seconds, help="begin no schedule after this time; then, exit status 3"
    )
    explore.add_argument(
        "--max-steps", metavar="N", type=_positive, help="operations after which a schedule is endless"
    )
    explore.add_argument(
        "--points",
        choices=("memory", "sync"),
        help="where threads are interleaved: memory, at accesses of ordinary code, too, the default with --threads; "
        "sync, at locks, queues and their like only",
    )
    explore.add_argument(
        "--points-in",
        metavar="MODULE",
        action="append",
        help="a module or package whose code has such points as well; may be given several times",
    )
    explore.add_argument(
        "--races",
        choices=("report", "fail", "off"),
        help="data races in the schedules that are recorded: list them, the default; let the schedule fail; or neither",
    )
    explore.add_argument(
        "--ignored-races",
        metavar="PATTERN",
        action="append",
        help="what is accessed, a function or FILE.py:LINE whose data races are meant; may be given several times",
    )
    explore.add_argument(
        "--loop-order",
        choices=("tasks", "fifo"),
        help="which task of an event loop goes on: tasks, any that is ready, the default; fifo, the longest ready one",
    )
    explore.add_argument(
        "--held-locks",
        choices=("arrive", "disable"),
        help="a task at a held lock: arrive, it goes on and sleeps; disable, it is not chosen, as in a search",
    )
    for option, help in _SWITCHES.items():
        explore.add_argument(option, action=argparse.BooleanOptionalAction, help=help)
    explore.add_argument(
        "--save", metavar="FILE", type=Path, help="where to write the failing schedule; default below .lkl_schedules"
    )
    explore.add_argument("--json", action="store_true", help="print the report as JSON")
    explore.add_argument("test", metavar="FILE.py::TEST", help="a Python file and a function in it")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _explore(options: argparse.Namespace) -> int:
    from lkl_green.errors import ApiMisuse
    from lkl_green.testing import Outcome
    from lkl_green.testing.filing import keep, schedule_file

    with load_test(options.test) as found:
        try:
            report = _run(found, options)
        except (ApiMisuse, ValueError) as error:
            return complain(str(error), STATUS_USAGE)
    path = None
    if report.failure is not None:
        path = options.save or schedule_file(Path(".lkl_schedules"), options.test)
        keep(report.failure, path, shown_as=str(path), replay=shlex.join(["lkl-green", "replay", str(path)]))
    print(report_as_json(report, path) if options.json else report_for_people(report))
    if report.failure is not None and report.failure.not_kept and options.save is not None:
        return complain(f"--save {report.failure.not_kept}", STATUS_USAGE)
    if report.outcome is Outcome.INCOMPLETE:
        return STATUS_INCOMPLETE
    return 0 if report.passed else STATUS_FAILED


def _run(found: Addressed, options: argparse.Namespace) -> Report:
    """Where the command line says nothing, the decorator or marker of the test counts."""
    from lkl_green.testing import explore
    from lkl_green.testing.settings import setting_names

    given = {name: value for name, value in vars(options).items() if name in setting_names() and value is not None}
    with progress_line() as show, muted_stdout():
        asked = {"shrink": True, **found.asked, **given, "name": options.test, "on_progress": show}
        return explore(found.test, **asked)


@contextlib.contextmanager
def progress_line() -> Iterator[Callable[[Progress], None] | None]:
    """A function that writes a line over itself; none where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return

    def show(progress: Progress) -> None:
        sys.stderr.write(f"\r{progress}\x1b[K")
        sys.stderr.flush()

    yield show
    sys.stderr.write("\r\x1b[K")
