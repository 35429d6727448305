"""Where the figures come from: versions and machine."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version

from benchmarks.columns import PEERS, peer_version


def environment() -> dict[str, str]:
    """What has to be known to read the figures."""
    facts = {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "greenlet": version("greenlet"),
        "cores": str(usable_cores()),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    facts.update({name: peer_version(name) or "not installed" for name, package in PEERS.items() if package})
    return facts


def usable_cores() -> int:
    """How many CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def unusual() -> list[str]:
    """What makes these figures differ from those of a plain run."""
    notes = []
    if sys.gettrace() is not None or sys.getprofile() is not None:
        notes.append("a debugger, profiler or coverage tool is active: switches are slower")
    if usable_cores() == 1:
        notes.append("only one CPU: 'pthreads' and 'pthreads/1cpu' are the same")
    return notes
