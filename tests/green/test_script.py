"""`lkl-green run --threads`: an ordinary script, its arguments, its exit status and its deadlocks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

SCRIPT = """\
import atexit
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Lock, current_thread, main_thread

lock = Lock()


def work(name):
    time.sleep(3600)
    with lock:
        print(name, __name__, sys.argv[1:])


def wait_for_ever():
    lock.acquire()
    pool = ThreadPoolExecutor(1)
    pool.submit(lock.acquire).result()


if __name__ == "__main__":
    assert current_thread() is main_thread()
    thread = threading.Thread(target=work, args=("worker",))
    thread.start()
    if "deadlock" in sys.argv:
        wait_for_ever()
    if "fail" in sys.argv:
        raise ValueError("this went wrong")
    sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 else None)
"""


@pytest.fixture
def run(tmp_path: Path):
    """run(*args): run the script; status, stdout and stderr."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def run(*args: str, options: tuple[str, ...] = ()) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "lkl_green", "run", "--threads", *options, str(script), *args],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_a_script_runs_as_main_and_an_hour_takes_no_time(run) -> None:
    assert run() == (0, "worker __main__ []\n", "")


def test_its_exit_status_is_the_commands(run) -> None:
    assert run("7") == (7, "worker __main__ ['7']\n", "")


def test_a_deadlock_says_who_holds_and_who_waits(run) -> None:
    status, _, errors = run("deadlock")
    assert status == 1
    assert "lkl-green: deadlock" in errors
    assert "waiting for <locked Lock object held by init-1, waited for by " in errors
    assert "pool.submit(lock.acquire).result()" in errors
    assert "Exception in worker" not in errors


def test_an_exception_is_told_with_the_programs_frames(run) -> None:
    status, output, errors = run("fail")
    assert status == 1
    assert output.startswith("worker __main__")
    assert "ValueError: this went wrong" in errors


def test_a_script_that_runs_in_kernel_threads_loads_no_explorer(run, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import sys, threading\n"
        "thread = threading.Thread(target=print, args=('worker',))\n"
        "thread.start()\n"
        "thread.join()\n"
        "print([name for name in sys.modules if name.startswith('lkl_green.testing')])\n"
    )
    assert run() == (0, "worker\n[]\n", "")


def test_a_file_that_is_no_program_is_told_so(run, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("def (:\n")
    status, _, errors = run()
    assert status == 2
    assert "syntax error" in errors
