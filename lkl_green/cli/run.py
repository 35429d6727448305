"""`lkl-green run`: a program on a kernel of its own."""

from __future__ import annotations

import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lkl_green import Kernel, format_trace, lkl_start_kernel
from lkl_green.boot import HOSTS
from lkl_green.cli.options import (
    STATUS_FAILED,
    STATUS_TIME_LIMIT,
    STATUS_USAGE,
    add_command,
    add_program,
    complain,
    kernel_options,
    seconds,
)
from lkl_green.cli.reporting import complain_with_report, limited, sigquit_reports
from lkl_green.compare.program import explain_failure, load_program
from lkl_green.errors import KernelPanic, LklError, TimeLimit
from lkl_green.host.native import perf_counter
from lkl_green.kernel.stacktext import user_traceback
from lkl_green.kernel.tracepoint import Accounting

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from lkl_green.kernel.tracepoint import TraceRecord

_RUN = """\
Boot a kernel on the program's init(*ARGS) and run it until init returns. ARGS are passed as strings.
The exit status is what init returns, if that is a number from 0 to 255, else 0. It is
    1    if the kernel panics, deadlocks or goes round in a livelock, or if init ends with 0 and threads are left that
         are blocked for good (state D: neither sleeping interruptibly, nor for a time, nor a service thread)
    2    if the program cannot be loaded
    124  at the time limit
    130  after Ctrl-C, of which a thread that never calls the kernel needs two
The state of every thread is printed at the time limit, after Ctrl-C, and on SIGQUIT (Ctrl-\\). SIGQUIT ends nothing.
"""

_RUN_EXAMPLE = """\
example:
  lkl-green run --clock virtual --stats examples/02_producer_consumer.py
"""


def add(commands: Any) -> None:
    """The command and its options."""
    run = add_command(commands, "run", "run a program on a kernel of its own", _RUN, _RUN_EXAMPLE)
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
    run.add_argument(
        "--time-limit",
        metavar="SECONDS",
        type=seconds,
        default=0.0,
        help="end the run after so much real time, with exit status 124; the process itself, if a thread does not "
        "give up the CPU; 0, the default, is never",
    )
    run.add_argument("--trace", metavar="FILE", help="write what the kernel did as ftrace text; - is stdout")
    run.add_argument("--stats", action="store_true", help="count switches, wake-ups, interrupts and time; to stderr")
    add_program(run)


def _run(options: argparse.Namespace) -> int:
    if options.host == "thread" and options.switch == "direct":
        return complain(
            "--switch direct is greenlet.switch() and needs --host greenlet; OS threads use --switch semaphore",
            STATUS_USAGE,
        )
    with ExitStack() as stack:
        init, args = _program(options, stack)
        try:
            trace_file = stack.enter_context(_open_trace(options.trace))
        except OSError as error:
            return complain(f"--trace {options.trace}: {error.strerror}", STATUS_USAGE)
        console = _Console()
        kernel = console.kernel = lkl_start_kernel(
            init,
            *args,
            host=HOSTS[options.host](console=console.write),
            switch=options.switch,
            clock=options.clock or ("virtual" if options.threads else "monotonic"),
            trace=trace_file is not None,
            **kernel_options(options),
        )
        _observe(kernel, trace_file, options.stats, stack)
        stack.enter_context(sigquit_reports(kernel))
        if options.time_limit:
            stack.enter_context(limited(kernel, options.time_limit))
        status = _run_script(kernel, stack) if options.threads else _run_to_power_off(kernel)
        console.check()
        return status


class _Console:
    """Standard output as the kernel's console. Once nobody reads it any more, there is no point in going on."""

    def __init__(self) -> None:
        self.kernel: Kernel | None = None
        self._broken: BrokenPipeError | None = None

    def write(self, text: str) -> None:
        """The host operation `print`."""
        try:
            sys.stdout.write(text)
        except BrokenPipeError as error:
            self._broken = error
            if self.kernel is not None:
                self.kernel.power_off()
            raise

    def check(self) -> None:
        """After the run: raises BrokenPipeError if the kernel was stopped for that."""
        if self._broken is not None:
            raise self._broken


def _program(options: argparse.Namespace, stack: ExitStack) -> tuple[Callable[..., Any], Sequence[str]]:
    """What pid 1 is to run, and its arguments."""
    if not options.threads:
        return stack.enter_context(load_program(options.program, *options.args)), options.args
    from lkl_green.green.script import load_script

    return load_script(options.program, options.args), ()


def _run_script(kernel: Kernel, stack: ExitStack) -> int:
    """Run a script that may end with SystemExit, as scripts do."""
    from lkl_green.green import green_threads

    stack.enter_context(green_threads(kernel))
    try:
        kernel.run()
    except LklError as error:
        return _tell_of_script(error)
    except SystemExit as exit:
        if exit.code is None or isinstance(exit.code, int):
            return exit.code or 0
        return complain(str(exit.code), STATUS_FAILED)
    return 0


def _tell_of_script(error: LklError) -> int:
    """An exception of the script is told as Python tells it; a kernel panic is nothing its author knows."""
    if isinstance(error, KernelPanic) and isinstance(error.__cause__, Exception):
        sys.stdout.flush()
        sys.stderr.write(user_traceback(error.__cause__))
        return STATUS_FAILED
    return _tell(error)


def _observe(kernel: Kernel, trace_file: TextIO | None, stats: bool, stack: ExitStack) -> None:
    """Trace and count, and write it down when the stack is left, however the run ends."""
    if trace_file is not None:
        stack.callback(_write_trace, kernel, trace_file, kernel.trace_stop())
    if trace_file is not None or stats:
        trace = kernel.trace_start(0 if trace_file is None else None, accounting=stats)
        if isinstance(trace, Accounting):
            stack.callback(_write_statistics, kernel, trace, perf_counter())


def _open_trace(name: str | None) -> AbstractContextManager[TextIO | None]:
    if name is None:
        return nullcontext(None)
    return nullcontext(sys.stdout) if name == "-" else Path(name).open("w", encoding="utf-8")


def _run_to_power_off(kernel: Kernel) -> int:
    try:
        result = kernel.run()
    except LklError as error:
        return _tell(error)
    status = result if type(result) is int else 0
    if not 0 <= status <= 255:
        return complain(f"init returned {result}, which is no exit status; those are 0 to 255", STATUS_FAILED)
    if kernel.left_blocked:
        complain(kernel.left_blocked, STATUS_FAILED)
        return status or STATUS_FAILED
    return status


def _tell(error: LklError) -> int:
    if isinstance(error.__cause__, BrokenPipeError):
        raise error.__cause__
    if isinstance(error, TimeLimit):
        return complain_with_report(error, str(error), STATUS_TIME_LIMIT)
    return complain(explain_failure(error), STATUS_FAILED)


def _write_trace(kernel: Kernel, file: TextIO, booted: list[TraceRecord]) -> None:
    """The end of --trace; `booted` is what was traced before accounting could begin."""
    file.write(format_trace(booted + kernel.trace_stop()))


def _write_statistics(kernel: Kernel, accounting: Accounting, started_s: float) -> None:
    """The end of --stats."""
    elapsed_s = perf_counter() - started_s
    total = kernel.statistics()
    counts = f"{total.switches} switches, {accounting.wakeups} wakeups, {total.irqs} irqs"
    times = f"{total.time_ns / 1e9:.6f} s on the kernel's clock, {elapsed_s:.6f} s elapsed"
    lines = [f"{counts}; {times}", f"{'PID':>7} {'SWITCHES':>9} {'RUNTIME ms':>12}  COMM"]
    for pid in sorted(accounting.switches):
        runtime_ms = accounting.runtime_ns[pid] / 1e6
        lines.append(f"{pid:>7} {accounting.switches[pid]:>9} {runtime_ms:>12.3f}  {accounting.comms[pid]}")
    sys.stdout.flush()
    sys.stderr.write("\n".join(lines) + "\n")
