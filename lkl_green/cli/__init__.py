"""The command line: `lkl-green run`, `parity`, `explore` and `replay`, one module for each.

What goes wrong has two kinds, which scripts can tell apart. A mistake in the call (a bad option, a file that is no
program) is one line on stderr and exit status 2, before anything ran. A program that fails in the kernel (an exception,
a deadlock, a thread that never yields) is told with what helps to find the reason, and exit status 1; the kernel has
been halted by then.
"""

from __future__ import annotations

import argparse
import os
import sys
from bdb import BdbQuit
from pathlib import Path
from typing import TYPE_CHECKING

import lkl_green
from lkl_green.cli import explore, parity, replay, run
from lkl_green.cli.options import STATUS_FAILED, STATUS_INTERRUPTED, STATUS_USAGE, Parser, complain
from lkl_green.cli.reporting import complain_with_report
from lkl_green.errors import ProgramError, ScheduleFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

_DESCRIPTION = """\
A cooperative, Linux-shaped kernel as a Python library.

A program is a Python file with a function `init`, which the kernel runs as process 1:

    from lkl_green.linux import msleep, printk

    def init(name="world"):
        msleep(500)
        printk(f"hello, {name}")
"""

_EXAMPLE = """\
example:
  lkl-green run examples/01_first_kernel_thread.py
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    if sys.stdout is None:  # closed by whoever started us; Python then has none, and what is printed goes nowhere
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of the process
    options = _parser().parse_args(argv)
    try:
        status: int = options.command(options)
        sys.stdout.flush()
    except (ProgramError, ScheduleFileError) as error:
        return complain(str(error), STATUS_USAGE)
    except KeyboardInterrupt as interrupt:
        return complain_with_report(interrupt, "interrupted", STATUS_INTERRUPTED)
    except BdbQuit:
        return complain("the debugger was left", STATUS_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has left. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STATUS_FAILED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="lkl-green",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lkl-green {lkl_green.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for command in (run, parity, explore, replay):
        command.add(commands)
    return parser
