"""Whole suites under the kernel, settings for all tests, debuggers, and reports that leave nothing out."""

from __future__ import annotations

import subprocess
import sys
from bdb import BdbQuit
from io import StringIO
from textwrap import dedent
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from in_pytest import in_this_process, make_environment_plain

from lkl_green.cli import main
from lkl_green.cli.muted import Muted
from lkl_green.testing import explore, schedules

if TYPE_CHECKING:
    from pathlib import Path

    from in_pytest import Pytest

pytest_plugins = ["pytester"]

THREADS = """
    import threading, time, unittest
    import pytest

    def run_two(work):
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    make_environment_plain(monkeypatch)


@pytest.fixture
def run(pytester: pytest.Pytester) -> Pytest:
    """run(text, *args, ini=""): pytest on a file test_it.py, in this process."""
    return in_this_process(pytester, THREADS)


# -- a whole suite

SUITE = """
    runs = []

    @pytest.fixture
    def box():
        yield []

    def test_plain(box):
        runs.append("plain")
        box.append(1)
        assert box == [1]

    class TestOld(unittest.TestCase):
        def setUp(self): self.lock = threading.Lock()
        def test_sleeps_in_virtual_time(self):
            runs.append("old")
            with self.lock:
                run_two(lambda: time.sleep(3600))

    def test_deadlocks():
        one, other = threading.Lock(), threading.Lock()
        def embrace(first, second):
            with first:
                time.sleep(1)
                with second: pass
        thread = threading.Thread(target=embrace, args=[other, one])
        thread.start()
        embrace(one, other)
        thread.join()

    @pytest.mark.parametrize("number", [1, 2])
    def test_cases(number): runs.append(number)

    def test_count(): print("runs:", *map(runs.count, ["plain", 1, 2]))
"""


@pytest.mark.parametrize(("option", "times"), [("--lkl-all", 1), ("--lkl-all=5", 7)])
def test_a_suite_runs_in_the_kernel_without_markers(run: Pytest, option: str, times: int) -> None:
    result = run(SUITE, option, "-s", "--no-lkl-shrink")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines([f"*runs: {times} {times} {times}*", "deadlock", "a cycle of 2: *"])


def test_a_marker_counts_for_more_than_the_option_for_all(run: Pytest) -> None:
    result = run(
        """
        runs = []

        @pytest.mark.schedules(3, verify=False)
        def test_it(): runs.append(1)

        def test_count(): assert len(runs) == 3
        """,
        "--lkl-all",
    )
    result.assert_outcomes(passed=2)


# -- settings for all tests

NATIVE = """
    @pytest.mark.schedules(20{options})
    def test_it():
        run_two(lambda: None)
"""


@pytest.mark.parametrize(
    ("ini", "options", "passed"),
    [
        ("", "", True),
        ("lkl_threads = auto", "", True),
        ("lkl_threads = yes", "", True),
        ("lkl_threads = no", "", False),
        ("lkl_threads = no", ", threads=True", True),
        ("lkl_threads = yes", ", threads=False", False),
    ],
)
def test_threads_are_replaced_unless_something_says_otherwise(
    run: Pytest, ini: str, options: str, passed: bool
) -> None:
    result = run(NATIVE.format(options=options), ini=ini)
    result.assert_outcomes(passed=passed, failed=not passed)
    if not passed:
        result.stdout.fnmatch_lines(["nothing explored"])


def test_a_setting_that_makes_no_sense_is_a_usage_error(run: Pytest) -> None:
    result = run(NATIVE.format(options=""), ini="lkl_threads = maybe")
    result.stdout.fnmatch_lines(["*lkl_threads = 'maybe' in the configuration: write yes, no or auto"])
    assert result.ret != 0


def test_the_decorator_takes_the_number_of_schedules_as_explore_calls_it() -> None:
    runs = []

    @schedules(schedules=7, verify=False)
    def test() -> None:
        runs.append(1)

    test()
    assert len(runs) == 7


# -- an end that says nothing of the test


@pytest.mark.parametrize("where", ["main", "thread"])
@pytest.mark.parametrize("end", [BdbQuit, KeyboardInterrupt, pytest.exit.Exception])
def test_who_ends_the_run_ends_the_campaign_at_once(end: type[BaseException], where: str) -> None:
    runs = []

    def leave() -> None:
        runs.append(1)
        if len(runs) == 3:
            raise end

    def in_thread() -> None:
        thread = Thread(target=leave)
        thread.start()
        thread.join()

    with pytest.raises(end):
        explore(leave if where == "main" else in_thread, schedules=50, shrink=True, threads=True)
    assert len(runs) == 3
    assert explore(lambda: None, schedules=5).passed


def test_pytest_exit_ends_the_session(run: Pytest) -> None:
    result = run("""
        @pytest.mark.schedules(20)
        def test_it():
            print("once")
            run_two(lambda: pytest.exit("enough"))

        def test_after(): pass
    """)
    result.stdout.fnmatch_lines(["*Exit: enough*"])
    assert not result.parseoutcomes().get("passed")


def test_a_debugger_prints_where_the_test_does_not(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it():\n    print('not shown')\n    breakpoint()\n")
    command = [sys.executable, "-m", "lkl_green", "explore", "test_it.py::test_it"]
    told = subprocess.run(
        command, cwd=tmp_path, input="p 6 * 7\nq\n", capture_output=True, text=True, timeout=60, check=False
    )
    assert told.returncode == 130
    assert "(Pdb) 42" in told.stdout
    assert "not shown" not in told.stdout
    assert told.stderr == "lkl-green: the debugger was left\n"


def test_text_is_dropped_unless_a_debugger_writes_it() -> None:
    shown = StringIO()
    muted = Muted(shown)
    print("dropped", file=muted)
    exec("print('shown', file=muted)", {"__name__": "pdb", "muted": muted})
    assert shown.getvalue() == "shown\n"


# -- reports

LONG = """
    from lkl_green.testing import Shared, spawn

    def test_long():
        counter = Shared(0, "counter")
        def count():
            for _ in range(40):
                counter.value += 1
        spawn(count).join()
        assert counter.peek() == 0
"""


def test_all_steps_of_a_schedule_can_be_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_it.py").write_text(dedent(LONG))
    assert main(["explore", "test_it.py::test_long", "--save=long.json"]) == 1
    assert main(["replay", "long.json"]) == 1
    assert "more steps)" in capsys.readouterr().out
    assert main(["replay", "--all-steps", "long.json"]) == 1
    whole = capsys.readouterr().out
    assert "more steps)" not in whole
    assert whole.count("write counter") == 40
