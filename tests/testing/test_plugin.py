"""The pytest plugin: what a marked test gets, in runs of pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

import lkl_green.testing  # noqa: F401 - or each run would import it anew, for pytester puts sys.modules back
from lkl_green.testing.settings import option_names

if TYPE_CHECKING:
    from collections.abc import Callable

    Pytest = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
LOAD = ["-p", "lkl_green.pytest_plugin"]

INI = """
    [pytest]
    filterwarnings = error
"""

ASYNC_INI = """
    asyncio_mode = strict
    asyncio_default_fixture_loop_scope = function
"""

COUNTER = """
    import pytest
    from lkl_green.testing import Shared, spawn

    def count(threads):
        counter = Shared(0, "counter")

        def add():
            counter.value += 1

        for thread in [spawn(add) for _ in range(threads)]:
            thread.join()
        return counter.peek()

    @pytest.fixture
    def threads():
        return 2
"""

RACE = """
    @pytest.mark.schedules(500)
    def test_counter(threads):
        assert count(threads) == threads
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs have the plugins that they name, whether or not this checkout is installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@pytest.fixture
def write(pytester: pytest.Pytester) -> Callable[..., None]:
    """write(text, ini=""): a test file and its configuration."""

    def write(text: str, ini: str = "") -> None:
        pytester.makeini(dedent(INI) + dedent(ini))
        pytester.makepyfile(test_it="\n".join(map(dedent, (COUNTER, text))))

    return write


@pytest.fixture
def run(pytester: pytest.Pytester, write: Callable[..., None]) -> Pytest:
    """run(text, *args, ini=""): pytest on a file test_it.py, in this process."""

    def run(text: str, *args: str, ini: str = "") -> pytest.RunResult:
        write(text, ini)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *LOAD, *args)

    return run


def command(*args: str) -> list[str]:
    """The same in a process of its own."""
    return [sys.executable, "-m", "pytest", *LOAD, *args]


# -- what a failure looks like


def test_a_failure_is_told_as_pytest_tells_failures_with_the_command_that_replays_it(
    run: Pytest, pytester: pytest.Pytester
) -> None:
    result = run(RACE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       assert count(threads) == threads",
            "E       assert 1 == 2",
            "*- schedule -*",
            "failed: AssertionError: assert 1 == 2",
            "step  main * add * add#2 * source",
            "*  read counter * test_it.py:8 *  counter.value += 1",
            "schedule * of seed 0, policy reversal",
            "*; no schedule with fewer preemptions fails like this",
            "replay it with:",
            "    pytest test_it.py::test_counter --lkl-replay=.lkl_schedules/test_it.py_test_counter.json",
        ]
    )
    kept = pytester.path / ".lkl_schedules"
    assert sorted(path.name for path in kept.iterdir()) == [
        "test_it.py_test_counter.json",
        "test_it.py_test_counter.trace",
    ]


def replay_arguments(result: pytest.RunResult) -> list[str]:
    """What follows `pytest` in the command that a report shows."""
    line = next(line for line in result.outlines if line.startswith("    pytest ") and "--lkl-replay=" in line)
    return line.split()[1:]


def test_the_replay_command_fails_until_the_test_is_right(run: Pytest) -> None:
    replay = replay_arguments(run(RACE))
    again = run(RACE, *replay)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["failed: AssertionError: assert 1 == 2", "schedule * of seed 0, policy reversal"])
    right = RACE.replace("== threads", "<= threads")
    run(right, *replay).assert_outcomes(passed=1)


def test_a_replayed_schedule_that_does_not_fit_is_no_pass(run: Pytest) -> None:
    replay = replay_arguments(run(RACE))
    result = run(RACE.replace("count(threads)", "count(3)"), *replay)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*schedule does not fit*"])


def test_an_exception_of_a_kernel_thread_is_told_with_its_source(run: Pytest) -> None:
    result = run("""
        @pytest.mark.schedules(5)
        def test_it():
            def child():
                assert "heads" == "tails"
            spawn(child).join()
    """)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ['>       assert "heads" == "tails"', "E       AssertionError: assert 'heads' == 'tails'"]
    )


def test_a_deadlock_has_no_traceback_but_stacks(run: Pytest) -> None:
    result = run("""
        from lkl_green.linux import Completion

        @pytest.mark.schedules
        def test_it():
            Completion(name="godot").wait_for_completion()
    """)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["deadlock", "*Completion godot*", "*Completion(name=*wait_for_completion()*"])


def test_locks_in_two_orders_are_told_though_nothing_fails(run: Pytest) -> None:
    result = run(
        """
        from lkl_green.linux import Mutex

        @pytest.mark.schedules(50)
        def test_it():
            left, right = Mutex(name="left"), Mutex(name="right")

            def embrace(first, second):
                with first, second:
                    pass

            spawn(embrace, left, right).join()
            spawn(embrace, right, left).join()
        """,
        "-rP",
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*- schedule -*", "warning: *left*right*"])


def test_addresses_in_a_message_are_not_taken_for_a_difference(run: Pytest) -> None:
    result = run("""
        class Box:
            full = False

        @pytest.mark.schedules(500)
        def test_it(threads):
            box = Box()
            assert count(threads) == threads or box.full
    """)
    result.stdout.fnmatch_lines(["E * False = <test_it.Box object at 0x*>.full", "failed: AssertionError: *"])
    result.stdout.no_fnmatch_line("*not deterministic*")


def test_what_could_not_be_finished_has_not_passed(run: Pytest) -> None:
    result = run("""
        import time

        @pytest.mark.schedules(10_000, time_budget=0.05)
        def test_it():
            time.sleep(0.03)
    """)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["incomplete: the time budget was used up; schedules run: [1-9]*"])


def test_of_a_test_that_passed_it_is_shown_what_was_run(run: Pytest) -> None:
    result = run(
        """
        @pytest.mark.schedules(10)
        def test_alone():
            assert True
        """,
        "-rP",
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*exhausted (nothing to decide: *): 1 schedule, run 10 times*", "points were operations of the kernel*"]
    )


def test_skipping_from_inside_is_skipping(run: Pytest, pytester: pytest.Pytester) -> None:
    run("""
        @pytest.mark.schedules
        def test_skip():
            pytest.skip("not today")

        @pytest.mark.schedules
        def test_xfail():
            pytest.xfail("known")
    """).assert_outcomes(skipped=1, xfailed=1)
    assert not (pytester.path / ".lkl_schedules").exists()


def test_state_that_is_kept_is_told_and_no_replay_is_promised(run: Pytest) -> None:
    result = run("""
        from lkl_green.linux import Mutex
        cache = {}

        def look_up(lock):
            if not cache:
                with lock:
                    cache[1] = 1

        @pytest.mark.schedules(20)
        def test_kept():
            lock = Mutex(name="cache")
            for thread in [spawn(look_up, lock), spawn(look_up, lock)]:
                thread.join()

        @pytest.mark.schedules(20, setup=lambda: cache.clear())
        def test_cleared():
            test_kept()

        @pytest.mark.schedules(20, verify=False)
        def test_unchecked():
            test_kept()
    """)
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(
        ["state kept between schedules", "the runs part at step *lock cache at test_it.py:*", "*setup=*"]
    )
    result.stdout.no_fnmatch_line("replay it with:")


def test_a_directory_that_cannot_be_written_does_not_hide_what_failed(run: Pytest, pytester: pytest.Pytester) -> None:
    (pytester.path / "kept").write_text("a file where the directory should be")
    result = run(RACE, "--lkl-trace-dir=kept")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E       assert 1 == 2", "the schedule was not kept: kept/test_it.py_*.json: *"])
    result.stdout.no_fnmatch_line("replay it with:")


def test_examples_of_hypothesis_are_explored_each(run: Pytest) -> None:
    pytest.importorskip("hypothesis")
    text = """
        from hypothesis import given, settings, strategies
        from lkl_green.testing import schedules

        few = settings(max_examples=3, database=None, deadline=None)

        @few
        @given(number=strategies.integers(1, 2))
        @schedules(300)
        def test_right(number):
            assert count(number) <= number

        @few
        @given(number=strategies.integers(2, 3))
        @schedules(300)
        def test_wrong(number):
            assert count(number) == number

        @schedules(300)
        @few
        @given(number=strategies.integers(1, 2))
        def test_inside_out(number):
            count(number)
    """
    complaint = "*test_inside_out draws its examples itself*@given above*"
    result = run(text)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([complaint])
    result = run(text.partition("@schedules(300)\n        @few")[0])
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_wrong: failed: *"])


# -- ordinary pytest


def test_fixtures_parameters_classes_and_setup(run: Pytest, pytester: pytest.Pytester) -> None:
    run("""
        made = []

        @pytest.fixture
        def box(tmp_path):
            made.append("box")
            yield []
            made.append("gone")

        @pytest.mark.schedules(10)
        class TestThings:
            @pytest.mark.parametrize("size", [1, 2])
            def test_method(self, size, threads):
                assert count(threads * size) <= threads * size

        @pytest.mark.schedules(3, verify=False)
        def test_fixtures_are_made_anew(box):
            box.append(1)
            assert made.count("box") == made.count("gone") + 1
            assert len(box) == 1

        def empty(box):
            box.clear()
            return {"fresh": len(box)}

        @pytest.mark.schedules(3, setup=empty)
        def test_setup_runs_in_each_schedule(box, fresh=None):
            assert (box, fresh) == ([], 0)
            box.append(1)

        def test_the_fixture_was_finished():
            assert made == ["box", "gone"] * 8  # three schedules each, and two of the second test once more

        def test_without_the_marker_there_is_no_kernel():
            with pytest.raises(Exception, match="kernel"):
                spawn(print)
    """).assert_outcomes(passed=6)


def test_the_decorator_takes_fixtures_too(run: Pytest) -> None:
    result = run("""
        from lkl_green.testing import schedules

        @schedules(500, policy="random")
        def test_it(threads):
            assert count(threads) == threads
    """)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E       assert 1 == 2", "*- schedule -*", "schedule * of seed 0, policy random"])


# -- options

TELL = """
    made = []

    @pytest.mark.schedules({marker})
    def test_it():
        made.append(1)

    def test_tell(request):
        print("runs:", len(made))
"""


@pytest.mark.parametrize(
    ("marker", "ini", "args", "runs"),
    [
        ("verify=False", "", [], 1000),
        ("verify=False", "lkl_schedules = 7", [], 7),
        ("20, verify=False", "lkl_schedules = 7", [], 20),
        ("count=20, verify=False", "", [], 20),
        ("schedules=20, verify=False", "lkl_schedules = 7", [], 20),
        ("20, verify=False", "lkl_schedules = 7", ["--lkl-schedules=30"], 30),
        ("20", "", [], 22),  # two are run again
    ],
)
def test_command_line_before_marker_before_configuration(
    run: Pytest, marker: str, ini: str, args: list[str], runs: int
) -> None:
    result = run(TELL.format(marker=marker), "-s", *args, ini=ini)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"*runs: {runs}"])


def test_policy_seed_and_trace_directory(run: Pytest, pytester: pytest.Pytester) -> None:
    result = run(RACE, "--lkl-policy=random", "--lkl-seed=5", "--lkl-trace-dir=kept/here", ini="lkl_seed = 4")
    result.stdout.fnmatch_lines(
        ["schedule * of seed 5, policy random", "    pytest test_it.py::test_counter --lkl-replay=kept/here/*.json"]
    )
    assert run(RACE, *replay_arguments(result)).parseoutcomes() == {"failed": 1}


def test_a_random_seed_is_printed_and_gives_the_same_again(run: Pytest) -> None:
    first = run(RACE, "--lkl-seed=random")
    seed = next(line for line in first.outlines if line.startswith("lkl_green: ")).split()[1]
    assert seed.startswith("--lkl-seed=")
    again = run(RACE, seed)
    told = [[line for line in result.outlines if re.match(r"schedule \d+ of seed", line)] for result in (first, again)]
    assert told[0] == told[1]
    assert seed.removeprefix("--lkl-seed=") in told[0][0]


# -- mistakes


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("@pytest.mark.schedules(5, threds=True)\ndef test_it(): pass", "*no option 'threds'*there are:*threads*"),
        ("@pytest.mark.schedules(policy='best')\ndef test_it(): pass", "*policy='best': use *'pos'*"),
        ("@pytest.mark.schedules(0)\ndef test_it(): pass", "*schedules=0: with none, nothing would be tested*"),
        ("@pytest.mark.schedules(5, schedules=6)\ndef test_it(): pass", "*the marker is schedules(count, *"),
        ("@pytest.mark.schedules('many')\ndef test_it(): pass", "*the marker is schedules(count, *"),
        ("@pytest.mark.schedules\ndef test_it(): yield", "*"),
        ("@pytest.mark.schedules\nasync def test_it(): pass", "*test_it is a coroutine function: *plain function*"),
        (
            "@pytest.mark.schedules(setup=lambda nobody: None)\ndef test_it(): pass",
            "*setup wants 'nobody', which is no argument that test_it is called with*",
        ),
    ],
)
def test_mistakes_are_failures_that_say_so(run: Pytest, text: str, complaint: str) -> None:
    result = run(text)
    assert result.ret != 0
    assert "passed" not in result.parseoutcomes()
    result.stdout.fnmatch_lines([complaint])


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--lkl-schedules=0"], "*--lkl-schedules: '0' is not a number of schedules: *above 0*"),
        (["--lkl-all=0"], "*--lkl-all: '0' is not a number of schedules: *"),
        (["--lkl-schedules=many"], "*--lkl-schedules*"),
        (["--lkl-seed=x"], "*--lkl-seed*"),
        (["--lkl-replay=nowhere.json"], "*--lkl-replay: nowhere.json cannot be read: *"),
        (["--lkl-replay=test_it.py"], "*--lkl-replay: test_it.py is not a schedule file: *"),
    ],
)
def test_bad_options_are_usage_errors(run: Pytest, args: list[str], complaint: str) -> None:
    result = run(RACE, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([complaint])


def test_a_schedule_is_replayed_in_its_own_test_only(run: Pytest) -> None:
    two = RACE + RACE.replace("test_counter", "test_other")
    replay = replay_arguments(run(RACE))[1]
    run(two, replay).assert_outcomes(failed=1, deselected=1)
    renamed = two.replace("test_counter", "test_renamed")
    result = run(renamed, replay)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the schedule is of test_it.py::test_counter; of the selected tests, 2 have *"])
    run(renamed, replay, "-k", "renamed").assert_outcomes(failed=1, deselected=1)


# -- neighbours


def test_tests_of_event_loops_run_beside_it(pytester: pytest.Pytester, write: Callable[..., None]) -> None:
    pytest.importorskip("pytest_asyncio")
    text = (
        RACE
        + """
    @pytest.mark.asyncio
    async def test_asyncio():
        pass

    @pytest.mark.anyio
    async def test_anyio():
        pass

    @pytest.mark.anyio
    @pytest.mark.schedules(5)
    async def test_anyio_both():
        pass

    @pytest.mark.asyncio
    @pytest.mark.schedules(5)
    async def test_asyncio_both():
        pass

    @pytest.mark.schedules(5)
    async def test_neither():
        pass

    @pytest.fixture
    def anyio_backend():
        return "asyncio"
    """
    )
    write(text, ASYNC_INI)
    loops = ["-p", "pytest_asyncio.plugin", "-p", "anyio.pytest_plugin"]
    result = pytester.run(*command(*loops), timeout=TIMEOUT_S)
    result.assert_outcomes(passed=4, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*test_neither is a coroutine function: *"])


def test_workers_of_xdist_write_schedules_and_share_a_random_seed(
    pytester: pytest.Pytester, write: Callable[..., None]
) -> None:
    pytest.importorskip("xdist")
    text = RACE + RACE.replace("test_c", "test_d") + RACE.replace("500", "500, jobs=2").replace("test_c", "test_e")
    write(text)
    result = pytester.run(*command("-p", "xdist", "-n2", "--lkl-seed=random"), timeout=TIMEOUT_S)
    result.assert_outcomes(failed=3)
    assert len(list((pytester.path / ".lkl_schedules").glob("*.json"))) == 3
    told = {line for line in result.outlines if re.match(r"schedule \d+ of seed", line)}
    assert len(told) == 1, "the same race, the same seed, the same schedule"


def test_progress_is_shown_on_a_terminal(pytester: pytest.Pytester) -> None:
    import pty

    pytester.makepyfile(
        test_it=dedent("""
            import pytest, time

            @pytest.mark.schedules(13)
            def test_it():
                time.sleep(0.1)
        """)
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(command(), stdout=theirs, stdin=theirs, cwd=pytester.path) as process:
        os.close(theirs)
        printed = read_all(ours)
        assert process.wait(TIMEOUT_S) == 0
    shown = re.search(rb"1\d of 13 schedules, \d+/s, 1 s", printed)
    assert shown is not None
    assert shown.start() < printed.index(b"1 passed")


def read_all(terminal: int) -> bytes:
    printed = b""
    with os.fdopen(terminal, "rb", buffering=0) as file:
        try:
            while data := file.read(4096):
                printed += data
        except OSError:  # how a terminal says that nobody holds its other end any more
            pass
    return printed


# -- the plugin itself


def test_the_list_of_markers_names_all_options(run: Pytest) -> None:
    text = run("", "--markers").stdout.str()
    assert f"schedules(count, *, setup, {', '.join(option_names())}): run the test" in text


def test_importing_it_brings_in_nothing_of_the_testing_package() -> None:
    code = "import sys, lkl_green.pytest_plugin; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=TIMEOUT_S
    )
    assert not [name for name in done.stdout.split() if name.startswith(("lkl_green.testing", "asyncio", "anyio"))]


def test_the_entry_point_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"lkl_green": "lkl_green.pytest_plugin"}
