"""What tests of the host's descriptors share."""

from __future__ import annotations

import os
import threading

import pytest

PATIENCE_S = 10


@pytest.fixture
def no_leak():
    """Nothing that a test does may leave a descriptor or a thread behind."""
    before = len(os.listdir("/proc/self/fd"))
    threads = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert len(os.listdir("/proc/self/fd")) == before
