"""Both hosts, ready for use, and cleaned up whatever a test left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .stories import HOSTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lkl_green.host.ops import HostOps


@pytest.fixture
def log() -> list[object]:
    """What happened, in order."""
    return []


@pytest.fixture
def console() -> list[str]:
    """What the host printed."""
    return []


@pytest.fixture
def make_host(console: list[str]) -> Iterator[Callable[[str], HostOps]]:
    """Makes initialised hosts; `kind` is a key of HOSTS."""
    hosts: list[HostOps] = []

    def make(kind: str) -> HostOps:
        host = HOSTS[kind](console.append)
        host.host_init()
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        if host._owner is not None:
            host.host_cleanup()


@pytest.fixture(params=sorted(HOSTS))
def host(request: pytest.FixtureRequest, make_host: Callable[[str], HostOps]) -> HostOps:
    """Each host in turn."""
    return make_host(request.param)
