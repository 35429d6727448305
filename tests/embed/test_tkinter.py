"""The tkinter example in a real window, on a display that exists only for the test."""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = "examples/22_tkinter.py"
LIMIT_S = 60

# Runs the example after a line of Python has changed something in it.
VARIANT = """\
import importlib.util, sys
spec = importlib.util.spec_from_file_location("example", sys.argv[1])
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)
exec(sys.argv.pop(2))
example.main()
"""


def run(*command: str, display: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    if display:
        environment["DISPLAY"] = display
    done = subprocess.run(
        [sys.executable, *command, "--display"],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def first_line(fd: int) -> str:
    """A line from a pipe whose other end may be closed without one, or say nothing for long."""
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while not line.endswith(b"\n") and selector.select(LIMIT_S):
            if not (more := os.read(fd, 64)):
                break
            line += more
    return line.decode().strip()


@pytest.fixture(scope="module")
def display(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A display of its own. xvfb-run would need xauth, too, and guesses when the server is up."""
    pytest.importorskip("tkinter", reason="this Python has no tkinter")
    if shutil.which("Xvfb") is None:
        pytest.skip("no Xvfb on this machine")
    said = tmp_path_factory.mktemp("xvfb") / "stderr"
    reading, writing = os.pipe()
    with said.open("wb") as stderr:
        server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(writing), "-screen", "0", "640x480x24", "-nolisten", "tcp"],
            pass_fds=[writing],
            stdout=stderr,
            stderr=stderr,
        )
    os.close(writing)
    try:
        number = first_line(reading)
        if not number:
            pytest.skip(f"Xvfb does not start here: {said.read_text().strip() or 'it says nothing'}")
        yield f":{number}"
    finally:
        os.close(reading)
        server.terminate()
        server.wait(LIMIT_S)


def test_in_a_window(display: str) -> None:
    done = run(EXAMPLE, display=display)
    assert done.stderr == "", "it was the stand-in that ran"
    assert done.stdout == (ROOT / EXAMPLE).with_suffix(".out").read_text().partition("\n")[2]


def test_closing_the_window_halts_the_kernel(display: str) -> None:
    close = """\
def show(window, text):
    window._root.after(1, window._root.destroy)
example.Window.show = show
"""
    done = run("-c", VARIANT, EXAMPLE, close, display=display)
    assert done.stderr == ""
    assert done.stdout == "the kernel has halted\n"


def test_a_panic_closes_the_window(display: str) -> None:
    """tkinter would print it, and keep a window that nobody moves any more."""
    done = run("-c", VARIANT, EXAMPLE, "example.wait_for_knock = lambda window: 1 / 0", display=display)
    assert "KernelPanic" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert done.stdout.endswith("the kernel has halted\n")


def test_without_a_display_it_says_so_if_asked() -> None:
    done = run(EXAMPLE)
    assert done.stderr.startswith("no window: ")
    assert "somebody has knocked" in done.stdout
