"""All contenders in turns, a small batch each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.exploring.contenders.serve import MARK
from benchmarks.raw import raw_switch_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

ROOT = Path(__file__).parent.parent.parent
RAW_SWITCHES = 20_000
_EXIT_TIMEOUT_S = 10


class Contender(NamedTuple):
    """Somebody who can run the program.

    Attributes:
        name: who.
        module: where, in `contenders`.
        batch: how many schedules at a time, so that a batch takes some hundredths of a second.
        needs: the distribution that has to be installed; "" for none.
        controls: whether it decides who runs.
    """

    name: str
    module: str
    batch: int
    needs: str = ""
    controls: bool = True


OURS = (Contender("explicit points", "ours", 500), Contender("threading", "ours", 400))
PEERS = (
    *(
        Contender(f"interleave-test {strategy}/{granularity}", "with_interleave_test", 40, "interleave-test")
        for strategy in ("random", "pct", "dfs")
        for granularity in ("opcode", "line")
    ),
    *(Contender(f"frontrun {strategy}", "with_frontrun", 20, "frontrun") for strategy in ("random", "dpor")),
    Contender("OS threads, nobody in control", "os_threads", 200, controls=False),
)


@dataclass
class Times:
    """What a contender took for a schedule, at best.

    Attributes:
        cpu_ns, wall_ns: by each clock.
    """

    cpu_ns: float = inf
    wall_ns: float = inf

    def add(self, cpu_ns: float, wall_ns: float) -> None:
        """One more batch."""
        self.cpu_ns = min(self.cpu_ns, cpu_ns)
        self.wall_ns = min(self.wall_ns, wall_ns)


@dataclass
class Comparison:
    """What came of it.

    Attributes:
        times: by contender.
        raw_ns: one bare greenlet switch, at best.
    """

    times: dict[str, Times]
    raw_ns: float = inf

    def switches(self, name: str) -> float:
        """A contender's CPU time for a schedule, in bare switches: both at their best moment of the run."""
        return self.times[name].cpu_ns / self.raw_ns

    def fastest(self, *, controls: bool) -> str | None:
        """The fastest peer that decides who runs, or that does not; None if there is none."""
        peers = [peer.name for peer in PEERS if peer.controls is controls and peer.name in self.times]
        return min(peers, key=lambda name: self.times[name].cpu_ns, default=None)

    def ratio(self, ours: str, peer: str) -> float:
        """How many of our schedules fit into one of a peer's."""
        return self.times[peer].cpu_ns / self.times[ours].cpu_ns


class Process:
    """A contender's process."""

    def __init__(self, contender: Contender) -> None:
        command = [sys.executable, "-m", "benchmarks.exploring.contenders.serve", contender.module, contender.name]
        if contender.needs == "frontrun":
            command.insert(0, str(Path(sys.executable).with_name("frontrun")))
        self._contender = contender
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate(timeout=_EXIT_TIMEOUT_S)

    def batch(self) -> tuple[float, float]:
        """Nanoseconds per schedule, of CPU time and of the day. Raises RuntimeError if the process has ended."""
        process, n = self._process, self._contender.batch
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{n}\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith(MARK):
                took = json.loads(line.removeprefix(MARK))
                return took["cpu_ns"] / n, took["wall_ns"] / n
        raise RuntimeError(f"{self._contender.name} ended with status {process.wait(_EXIT_TIMEOUT_S)}")


def installed(contender: Contender) -> bool:
    """Whether a contender can be had here."""
    try:
        return not contender.needs or bool(version(contender.needs))
    except PackageNotFoundError:
        return False


def compare(
    contenders: Sequence[Contender], rounds: int, say: Callable[[str], object] = lambda text: None
) -> Comparison:
    """Measure all contenders that are installed, in turns.

    Args:
        contenders: who.
        rounds: how many batches each.
        say: told about progress.
    """
    here = [contender for contender in contenders if installed(contender)]
    comparison = Comparison({contender.name: Times() for contender in here})
    with ExitStack() as stack:
        processes = {contender.name: stack.enter_context(Process(contender)) for contender in here}
        for process in processes.values():
            process.batch()  # the first one warms up
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for name, process in processes.items():
                comparison.raw_ns = min(comparison.raw_ns, raw_switch_ns(RAW_SWITCHES))
                comparison.times[name].add(*process.batch())
    return comparison
