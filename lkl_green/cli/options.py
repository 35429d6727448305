"""What the commands share: their parser, exit statuses, complaints, and the options of those that run a program."""

from __future__ import annotations

import argparse
import sys
from difflib import get_close_matches
from typing import Any, NoReturn

from lkl_green.kernel.hung_task import DEFAULT_TIMEOUT_S
from lkl_green.kernel.livelock import DEFAULT_LIMIT
from lkl_green.kernel.printk import KERN_DEBUG, KERN_WARNING

STATUS_FAILED = 1
STATUS_USAGE = 2
STATUS_INCOMPLETE = 3
STATUS_TIME_LIMIT = 124  # as timeout(1) has it
STATUS_INTERRUPTED = 130  # 128 + SIGINT, what a shell expects of an interrupted command


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the call, and exit."""
        self.exit(STATUS_USAGE, f"lkl-green: {message}; see `{self.prog} --help`\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in the base class, but a command complains itself of options it does not know."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            close = get_close_matches(unknown[0].partition("=")[0], known, 1)
            meant = f"; did you mean {close[0]}?" if close else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return options, unknown


def complain(message: str, status: int) -> int:
    """Say what is wrong, on stderr; the status."""
    sys.stdout.flush()
    print(f"lkl-green: {message.rstrip()}", file=sys.stderr)
    return status


def add_command(
    commands: Any, name: str, help: str, description: str, example: str, arguments: str = "PROGRAM.py [ARGS...]"
) -> argparse.ArgumentParser:
    """A command of its own parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=example,
        usage=f"lkl-green {name} [OPTIONS] {arguments}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def add_program(parser: argparse.ArgumentParser) -> None:
    """What commands take that run a program; the program comes last, and what follows it is the program's."""
    parser.add_argument(
        "--on-oops",
        choices=("panic", "kill"),
        default="panic",
        help="when an exception leaves a kernel thread: stop the kernel, or go on without the thread",
    )
    parser.add_argument(
        "--watchdog",
        metavar="SECONDS",
        type=seconds,
        default=10.0,
        help="end a kernel thread that does not give up the CPU for this long; 0 is never; default 10",
    )
    parser.add_argument(
        "--hung-task-timeout",
        metavar="SECONDS",
        type=seconds,
        help="tell of a thread that is blocked (state D, without a time-out) for this long on the kernel's clock; 0 is "
        f"never; default {DEFAULT_TIMEOUT_S}, with --threads 0",
    )
    parser.add_argument(
        "--livelock-points",
        metavar="N",
        type=number,
        default=DEFAULT_LIMIT,
        help="with a virtual clock: fail when N scheduling points have passed while a timer waits and time stands "
        f"still; 0 is never; default {DEFAULT_LIMIT}",
    )
    parser.add_argument(
        "--loglevel",
        metavar="N",
        type=int,
        choices=range(9),
        help="show kernel messages more urgent than this, from 0, nothing, to 8, everything; default 7, or 4 with "
        "--threads",
    )
    parser.add_argument("program", metavar="PROGRAM.py", help="a Python file with a function init")
    rest = parser.add_argument("args", metavar="ARGS", nargs=argparse.REMAINDER, help="arguments of init, as strings")
    rest.required = False  # or argparse lists it as missing


def seconds(text: str) -> float:
    """The type of an option."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number


def number(text: str) -> int:
    """The type of an option."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def kernel_options(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_program()` asked for, for `lkl_start_kernel()`."""
    # A thread of `threading` that waits would sleep interruptibly in Linux, and daemons may run to the very end.
    of_threading = getattr(options, "threads", False)
    hung_task_timeout = options.hung_task_timeout
    if hung_task_timeout is None and not of_threading:
        hung_task_timeout = DEFAULT_TIMEOUT_S
    return {
        "on_oops": options.on_oops,
        "watchdog_s": options.watchdog or None,
        "hung_task_timeout_s": hung_task_timeout or None,
        "livelock_points": options.livelock_points or None,
        "loglevel": options.loglevel if options.loglevel is not None else KERN_WARNING if of_threading else KERN_DEBUG,
    }
