"""`lkl-green explore` and `lkl-green replay`: what they print, and what their exit status says."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, NamedTuple

import pytest

from lkl_green.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[..., "Outcome"]

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60

BANK = """
    import threading
    import time

    from lkl_green.testing import Shared, schedules, spawn

    class Account:
        def __init__(self, balance):
            self.balance = Shared(balance, "balance")

    def withdraw(account, amount):
        if account.balance.value >= amount:
            account.balance.value -= amount

    def test_overdraft():
        account = Account(100)
        print("one more")
        for thread in [spawn(withdraw, account, 80, name=name) for name in ("alice", "bob")]:
            thread.join()
        assert account.balance.peek() >= 0

    def test_fine():
        test_no_threads()

    def test_no_threads():
        withdraw(Account(100), 80)

    def test_embrace():
        left, right = threading.Lock(), threading.Lock()

        def hug(first, second):
            with first, second:
                pass

        threads = [threading.Thread(target=hug, args=pair) for pair in ((left, right), (right, left))]
        for thread in threads:
            thread.start()

    @schedules(10)
    def test_decorated():
        test_overdraft()

    def test_slow():
        time.sleep(0.05)

    def test_with_fixture(tmp_path):
        pass

    async def test_async():
        pass

    not_a_test = 3
"""

ONE = "exhausted (nothing to decide: at each point there was one way to go on): 1 schedule"
WHY = "points were operations of the kernel and of Shared: whenever one was reached, no other task could go on"


class Outcome(NamedTuple):
    """What a call left behind."""

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on stderr that a mistake gets."""
        assert (self.status, self.out) == (2, "")
        assert self.err.startswith("lkl-green: ")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("lkl-green: ").rstrip("\n")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """call(*argv): the command line in this process, in a directory with the file bank.py."""
    monkeypatch.chdir(tmp_path)
    Path("bank.py").write_text(dedent(BANK))

    def call(*argv: str) -> Outcome:
        try:
            status = main(argv)
        except SystemExit as exit:
            status = exit.code if isinstance(exit.code, int) else 1
        return Outcome(status, *capfd.readouterr())

    return call


def test_a_failure_is_told_with_the_command_that_replays_it(call: Call) -> None:
    found = call("explore", "bank.py::test_overdraft")
    assert (found.status, found.err) == (1, "")
    lines = found.out.splitlines()
    assert re.fullmatch(r"bank.py::test_overdraft: failed: \d+ schedules, policy default, seed 0", lines[0])
    assert "AssertionError" in lines
    assert "one more" not in lines, "what a test prints a thousand times is not worth reading"
    command = lines[-1].split()
    assert command == ["lkl-green", "replay", ".lkl_schedules/bank.py_test_overdraft.json"]
    assert "trace of the kernel: .lkl_schedules/bank.py_test_overdraft.trace" in lines
    assert "sched_switch" in Path(".lkl_schedules/bank.py_test_overdraft.trace").read_text()
    assert any(line.startswith("step  main ") and " alice " in line and " bob " in line for line in lines)
    replayed = call(*command[1:])
    assert replayed.status == 1
    assert "one more" in replayed.out.splitlines()
    assert "AssertionError" in replayed.out.splitlines()


def test_the_same_call_prints_the_same(call: Call) -> None:
    arguments = ("explore", "--seed", "7", "--policy", "random", "bank.py::test_overdraft")
    first = call(*arguments)
    assert first == call(*arguments)
    argv = [sys.executable, "-m", "lkl_green", *arguments, "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    alone = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert Outcome(alone.returncode, alone.stdout, alone.stderr) == first


def test_all_schedules_pass(call: Call) -> None:
    passed = call("explore", "bank.py::test_fine", "--schedules", "30")
    told = f"bank.py::test_fine: {ONE}, run 30 times, policy default, seed 0\n{WHY}\n"
    assert passed == Outcome(0, told, "")
    assert not Path(".lkl_schedules").exists()


def test_a_search_that_is_exhausted_passes(call: Call) -> None:
    done = call("explore", "bank.py::test_fine", "--policy", "dfs")
    assert done.status == 0
    assert done.out.startswith("bank.py::test_fine: exhausted")


def test_a_limit_that_was_hit_is_incomplete(call: Call) -> None:
    cut = call("explore", "bank.py::test_slow", "--time-budget", "0.1")
    assert cut.status == 3
    assert cut.out.startswith("bank.py::test_slow: incomplete (the time budget was used up): ")


def test_threading_programs(call: Call) -> None:
    dead = call("explore", "--threads", "bank.py::test_embrace")
    assert dead.status == 1
    assert "deadlock" in dead.out
    again = call("replay", ".lkl_schedules/bank.py_test_embrace.json")
    assert again.status == 1
    assert "deadlock" in again.out


def test_a_decorated_test_is_explored_as_the_call_says(call: Call) -> None:
    found = call("explore", "bank.py::test_decorated", "--schedules", "400", "--seed", "1")
    assert found.status == 1
    assert "seed 1" in found.out


ASKING = """
    import threading

    import pytest

    from lkl_green.testing import Shared, schedules, spawn

    @schedules(7, policy="random", seed=3, threads=True, verify=False)
    def test_decorated():
        threading.Thread(target=print).start()

    @pytest.mark.schedules(count=9, policy="pct", threads=True)
    def test_marked():
        threading.Thread(target=print).start()

    def fresh():
        return {"counter": Shared(0, "counter")}

    @schedules(300, setup=fresh, shrink=False)
    def test_with_setup(counter=None):
        def add():
            counter.value += 1

        for thread in [spawn(add), spawn(add)]:
            thread.join()
        assert counter.peek() == 2

    @pytest.mark.schedules(5, threds=True)
    def test_misspelt():
        pass

    pytestmark = [pytest.mark.slow, pytest.mark.schedules(11)]

    def test_of_a_marked_module():
        pass
"""


@pytest.fixture
def asking(call: Call, monkeypatch: pytest.MonkeyPatch) -> Call:
    """A file with tests that ask for things, and pytest not running."""
    Path("asking.py").write_text(dedent(ASKING))
    monkeypatch.setattr(pytest.mark, "_config", None)
    return call


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["test_decorated"], "passed: 7 schedules, policy random, seed 3"),
        (["test_decorated", "--schedules", "5", "--verify"], "passed: 5 schedules, 2 replayed, policy random, seed 3"),
        (["test_decorated", "--policy", "pos", "--seed", "4"], "passed: 7 schedules, policy pos, seed 4"),
        (["test_marked"], "passed: 9 schedules, 2 replayed, policy pct, seed 0"),
        (["test_of_a_marked_module"], f"{ONE}, run 11 times, policy default, seed 0"),
    ],
)
def test_what_a_decorator_or_marker_asks_for_counts_unless_the_call_says_otherwise(
    asking: Call, arguments: list[str], told: str
) -> None:
    name, *options = arguments
    done = asking("explore", f"asking.py::{name}", *options)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[0] == f"asking.py::{name}: {told}"


def test_threads_can_be_switched_off_again(asking: Call) -> None:
    without = asking("explore", "asking.py::test_decorated", "--no-threads", "--schedules", "1")
    assert without.out.startswith(f"asking.py::test_decorated: {ONE}, ")


def test_what_setup_makes_is_there_and_is_when_the_schedule_is_replayed(asking: Call) -> None:
    found = asking("explore", "asking.py::test_with_setup")
    assert found.status == 1
    assert "AssertionError" in found.out
    assert "shrunk" not in found.out
    again = asking("replay", ".lkl_schedules/asking.py_test_with_setup.json")
    assert again.status == 1
    assert "AssertionError" in again.out


def test_a_marker_that_makes_no_sense_is_a_mistake(asking: Call) -> None:
    done = asking("explore", "asking.py::test_misspelt")
    assert done.status == 2
    assert "schedules() has no option 'threds'; there are: " in done.err


def test_shrinking_can_be_left_out(call: Call) -> None:
    assert "shrunk from " in call("explore", "--policy", "random", "bank.py::test_overdraft").out
    assert "shrunk from " not in call("explore", "--policy", "random", "--no-shrink", "bank.py::test_overdraft").out


def test_as_json(call: Call) -> None:
    found = call("explore", "--json", "--save", "kept/race.json", "bank.py::test_overdraft")
    told = json.loads(found.out)
    assert found.status == 1
    assert (told["outcome"], told["policy"], told["seed"]) == ("failed", "default", 0)
    assert told["schedule_file"] == "kept/race.json"
    assert told["failure"]["verdict"] == "failed"
    assert told["failure"]["error"] == "AssertionError"
    replayed = call("replay", "--json", "kept/race.json")
    assert json.loads(replayed.out)["failure"]["verdict"] == "failed"
    assert "one more" in replayed.err.splitlines()
    assert json.loads(call("explore", "--json", "bank.py::test_fine").out)["failure"] is None


def test_a_test_that_was_mended_passes_in_its_schedule(call: Call) -> None:
    call("explore", "--save", "race.json", "bank.py::test_overdraft")
    text = Path("bank.py").read_text()
    Path("mended.py").write_text(text.replace("peek() >= 0", "peek() >= -60"))
    mended = call("replay", "race.json", "mended.py::test_overdraft")
    assert mended.status == 0
    assert mended.out.endswith("passed in this schedule, in which it was recorded as 'failed'\n")


def test_a_schedule_that_does_not_fit_proves_nothing(call: Call) -> None:
    call("explore", "--save", "race.json", "bank.py::test_overdraft")
    other = call("replay", "race.json", "bank.py::test_no_threads")
    assert other.status == 3
    assert "schedule does not fit" in other.out


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["explore", "bank.py"], r"bank.py: which test\? Write FILE.py::test_name"),
        (["explore", "none.py::test"], "none.py: No such file or directory"),
        (["explore", "bank.py::test_nothing"], "the file has no test_nothing; there are test_overdraft, test_fine, "),
        (["explore", "bank.py::not_a_test"], "bank.py::not_a_test: 3 cannot be called"),
        (["explore", "bank.py::test_with_fixture"], r"it takes arguments \(tmp_path\). If they are fixtures of pytest"),
        (["explore", "bank.py::TestX::test"], "this is a method or one of several cases"),
        (["explore", "bank.py::test_async"], "test_async is a coroutine function"),
        (["explore", "--policy", "best", "bank.py::test_fine"], "policy='best': use 'default', 'pos', "),
        (["explore", "--policy", "dfs", "--jobs", "2", "bank.py::test_fine"], "policy 'dfs' searches"),
        (["explore", "--schedules", "0", "bank.py::test_fine"], "'0' is not a number above 0"),
        (["explore", "--time-budget", "0", "bank.py::test_fine"], "time_budget=0.0: seconds, more than 0"),
        (["explore", "--time-budget", "soon", "bank.py::test_fine"], "'soon' is not a number of seconds"),
        (["explore"], "the following arguments are required: FILE.py::TEST"),
        (["replay", "none.json"], "none.json cannot be read: "),
        (["replay", "bank.py"], "bank.py is not a schedule file: "),
    ],
)
def test_mistakes(call: Call, argv: list[str], complaint: str) -> None:
    assert re.search(complaint, call(*argv).complaint)


def test_a_file_that_cannot_be_written_does_not_hide_what_failed(call: Call) -> None:
    done = call("explore", "--save", "bank.py/x.json", "bank.py::test_overdraft")
    assert done.status == 2
    assert "AssertionError" in done.out
    assert "the schedule was not kept: bank.py/x.json: " in done.out
    assert done.err.startswith("lkl-green: --save bank.py/x.json: ")
    Path(".lkl_schedules").write_text("a file where the directory should be")
    done = call("explore", "bank.py::test_overdraft")
    assert (done.status, done.err) == (1, "")
    assert "the schedule was not kept: .lkl_schedules/bank.py_test_overdraft.json: " in done.out
    assert "replay it with" not in done.out


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 99}, "format version 99"),
        ({"options": {"speed": 3}}, "options .* do not exist"),
        ({"decisions": [1]}, "is damaged"),
        ({"test": ""}, "does not say of which test it is"),
    ],
)
def test_schedule_files_of_another_kind(call: Call, change: dict[str, object], complaint: str) -> None:
    call("explore", "--save", "race.json", "bank.py::test_overdraft")
    data = json.loads(Path("race.json").read_text())
    Path("other.json").write_text(json.dumps({**data, **change}))
    assert re.search(complaint, call("replay", "other.json").complaint)


@pytest.mark.parametrize("command", ["explore", "replay"])
def test_help_has_examples(call: Call, command: str) -> None:
    help = call(command, "--help")
    assert help.status == 0
    assert f"\n  lkl-green {command} " in help.out.partition("examples:")[2]
    assert "exit status" in help.out


def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "bank.py").write_text(dedent(BANK))
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "lkl_green", "explore", "--schedules", "8", "bank.py::test_slow"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        printed, _ = process.communicate(timeout=TIMEOUT_S)
    told = f"bank.py::test_slow: {ONE}, run 8 times, policy default, seed 0\n{WHY}\n"
    assert printed == told.encode()
    assert b" of 8 schedules, " in os.read(ours, 10_000)
    os.close(ours)


LOOP = """
    import asyncio

    def test_written_first():
        async def main():
            box = []

            async def write():
                box.append(1)

            async def read():
                assert box

            await asyncio.gather(write(), read())

        asyncio.run(main())

    def test_clean_up():
        async def main():
            held = []

            async def work():
                held.append(1)
                await asyncio.sleep(1)
                held.pop()

            await asyncio.gather(work(), return_exceptions=True)
            assert not held

        asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("test", "option", "without", "with_it"),
    [
        ("test_written_first", "--loop-order=fifo", 1, 0),
        ("test_clean_up", "--explore-cancel", 0, 1),
    ],
)
def test_what_is_explored_of_event_loops_is_said_on_the_command_line(
    call: Call, test: str, option: str, without: int, with_it: int
) -> None:
    Path("loops.py").write_text(textwrap.dedent(LOOP))
    assert call("explore", f"loops.py::{test}").status == without
    assert call("explore", option, f"loops.py::{test}").status == with_it


def test_the_rule_for_held_locks_is_said_on_the_command_line(call: Call) -> None:
    for rule in ("arrive", "disable"):
        done = call("explore", "bank.py::test_overdraft", "--held-locks", rule, "--json")
        assert done.status == 1
        kept = json.loads(Path(".lkl_schedules/bank.py_test_overdraft.json").read_text())
        assert kept["options"]["held_locks"] == rule
