"""Releases of packages, each installed into a directory of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_INSTALL_TIMEOUT_S = 120


class NotInstalled(Exception):
    """A release could not be installed: no pip, no index, or the index does not have it."""


def install(package: str, version: str, cache: Path) -> Path:
    """The directory with a release and what it needs; installed with pip unless it is there already.

    Args:
        package, version: which.
        cache: where such directories are kept.

    Raises:
        NotInstalled: with what pip said.
    """
    directory = cache / f"{package}-{version}"
    if directory.exists():
        return directory
    half_done = cache / f"{directory.name}.part"
    shutil.rmtree(half_done, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:"]
    command += ["--retries=1", "--timeout=10"]  # without an index it should not take long to say so
    try:
        done = subprocess.run(
            [*command, "--target", str(half_done), f"{package}=={version}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{package} {version}: pip did not end within {_INSTALL_TIMEOUT_S} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise NotInstalled(f"{package} {version}: pip said: {said[-1]}")
    half_done.rename(directory)
    return directory
