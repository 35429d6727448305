"""The parity contract: one program, three configurations, byte-identical trace text (part of `lkl-green parity`).

    direct     greenlets, switch_threads() is greenlet.switch()
    hosted     greenlets, LKL's protocol of semaphores over the host operations
    pthreads   OS threads, the same protocol: the pthread model

Under the virtual clock nothing is left that may differ: exactly one context is runnable at a time, every decision is
the kernel's, and time and interrupts come in at named points. So equality is not a matter of luck, and one different
line is a bug, in the kernel or in a program that looks at the world behind the kernel's back.

How a run ends belongs to it: a program that panics or deadlocks must do so in all three. What it prints is shown for
the first configuration only.
"""

from __future__ import annotations

import io
from contextlib import ExitStack, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lkl_green import format_trace, lkl_start_kernel
from lkl_green.compare.program import load_program
from lkl_green.errors import LklError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

CONTEXT_LINES = 3


class Configuration(NamedTuple):
    """One of the ways to run a kernel: a name, and arguments of `lkl_start_kernel()`."""

    name: str
    host: str
    switch: str


CONFIGURATIONS = (
    Configuration("direct", "greenlet", "direct"),
    Configuration("hosted", "greenlet", "semaphore"),
    Configuration("pthreads", "thread", "semaphore"),
)


@dataclass(frozen=True)
class TracedRun:
    """What one configuration did.

    Attributes:
        name: of the configuration.
        trace: the ftrace text.
        switches: context switches.
        error: what `kernel.run()` raised; None if the program ran to power-off.
        result: what `init` returned.
    """

    name: str
    trace: str
    switches: int
    error: BaseException | None
    result: Any

    @property
    def events(self) -> list[str]:
        """The lines of the trace without its header, whose counts differ whenever anything does."""
        return [line for line in self.trace.splitlines() if not line.startswith("#")]

    @property
    def ending(self) -> str:
        """How the run ended, without anything that may differ between two equal runs, such as addresses."""
        if self.error is None:
            return "power-off"
        cause = self.error.__cause__
        return type(self.error).__name__ + ("" if cause is None else f" from {type(cause).__name__}")


Run = TracedRun  # the former name; `lkl_green.testing` has a `Run`, too, which is a schedule that was run


@dataclass(frozen=True)
class Difference:
    """The first place at which two traces part.

    Attributes:
        left, right: names of the configurations.
        line: number of the first event that differs, from 1.
        before: the last equal lines.
        left_lines, right_lines: how each goes on; empty where a trace has ended.
    """

    left: str
    right: str
    line: int
    before: list[str]
    left_lines: list[str]
    right_lines: list[str]

    def __str__(self) -> str:
        lines = [f"{self.left} and {self.right} differ from event {self.line} on:"]
        lines += [f"  {line}" for line in self.before]
        lines += [f"- {line}" for line in self.left_lines or ["(the trace ends here)"]]
        lines += [f"+ {line}" for line in self.right_lines or ["(the trace ends here)"]]
        return "\n".join(lines)


@dataclass(frozen=True)
class Parity:
    """The outcome of a comparison.

    Attributes:
        runs: one for each configuration.
        difference: where the traces part; None if they are equal.
    """

    runs: tuple[TracedRun, ...]
    difference: Difference | None

    @property
    def equal(self) -> bool:
        """Whether traces and endings are equal."""
        return self.difference is None and len({run.ending for run in self.runs}) == 1

    def __str__(self) -> str:
        if self.difference is not None:
            return str(self.difference)
        names = ", ".join(run.name for run in self.runs)
        if not self.equal:
            return "equal traces, but: " + ", ".join(f"{run.name} ends by {run.ending}" for run in self.runs)
        first = self.runs[0]
        return f"equal: {len(first.events)} trace lines, {first.switches} switches, the same in {names}"


def parity(
    program: Callable[..., Any] | str | Path,
    *args: Any,
    configurations: Iterable[Configuration] = CONFIGURATIONS,
    **options: Any,
) -> Parity:
    """Run a program in each configuration under the virtual clock, and compare the traces.

    Args:
        program: the function of pid 1, or a program file, which is loaded anew for each run.
        args: its arguments.
        configurations: what to compare; the first one is what the others are compared with.
        options: further options of `lkl_start_kernel()`.

    Raises:
        ProgramError: the file is no program.
    """
    runs: list[TracedRun] = []
    for configuration in configurations:
        with ExitStack() as stack:
            if runs:
                stack.enter_context(redirect_stdout(io.StringIO()))
                stack.enter_context(redirect_stderr(io.StringIO()))
            init = stack.enter_context(_opened(program, args))
            runs.append(run_traced(configuration, init, *args, **options))
    differences = (first_difference(runs[0], run) for run in runs[1:])
    return Parity(tuple(runs), next(filter(None, differences), None))


def _opened(program: Callable[..., Any] | str | Path, args: tuple[Any, ...]) -> AbstractContextManager[Any]:
    return load_program(program, *args) if isinstance(program, str | Path) else nullcontext(program)


def run_traced(configuration: Configuration, init: Callable[..., Any], *args: Any, **options: Any) -> TracedRun:
    """Run `init(*args)` to its end, however it ends, in one configuration and virtual time."""
    options = {"clock": "virtual", **options, "trace": True}
    kernel = lkl_start_kernel(init, *args, host=configuration.host, switch=configuration.switch, **options)
    error: BaseException | None = None
    result = None
    try:
        result = kernel.run()
    except (LklError, SystemExit) as raised:
        error = raised
    trace = format_trace(kernel.trace_stop())
    return TracedRun(configuration.name, trace, kernel.statistics().switches, error, result)


def first_difference(left: TracedRun, right: TracedRun) -> Difference | None:
    """Where two traces part; None if they are equal."""
    if left.trace == right.trace:
        return None
    ours, theirs = left.events, right.events
    shorter = min(len(ours), len(theirs))
    at = next((i for i in range(shorter) if ours[i] != theirs[i]), shorter)
    after = slice(at, at + CONTEXT_LINES)
    return Difference(left.name, right.name, at + 1, ours[max(at - CONTEXT_LINES, 0) : at], ours[after], theirs[after])
