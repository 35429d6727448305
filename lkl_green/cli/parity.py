"""`lkl-green parity`: a program in all configurations, and whether their traces are equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.cli.options import STATUS_FAILED, add_command, add_program, complain, kernel_options
from lkl_green.compare.parity import parity
from lkl_green.compare.program import explain_failure

if TYPE_CHECKING:
    import argparse

_PARITY = """\
Run the program three times in virtual time: on greenlets that switch directly, on greenlets with LKL's semaphores, and
on OS threads with LKL's semaphores. The traces of the scheduler, interrupts, timers and system calls must be equal,
byte by byte. Prints a summary and exits with 0 if they are, else shows the first difference and exits with 1.
"""

_PARITY_EXAMPLE = """\
example:
  lkl-green parity examples/03_init_execs.py
"""


def add(commands: Any) -> None:
    """The command and its options."""
    command = add_command(
        commands, "parity", "compare a program's traces in all configurations", _PARITY, _PARITY_EXAMPLE
    )
    command.set_defaults(command=_parity)
    add_program(command)


def _parity(options: argparse.Namespace) -> int:
    outcome = parity(options.program, *options.args, **kernel_options(options))
    if not outcome.equal:
        print(outcome)
        return STATUS_FAILED
    error = outcome.runs[0].error
    if error is not None:
        complain(explain_failure(error), STATUS_FAILED)
    print(outcome)
    return 0 if error is None else STATUS_FAILED
