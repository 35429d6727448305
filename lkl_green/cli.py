"""The command line: `lkl-green run` and `lkl-green parity`.

What goes wrong has two kinds, which scripts can tell apart. A mistake in the call (a bad option, a file that is no
program) is one line on stderr and exit status 2, before anything ran. A program that fails in the kernel (an exception,
a deadlock, a thread that never yields) is told with what helps to find the reason, and exit status 1; the kernel has
been halted by then.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import lkl_green
from lkl_green import Kernel, format_trace, lkl_start_kernel
from lkl_green.compare.parity import parity
from lkl_green.compare.program import explain_failure, load_program
from lkl_green.errors import LklError, ProgramError
from lkl_green.kernel.tracepoint import Accounting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from lkl_green.kernel.tracepoint import TraceRecord

STATUS_FAILED = 1
STATUS_USAGE = 2
STATUS_INTERRUPTED = 130  # 128 + SIGINT, what a shell expects of an interrupted command

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

_RUN = """\
Boot a kernel on the program's init(*ARGS) and run it until init returns. ARGS are passed as strings.
The exit status is what init returns, if that is a number from 0 to 255, else 0; 1 if the kernel panics or deadlocks;
2 if the program cannot be loaded; 130 after Ctrl-C.
"""

_RUN_EXAMPLE = """\
example:
  lkl-green run --clock virtual --stats examples/02_producer_consumer.py
"""

_PARITY = """\
Run the program three times in virtual time: on greenlets that switch directly, on greenlets with LKL's semaphores, and
on OS threads with LKL's semaphores. The traces of the scheduler, interrupts, timers and system calls must be equal,
byte by byte. Prints a summary and exits with 0 if they are, else shows the first difference and exits with 1.
"""

_PARITY_EXAMPLE = """\
example:
  lkl-green parity examples/03_init_execs.py
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(STATUS_USAGE, f"lkl-green: {message}; see `{self.prog} --help`\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(argv)
    try:
        status: int = options.command(options)
        sys.stdout.flush()
    except ProgramError as error:
        return _complain(str(error), STATUS_USAGE)
    except KeyboardInterrupt:
        return _complain("interrupted", STATUS_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has left. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STATUS_FAILED
    return status


def _complain(message: str, status: int) -> int:
    sys.stdout.flush()
    print(f"lkl-green: {message.rstrip()}", file=sys.stderr)
    return status


# -- options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lkl-green",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lkl-green {lkl_green.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    _add_run(commands)
    _add_parity(commands)
    return parser


def _add_run(commands: Any) -> None:
    run = _add_command(commands, "run", "run a program on a kernel of its own", _RUN, _RUN_EXAMPLE)
    run.set_defaults(command=_run)
    run.add_argument(
        "--host",
        choices=("greenlet", "thread"),
        default="greenlet",
        help="a kernel thread is a greenlet or an OS thread",
    )
    run.add_argument(
        "--switch",
        choices=("direct", "semaphore"),
        help="how one kernel thread hands over to the next: greenlet.switch(), the default for greenlets, or LKL's "
        "semaphores, the default for OS threads",
    )
    run.add_argument(
        "--threads",
        action="store_true",
        help="run an ordinary script that uses threading: its threads are kernel threads, a deadlock is told with who "
        "holds what; the clock is virtual unless --clock says otherwise",
    )
    run.add_argument(
        "--clock",
        choices=("monotonic", "virtual"),
        help="real time, the default, or time that jumps to the next timer when nothing else is left to do",
    )
    run.add_argument("--trace", metavar="FILE", help="write what the kernel did as ftrace text; - is stdout")
    run.add_argument("--stats", action="store_true", help="count switches, wake-ups, interrupts and time; to stderr")
    _add_program(run)


def _add_parity(commands: Any) -> None:
    command = _add_command(
        commands, "parity", "compare a program's traces in all configurations", _PARITY, _PARITY_EXAMPLE
    )
    command.set_defaults(command=_parity)
    _add_program(command)


def _add_command(commands: Any, name: str, help: str, description: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=example,
        usage=f"lkl-green {name} [OPTIONS] PROGRAM.py [ARGS...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def _add_program(parser: argparse.ArgumentParser) -> None:
    """What both commands take; the program comes last, and what follows it is the program's."""
    parser.add_argument(
        "--on-oops",
        choices=("panic", "kill"),
        default="panic",
        help="when an exception leaves a kernel thread: stop the kernel, or go on without the thread",
    )
    parser.add_argument(
        "--watchdog",
        metavar="SECONDS",
        type=_seconds,
        default=10.0,
        help="end a kernel thread that does not give up the CPU for this long; 0 is never; default 10",
    )
    parser.add_argument(
        "--loglevel",
        metavar="N",
        type=int,
        choices=range(9),
        default=7,
        help="show kernel messages more urgent than this, from 0, nothing, to 8, everything; default 7",
    )
    parser.add_argument("program", metavar="PROGRAM.py", help="a Python file with a function init")
    rest = parser.add_argument("args", metavar="ARGS", nargs=argparse.REMAINDER, help="arguments of init, as strings")
    rest.required = False  # or argparse lists it as missing


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _kernel_options(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "on_oops": options.on_oops,
        "watchdog_s": options.watchdog or None,
        "loglevel": options.loglevel,
    }


# -- lkl-green run


def _run(options: argparse.Namespace) -> int:
    if options.host == "thread" and options.switch == "direct":
        return _complain(
            "--switch direct is greenlet.switch() and needs --host greenlet; OS threads use --switch semaphore",
            STATUS_USAGE,
        )
    with ExitStack() as stack:
        init, args = _program(options, stack)
        try:
            trace_file = stack.enter_context(_open_trace(options.trace))
        except OSError as error:
            return _complain(f"--trace {options.trace}: {error.strerror}", STATUS_USAGE)
        kernel = lkl_start_kernel(
            init,
            *args,
            host=options.host,
            switch=options.switch,
            clock=options.clock or ("virtual" if options.threads else "monotonic"),
            trace=trace_file is not None,
            **_kernel_options(options),
        )
        _observe(kernel, trace_file, options.stats, stack)
        if options.threads:
            return _run_script(kernel, stack)
        return _run_to_power_off(kernel)


def _program(options: argparse.Namespace, stack: ExitStack) -> tuple[Callable[..., Any], Sequence[str]]:
    """What pid 1 is to run, and its arguments."""
    if not options.threads:
        return stack.enter_context(load_program(options.program, *options.args)), options.args
    from lkl_green.testing.threads import as_main
    from lkl_green.testing.threads.script import load_script

    return as_main(load_script(options.program, options.args)), ()


def _run_script(kernel: Kernel, stack: ExitStack) -> int:
    """Run a script that may end with SystemExit, as scripts do."""
    from lkl_green.testing.threads import green_threads

    stack.enter_context(green_threads(kernel))
    try:
        return _run_to_power_off(kernel)
    except SystemExit as exit:
        if exit.code is None or isinstance(exit.code, int):
            return exit.code or 0
        return _complain(str(exit.code), STATUS_FAILED)


def _observe(kernel: Kernel, trace_file: TextIO | None, stats: bool, stack: ExitStack) -> None:
    """Trace and count, and write it down when the stack is left, however the run ends."""
    if trace_file is not None:
        stack.callback(_write_trace, kernel, trace_file, kernel.trace_stop())
    if trace_file is not None or stats:
        trace = kernel.trace_start(0 if trace_file is None else None, accounting=stats)
        if isinstance(trace, Accounting):
            stack.callback(_write_statistics, kernel, trace, time.perf_counter())


def _open_trace(name: str | None) -> AbstractContextManager[TextIO | None]:
    if name is None:
        return nullcontext(None)
    return nullcontext(sys.stdout) if name == "-" else Path(name).open("w", encoding="utf-8")


def _run_to_power_off(kernel: Kernel) -> int:
    try:
        result = kernel.run()
    except LklError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            raise error.__cause__
        return _complain(explain_failure(error), STATUS_FAILED)
    if type(result) is not int:
        return 0
    if not 0 <= result <= 255:
        return _complain(f"init returned {result}, which is no exit status; those are 0 to 255", STATUS_FAILED)
    return result


def _write_trace(kernel: Kernel, file: TextIO, booted: list[TraceRecord]) -> None:
    """The end of --trace; `booted` is what was traced before accounting could begin."""
    file.write(format_trace(booted + kernel.trace_stop()))


def _write_statistics(kernel: Kernel, accounting: Accounting, started_s: float) -> None:
    """The end of --stats."""
    elapsed_s = time.perf_counter() - started_s
    total = kernel.statistics()
    counts = f"{total.switches} switches, {accounting.wakeups} wakeups, {total.irqs} irqs"
    times = f"{total.time_ns / 1e9:.6f} s on the kernel's clock, {elapsed_s:.6f} s elapsed"
    lines = [f"{counts}; {times}", f"{'PID':>7} {'SWITCHES':>9} {'RUNTIME ms':>12}  COMM"]
    for pid in sorted(accounting.switches):
        runtime_ms = accounting.runtime_ns[pid] / 1e6
        lines.append(f"{pid:>7} {accounting.switches[pid]:>9} {runtime_ms:>12.3f}  {accounting.comms[pid]}")
    sys.stdout.flush()
    sys.stderr.write("\n".join(lines) + "\n")


# -- lkl-green parity


def _parity(options: argparse.Namespace) -> int:
    outcome = parity(options.program, *options.args, **_kernel_options(options))
    if not outcome.equal:
        print(outcome)
        return STATUS_FAILED
    error = outcome.runs[0].error
    if error is not None:
        _complain(explain_failure(error), STATUS_FAILED)
    print(outcome)
    return 0 if error is None else STATUS_FAILED
