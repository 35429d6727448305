"""The plugin's options: on the command line, and in the configuration."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import pytest

from lkl_green.pytest_plugin.keys import SEED_WAS_DRAWN

_MAX_SEED = 1_000_000_000


def add(parser: pytest.Parser) -> None:
    """Declare them."""
    group = parser.getgroup("lkl_green", "schedules of concurrent code (lkl_green)")
    group.addoption(
        "--lkl-schedules", type=_positive, metavar="N", help="how many schedules each marked test is run in"
    )
    group.addoption("--lkl-seed", type=_seed, metavar="N", help="seed of the schedules, or 'random'; default 0")
    group.addoption("--lkl-policy", metavar="NAME", help="how schedules are made")
    group.addoption(
        "--lkl-points",
        choices=("memory", "sync"),
        help="where threads are interleaved: at accesses of ordinary code, too, or at locks and their like only",
    )
    group.addoption(
        "--lkl-all",
        type=_positive,
        nargs="?",
        const=1,
        metavar="N",
        help="run tests without the marker as well, each in N schedules; 1 if N is left out (write --lkl-all=N)",
    )
    group.addoption(
        "--lkl-replay", type=Path, metavar="FILE", help="run the marked test in this recorded schedule only"
    )
    group.addoption(
        "--lkl-shrink", action="store_true", default=None, help="look for a simpler failing schedule; the default"
    )
    group.addoption("--no-lkl-shrink", action="store_false", dest="lkl_shrink", help="report a failure as it was found")
    group.addoption(
        "--lkl-trace-dir", type=Path, metavar="DIR", help="where failing schedules are written; default .lkl_schedules"
    )
    parser.addini("lkl_schedules", "how many schedules a marked test is run in that does not say itself")
    parser.addini("lkl_seed", "seed of the schedules, or 'random'")
    parser.addini("lkl_policy", "how schedules are made")
    parser.addini("lkl_shrink", "look for a simpler failing schedule", type="bool", default=True)
    parser.addini("lkl_trace_dir", "where failing schedules are written, from the root directory")
    parser.addini("lkl_threads", "run threads of `threading` as kernel threads: yes, no, or auto: if a test starts one")
    parser.addini("lkl_points", "where threads are interleaved: memory or sync")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of schedules: write a whole number above 0")
    return int(text)


def _seed(text: str) -> int | str:
    return text if text == "random" else int(text)


def draw_seed(config: pytest.Config) -> None:
    """Draw a seed if one is to be drawn; a worker of xdist takes the one that was."""
    if config.option.lkl_seed is None and config.getini("lkl_seed") == "random":
        config.option.lkl_seed = "random"
    if hasattr(config, "workerinput"):
        config.option.lkl_seed = config.workerinput["lkl_seed"]
    if config.option.lkl_seed == "random":
        config.option.lkl_seed = random.SystemRandom().randrange(_MAX_SEED)
        config.stash[SEED_WAS_DRAWN] = True


def names(config: pytest.Config) -> str:
    """What `pytest --markers` shows; other runs do not read it, and need not import the explorer for it."""
    if not config.option.markers:
        return "**options"
    from lkl_green.testing.settings import option_names

    return ", ".join(["setup", *option_names()])


def complete(config: pytest.Config, marked: dict[str, Any]) -> None:
    """Add to what a marker says: the command line goes before it, the configuration and the defaults after it."""
    for name in ("schedules", "policy", "points", "seed", "shrink"):
        marked[name] = _setting(config, name, marked.get(name))
    threads = _threads(config)
    if threads is not None:
        marked.setdefault("threads", threads)


def _setting(config: pytest.Config, name: str, marked: object = None) -> Any:
    """The command line, else the marker, else the configuration, else the default."""
    given = getattr(config.option, f"lkl_{name}")
    if given is not None:
        return given
    if marked is not None:
        return marked
    written = config.getini(f"lkl_{name}")
    if isinstance(written, bool):
        return written
    if not written:
        return _default(name)
    if name not in ("schedules", "seed"):
        return written
    try:
        return (_positive if name == "schedules" else int)(written)
    except (ValueError, argparse.ArgumentTypeError):
        raise pytest.UsageError(f"lkl_{name} = {written!r} in the configuration is not a number") from None


def _default(name: str) -> Any:
    from lkl_green.testing.settings import Settings

    return getattr(Settings, name)


def _threads(config: pytest.Config) -> bool | None:
    written = str(config.getini("lkl_threads") or "auto").lower()
    known = {"auto": None, "yes": True, "true": True, "on": True, "1": True}
    known |= {"no": False, "false": False, "off": False, "0": False}
    if written not in known:
        raise pytest.UsageError(f"lkl_threads = {written!r} in the configuration: write yes, no or auto")
    return known[written]
