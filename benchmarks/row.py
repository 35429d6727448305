"""What a row is, and what stands in its cells."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.configurations import Configuration

QUICK_SHARE = 10


@dataclass(frozen=True)
class Row:
    """One thing that is measured.

    Attributes:
        key: what `--rows` selects; peers have a function of this name.
        title: what it is.
        measure: `measure(configuration, n)` does it n times: nanoseconds for each or, in a row that stands `alone`, a
            `Figure`.
        n: how often; a tenth of it with --quick.
        n_hosted, n_threads: how often in `hosted`, and where each task is an OS thread, if not the column's share of n.
        n_least: fewer make no sense.
        target: the ratio, or the value, to reach in the direct configuration.
        target_text: how the target is shown, where it is no ratio to the raw switch.
        alone: whether it runs once, in a process of its own.
        whole: whether everybody does all of n.
        only: the configurations in which it makes sense; all if empty.
        full_only: whether --quick leaves it out.
    """

    key: str
    title: str
    measure: Callable[[Configuration, int], Any]
    n: int
    n_hosted: int | None = None
    n_threads: int | None = None
    n_least: int = 1
    target: float | None = None
    target_text: str = ""
    alone: bool = False
    full_only: bool = False
    whole: bool = False
    only: tuple[str, ...] = ()

    def count(self, share: int = 1, *, has_os_threads: bool = False, quick: bool = False) -> int:
        """How often to do it for somebody who does a `share`-th of it."""
        if has_os_threads and self.n_threads is not None:
            n = self.n_threads // (2 if quick else 1)
        else:
            n = self.n // (QUICK_SHARE if quick else 1) // (1 if self.whole else share)
        return max(n, self.n_least)


@dataclass(frozen=True)
class Figure:
    """What a row that stands alone has found.

    Attributes:
        value: the number that a target is compared with.
        text: how it is shown.
    """

    value: float
    text: str


@dataclass
class Cell:
    """One row in one column.

    Attributes:
        n: how often it was done.
        ratios: to the raw switch, of each round.
        figure: what a row that stands alone has found.
        error: what went wrong.
    """

    n: int
    ratios: list[float] = field(default_factory=list)
    figure: Figure | None = None
    error: str = ""

    @property
    def value(self) -> float | None:
        """What is compared with the target: the median, or the figure's value."""
        if self.figure is not None:
            return self.figure.value
        return median(self.ratios) if self.ratios else None

    def text(self) -> str:
        """As the table shows it."""
        if self.error:
            return "error"
        if self.figure is not None:
            return self.figure.text
        return f"{_short(median(self.ratios))} ({_short(min(self.ratios))})" if self.ratios else ""

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "value": self.value}


def _short(ratio: float) -> str:
    """Three digits, more or less."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:.0f}"
