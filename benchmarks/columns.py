"""The columns: the configurations of the kernel, and the peers that are installed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.configurations import CONFIGURATIONS, Configuration
from benchmarks.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.row import Row

# Peers do a share of the operations: they are slower than the direct configuration, none of them is by magnitudes.
PEER_SHARE = 4


class Column(Protocol):
    """Somebody who can do some of the rows."""

    @property
    def name(self) -> str:
        """Its heading."""

    def has(self, row: str) -> bool:
        """Whether the row makes sense here."""

    def count(self, row: Row, quick: bool) -> int:
        """How often to do it."""

    def measure(self, row: str, n: int) -> Any:
        """Do it: nanoseconds per operation, or a Figure."""


@dataclass(frozen=True)
class KernelColumn:
    """A configuration of the kernel."""

    configuration: Configuration

    @property
    def name(self) -> str:
        return self.configuration.name

    def has(self, row: str) -> bool:
        return not ROWS[row].only or self.name in ROWS[row].only

    def count(self, row: Row, quick: bool) -> int:
        has_os_threads = self.configuration.has_os_threads
        return row.count(self.configuration.share, has_os_threads=has_os_threads, quick=quick)

    def measure(self, row: str, n: int) -> Any:
        return ROWS[row].measure(self.configuration, n)


@dataclass(frozen=True)
class PeerColumn:
    """Another library; `twins` has a function `measure(n)` for each row that makes sense there."""

    name: str
    twins: dict[str, Callable[[int], Any]]

    def has(self, row: str) -> bool:
        return row in self.twins

    def count(self, row: Row, quick: bool) -> int:
        return row.count(PEER_SHARE, quick=quick)

    def measure(self, row: str, n: int) -> Any:
        return self.twins[row](n)


PEERS = {"gevent": "gevent", "asyncio": None, "uvloop": "uvloop", "simpy": "simpy"}


def peer_version(name: str) -> str | None:
    """The version of a peer; "" for one that comes with Python, None for one that is not installed."""
    distribution = PEERS[name]
    if distribution is None:
        return ""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def column_named(name: str) -> Column:
    """The column of that name. Raises KeyError, or ImportError for a peer that is not installed."""
    if name in CONFIGURATIONS:
        return KernelColumn(CONFIGURATIONS[name])
    if name not in PEERS:
        raise KeyError(name)
    return PeerColumn(name, importlib.import_module(f"benchmarks.peers.with_{name}").TWINS)


def installed_peers() -> list[str]:
    """Names of the peers that can be measured here."""
    return [name for name in PEERS if peer_version(name) is not None]
