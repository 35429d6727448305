"""Several servers, each in its process, and the same load on one after the other, in rounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TIMEOUT_S = 120


@dataclass
class Result:
    """What the rounds of one server gave."""

    rates: list[float] = field(default_factory=list)
    p50s_us: list[float] = field(default_factory=list)
    p99s_us: list[float] = field(default_factory=list)
    cpus_us: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def rate(self) -> float:
        """Requests per second: the median of the rounds."""
        return median(self.rates)

    @property
    def p99_us(self) -> float:
        """The median of the rounds' 99th percentiles."""
        return median(self.p99s_us)

    @property
    def cpu_us(self) -> float | None:
        """CPU time of the server per request; None where the system does not tell."""
        return median(self.cpus_us) if self.cpus_us else None

    def share_of(self, other: Result) -> float:
        """How much of the other's rate this one reaches, from the median of the rounds, each with its own pair."""
        return median(mine / theirs for mine, theirs in zip(self.rates, other.rates, strict=True))


@contextmanager
def running_server(kind: str) -> Iterator[tuple[int, int]]:
    """A server in a process of its own; its port and its pid. Raises RuntimeError if it does not start."""
    command = [sys.executable, "-m", "benchmarks.echo.serve", kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.strip().isdigit():
                raise RuntimeError(f"the server {kind!r} did not start")
            yield int(line), process.pid
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def one_load(port: int, connections: int, seconds: float) -> dict[str, float]:
    """The client's figures. Raises RuntimeError with what it said last."""
    command = [sys.executable, "-m", "benchmarks.echo.client", str(port), str(connections), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.splitlines() or ["the client died"])[-1])
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def cpu_us(pid: int) -> float | None:
    """CPU time that a process has used, in steps of some milliseconds."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")


def compare(
    kinds: Sequence[str],
    connections: int,
    rounds: int,
    seconds: float,
    say: Callable[[str], object] = lambda text: None,
) -> dict[str, Result]:
    """Measure the servers in turn, round after round."""
    results = {kind: Result() for kind in kinds}
    with ExitStack() as stack:
        servers = {}
        for kind in kinds:
            try:
                servers[kind] = stack.enter_context(running_server(kind))
            except RuntimeError as error:
                results[kind].error = str(error)
        for number in range(rounds):
            for kind, (port, pid) in servers.items():
                if not results[kind].error:
                    _measure(results[kind], port, pid, connections, seconds)
                    say(f"{connections:5} connections, round {number + 1}: {kind:18} {_last(results[kind])}")
    return results


def _measure(result: Result, port: int, pid: int, connections: int, seconds: float) -> None:
    before = cpu_us(pid)
    try:
        figures = one_load(port, connections, seconds)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        result.error = str(error)
        return
    result.rates.append(figures["rate"])
    result.p50s_us.append(figures["p50_us"])
    result.p99s_us.append(figures["p99_us"])
    after = cpu_us(pid)
    if before is not None and after is not None:
        result.cpus_us.append((after - before) / figures["requests"])


def _last(result: Result) -> str:
    if result.error:
        return result.error
    return f"{result.rates[-1]:8.0f}/s  p50 {result.p50s_us[-1]:7.0f} us  p99 {result.p99s_us[-1]:7.0f} us" + (
        f"  CPU {result.cpus_us[-1]:5.1f} us" if result.cpus_us else ""
    )
