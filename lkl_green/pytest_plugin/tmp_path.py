"""`tmp_path` in a campaign: one directory for all schedules, empty at the beginning of each.

pytest's own fixture makes a directory for each call and keeps it. A thousand schedules would leave a thousand, and a
path that differs from schedule to schedule makes tests differ that print or sort it.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from _pytest.fixtures import FixtureDef, SubRequest

_MAX_NAME = 30

# Of a test: the directory by process, for worker processes must not share one.
_DIRECTORIES = pytest.StashKey[dict[int, "Path"]]()


def before_fork(item: pytest.Function) -> None:
    """Make pytest's own directory now: each worker process that does so may remove those of the others."""
    item._request.getfixturevalue("tmp_path_factory").getbasetemp()


def set_up(fixturedef: FixtureDef[Any], request: SubRequest) -> Path:
    """As the fixture would do it, for a test that is explored."""
    directories = request.node.stash.setdefault(_DIRECTORIES, {})
    path: Path | None = directories.get(os.getpid())
    if path is None:
        factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
        name = re.sub(r"[\W]", "_", request.node.name)[:_MAX_NAME]
        directories[os.getpid()] = path = factory.mktemp(name)
    else:
        _empty(path)
    fixturedef.cached_result = (path, fixturedef.cache_key(request), None)
    return path


def _empty(path: Path) -> None:
    if not path.is_dir():  # the test has removed it
        path.mkdir(mode=0o700)
        return
    for entry in os.scandir(path):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
