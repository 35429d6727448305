"""Reports for people: the schedule as a table, what passes, how to run it again, in a page."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lkl_green.errors import ScheduleFailed
from lkl_green.linux import Mutex
from lkl_green.testing import Outcome, Shared, explore, fault_point, spawn
from lkl_green.testing.filing import keep
from lkl_green.testing.shrink import shrink
from lkl_green.testing.source import Where
from lkl_green.testing.step import Step
from lkl_green.testing.table import schedule_table


def withdraw_twice():
    balance = Shared(100, "balance")

    def withdraw():
        old = balance.value
        balance.value = old - 10  # leap

    for thread in [spawn(withdraw, name="alice"), spawn(withdraw, name="bob")]:
        thread.join()
    assert balance.peek() == 80, "ten are missing"


@pytest.fixture
def failure():
    found = explore(withdraw_twice).failure
    assert found is not None
    return shrink(withdraw_twice, found)


def test_the_minimal_schedule_is_a_table_with_a_column_for_each_task(failure):
    lines = failure.text().splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("step  "))
    assert lines[head].split() == ["step", "main", "alice", "bob", "source"]
    table = lines[head + 1 : lines.index("", head)]
    numbers = [int(line.split()[0]) for line in table]
    assert numbers == sorted(set(numbers))
    assert not any(" after " in line for line in table), "what only continues takes no row"
    (preempted,) = [line for line in table if "~" in line]
    assert "bob".rjust(1) in lines[head]
    assert lines[head].index("alice") == preempted.index("~"), "the mark stands in the column of who was preempted"
    assert any("read balance" in line and line.endswith("old = balance.value") for line in table)
    assert any("write balance" in line and "test_telling.py:" in line for line in table)


def test_a_report_says_all_that_is_needed_in_a_page(failure):
    failure.how_to_replay = "make replay"
    text = failure.text()
    assert text.startswith("failed: AssertionError: ten are missing")
    assert "in withdraw_twice" in text
    assert "lkl_green/testing" not in text, "frames of this package help nobody"
    assert f"schedule {failure.number} of seed 0, policy reversal" in text
    assert "to 1 preemption and " in text
    assert "no schedule with fewer preemptions fails like this" in text
    assert "the nearest passing schedule is the same up to step " in text
    assert "sched_switch: prev_comm=" in text
    assert text.endswith("replay it with:\n    make replay")
    assert len(text.splitlines()) < 60


def test_the_contrast_names_both_ways_on(failure):
    (line,) = [line for line in failure.text().splitlines() if line.startswith("the nearest passing schedule")]
    assert "there alice: write balance (test_telling.py:" in line
    assert line.endswith("and here bob: start")


def test_a_choice_is_contrasted_by_its_value():
    def test():
        assert not fault_point("disk")

    found = explore(test).failure
    assert found is not None
    told = shrink(test, found).contrast
    assert told == "the nearest passing schedule makes another choice: fault disk 0/2 instead of 1/2"


def test_a_test_that_always_fails_has_no_contrast():
    def test():
        raise ValueError("always")

    found = explore(test).failure
    assert found is not None
    assert shrink(test, found).contrast == ""


def test_what_is_long_is_cut():
    def test():
        counter = Shared(0, "counter")

        def dig(depth):
            counter.value += 1
            if depth:
                dig(depth - 1)
            else:
                raise ValueError("\n".join(map(str, range(100))))

        threads = [spawn(dig, 40) for _ in range(3)]
        for thread in threads:
            thread.join()

    found = explore(test, policy="random").failure
    assert found is not None
    found.how_to_replay = "make replay"
    text = found.text()
    assert len(text.splitlines()) <= 60
    assert "more steps)" in text
    assert " lines ..." in text
    assert text.endswith("make replay")
    assert len(found.text(max_lines=40).splitlines()) < len(text.splitlines())


def step(actor, op, obj="", preempts="", where=None):
    return Step(actor, op, obj, where, None, preempts, 0)


def test_no_line_of_a_table_is_wider_than_asked_for():
    where = Where(__file__, 1, "module")
    steps = [step(f"task{number % 9}", "write", "x" * 30, where=where) for number in range(30)]
    for width in (40, 60, 80, 120, 200):
        assert all(len(line) <= width for line in schedule_table(steps, width).splitlines())


def test_too_many_tasks_for_columns_are_told_in_front():
    steps = [step(f"worker/{number}", "write", "x", f"worker/{number - 1}" if number else "") for number in range(12)]
    lines = schedule_table(steps, 80).splitlines()
    assert lines[0].split() == ["step", "task", "operation"]
    assert lines[1].split() == ["1", "worker/0", "write", "x"]
    assert lines[2].endswith("~ before worker/0")


def test_stretches_of_one_task_are_cut_in_the_middle():
    lines = schedule_table([step("a", "read", f"x{number}") for number in range(20)]).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", ".", "19", "20"]
    assert "(16 more steps)" in lines[3]


def test_of_a_long_schedule_the_end_is_shown():
    steps = [step("ab"[number % 2], "read", f"x{number}") for number in range(100)]
    lines = schedule_table(steps, max_rows=10).splitlines()
    assert len(lines) == 11
    assert "(91 more steps)" in lines[1]
    assert lines[-1].startswith(" 100")


def test_where_the_trace_was_written_is_told_in_place_of_its_end(failure):
    assert "sched_switch" in failure.text()
    failure.trace_file = "traces/one.txt"
    assert "trace of the kernel: traces/one.txt" in failure.text()
    assert "sched_switch" not in failure.text()


def test_a_passing_report_of_a_test_without_decisions_is_two_lines():
    report = explore(lambda: None, schedules=3)
    assert report.outcome is Outcome.EXHAUSTED
    assert len(report.text().splitlines()) == 2
    report.assert_passed()


def test_a_failed_report_is_raised_with_its_text():
    def test():
        Mutex(name="twice").unlock()

    with pytest.raises(ScheduleFailed, match="LockMisuse") as raised:
        explore(test).assert_passed()
    assert raised.value.report.failure.headline().startswith("failed: lkl_green.errors.LockMisuse: BUG: main-")


# -- tests of ordinary threads


def test_what_a_pool_does_between_two_calls_of_the_program_takes_one_row():
    def racy():
        total = {"n": 0}

        def add(number):
            seen = total["n"]
            total["n"] = seen + number

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(add, [1, 2]))
        assert total["n"] == 3

    failure = explore(racy, threads=True).failure
    assert failure is not None
    told, whole = schedule_table(failure.steps), schedule_table(failure.steps, max_rows=None)
    assert re.search(r"pool: \d+ steps", told)
    assert "pool: " not in whole
    assert len(whole.splitlines()) == len(failure.steps) + 1


def test_a_test_of_ordinary_threads_is_told_without_the_kernel(tmp_path):
    def racy():
        numbers = [0]

        def add():
            numbers[0] += 1

        threads = [threading.Thread(target=add) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert numbers == [2]

    failure = explore(racy, threads=True).failure
    assert failure is not None
    keep(failure, tmp_path / "it.json", shown_as="it.json", replay="replay it")
    assert "trace" not in failure.text().lower().replace("traceback", "")
    assert [path.name for path in tmp_path.iterdir()] == ["it.json"]
