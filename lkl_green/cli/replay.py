"""`lkl-green replay`: a test function in one recorded schedule."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkl_green.cli.address import NeedsPytest, load_test
from lkl_green.cli.options import STATUS_FAILED, STATUS_INCOMPLETE, add_command
from lkl_green.cli.telling import replay_as_json, replay_for_people
from lkl_green.errors import ProgramError

if TYPE_CHECKING:
    import argparse

    from lkl_green.testing import Schedule

_REPLAY = """\
Run a test function in a schedule that was recorded when it failed. What the test prints is shown.
The exit status is 0 if it passes now, 1 if it fails, 2 for a mistake in the call, 3 if the schedule does not fit the
test any more: then nothing is known, and the test should be explored again.
"""

_REPLAY_EXAMPLE = """\
examples:
  lkl-green replay .lkl_schedules/test_bank.py_test_transfer.json
  lkl-green replay race.json test_bank.py::test_transfer
"""


def add(commands: Any) -> None:
    """The command and its options."""
    replay = add_command(
        commands,
        "replay",
        "run a test in a recorded schedule",
        _REPLAY,
        _REPLAY_EXAMPLE,
        "SCHEDULE.json [FILE.py::TEST]",
    )
    replay.set_defaults(command=_replay)
    replay.add_argument(
        "--json", action="store_true", help="print the outcome as JSON; what the test prints, to stderr"
    )
    replay.add_argument(
        "--all-steps", action="store_true", help="show every step of the schedule, and cut nothing of the report"
    )
    replay.add_argument("schedule", metavar="SCHEDULE.json", type=Path, help="what explore or the pytest plugin wrote")
    replay.add_argument(
        "test", metavar="FILE.py::TEST", nargs="?", help="the test; the one that was recorded, if left out"
    )


def _replay(options: argparse.Namespace) -> int:
    from lkl_green.testing import Schedule, Verdict, replay

    schedule = Schedule.load(options.schedule)
    address = _address(options, schedule)
    try:
        with load_test(address) as found, contextlib.redirect_stdout(_where_it_prints(options)):
            failure = replay(found.test, schedule)
    except NeedsPytest:
        command = shlex.join(["pytest", address, f"--lkl-replay={options.schedule}"])
        raise ProgramError(f"{address}: only pytest can call this test. Replay it with:\n    {command}") from None
    if options.json:
        print(replay_as_json(failure, schedule))
    else:
        print(replay_for_people(failure, schedule, all_steps=options.all_steps))
    if failure is None:
        return 0
    return STATUS_INCOMPLETE if failure.verdict is Verdict.MISMATCH else STATUS_FAILED


def _where_it_prints(options: argparse.Namespace) -> Any:
    return sys.stderr if options.json else sys.stdout


def _address(options: argparse.Namespace, schedule: Schedule) -> str:
    address: str = options.test or schedule.test
    if not address:
        raise ProgramError(f"{options.schedule} does not say of which test it is: write FILE.py::test_name after it")
    return address
