"""Races between plain statements, by the default settings of `explore(threads=True)`."""

from __future__ import annotations

import functools
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.testing import Outcome, Schedule, Verdict, explore, replay
from lkl_green.testing.selfcheck import finds_a_known_race
from lkl_green.testing.settings import ScheduleSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def together(*functions: Callable[[], object]) -> None:
    threads = [threading.Thread(target=function, name=f"t{number}") for number, function in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> None:
        self.count += 1


class Single:
    instance: Single | None = None

    @classmethod
    def get(cls) -> Single:
        if cls.instance is None:
            cls.instance = cls()
        return cls.instance


def test_is_incremented() -> None:
    counter = Counter()
    together(counter.add, counter.add)
    assert counter.count == 2


def items_are_incremented() -> None:
    counts = [0]

    def add() -> None:
        for _ in range(5):
            counts[0] += 1

    together(add, add, add, add)
    assert counts[0] == 20


def is_made_once() -> None:
    Single.instance = None
    got = []
    together(lambda: got.append(Single.get()), lambda: got.append(Single.get()))
    assert got[0] is got[1]


def is_checked_and_taken() -> None:
    balance = {"ann": 100}

    def withdraw() -> None:
        if balance["ann"] >= 70:
            balance["ann"] -= 70

    together(withdraw, withdraw)
    assert balance["ann"] >= 0


def is_read_after_release() -> None:
    lock, values, seen = threading.Lock(), {}, []

    def put(value: int) -> None:
        with lock:
            values["x"] = value
        seen.append(values["x"] == value)

    together(lambda: put(1), lambda: put(2))
    assert all(seen)


def is_read_and_written_under_a_lock() -> None:
    lock, counter = threading.Lock(), Counter()

    def add() -> None:
        count = counter.count
        with lock:
            counter.count = count + 1

    together(add, add)
    assert counter.count == 2


def is_set_before_the_data() -> None:
    event, box = threading.Event(), {}

    def produce() -> None:
        event.set()
        box["x"] = 1

    def consume() -> None:
        event.wait()
        assert "x" in box

    together(produce, consume)


def variable_is_shared() -> None:
    total = 0

    def add() -> None:
        nonlocal total
        total += 1

    together(add, add)
    assert total == 2


def list_changes_under_an_iteration() -> None:
    items, seen = [1, 2, 3], []

    def read() -> None:
        seen.extend(item for item in items)

    together(read, lambda: items.insert(0, 0))
    assert seen in ([1, 2, 3], [0, 1, 2, 3])


RACES = [
    test_is_incremented,
    items_are_incremented,
    is_made_once,
    is_checked_and_taken,
    is_read_after_release,
    is_read_and_written_under_a_lock,
    is_set_before_the_data,
    variable_is_shared,
    list_changes_under_an_iteration,
]


@pytest.mark.parametrize("race", RACES)
def test_a_race_is_found_soon_and_its_file_replays(race: Any, tmp_path: Path) -> None:
    report = explore(race, threads=True, schedules=50)
    assert report.outcome is Outcome.FAILED
    assert report.schedules <= 9
    assert report.failure is not None
    assert report.failure.verdict is Verdict.FAILED
    report.failure.schedule.save(tmp_path / "race.json")
    again = replay(race, Schedule.load(tmp_path / "race.json"))
    assert again is not None
    assert again.error == report.failure.error
    assert [step[:3] for step in again.steps] == [step[:3] for step in report.failure.steps]


def test_an_increment_takes_no_more_than_four_schedules_and_is_told_by_name() -> None:
    report = explore(test_is_incremented, threads=True)
    assert report.schedules <= 4
    assert report.failure is not None
    steps = [f"{step.actor} {step.op} {step.obj}" for step in report.failure.steps]
    assert "t0 read Counter.count" in steps
    assert "t1 write Counter.count" in steps
    assert "test_found_races.py" in report.points
    assert report.points in report.text()


@pytest.mark.parametrize("policy", ["pos", "portfolio", "pct", "random", "surw"])
def test_policies_find_it(policy: str) -> None:
    assert explore(test_is_incremented, threads=True, policy=policy).outcome is Outcome.FAILED


def locked(count: int = 2) -> None:
    lock, counter = threading.Lock(), Counter()

    def add() -> None:
        for _ in range(count):
            with lock:
                counter.count += 1

    together(add, add)
    assert counter.count == 2 * count


def test_what_is_correct_passes() -> None:
    report = explore(locked, threads=True, schedules=200)
    assert report.passed
    assert not report.warnings


def test_a_search_exhausts_what_is_correct() -> None:
    report = explore(functools.partial(locked, 1), threads=True, policy="preemption-bound:1", schedules=5000)
    assert report.outcome is Outcome.EXHAUSTED


def test_with_sync_points_ordinary_code_is_left_alone() -> None:
    report = explore(test_is_incremented, threads=True, points="sync", schedules=20)
    assert report.passed
    assert not report.points
    assert ScheduleSettings.of_file({"threads": True}).points == "sync", "files are older than points in ordinary code"


def test_processes_find_what_one_process_finds() -> None:
    one, two = (explore(is_set_before_the_data, threads=True, schedules=128, jobs=jobs) for jobs in (1, 2))
    assert one.failure is not None
    assert two.failure is not None
    assert one.failure.schedule == two.failure.schedule


def test_objects_are_not_kept_alive() -> None:
    ended = []

    class Thing:
        def __init__(self) -> None:
            self.value = 1

        def __del__(self) -> None:
            ended.append(threading.current_thread().name)

    def use() -> None:
        assert Thing().value
        ended.append("after")

    def test() -> None:
        ended.clear()
        together(use)
        assert ended == ["t0", "after"]

    assert explore(test, threads=True, schedules=20).passed


def test_a_long_computation_is_not_endless() -> None:
    def test() -> None:
        counter = Counter()

        def work() -> None:
            for _ in range(200):
                counter.add()

        together(work)
        assert counter.count == 200

    report = explore(test, threads=True, schedules=2, max_steps=20)
    assert report.passed, report.text()


def test_a_loop_that_only_looks_is_endless() -> None:
    counter = Counter()

    def spin() -> None:
        while not counter.count:
            pass

    failure = explore(spin, threads=True, schedules=1, max_steps=100).failure
    assert failure is not None
    assert failure.verdict is Verdict.LIVELOCK


def test_code_without_source_is_not_passed() -> None:
    namespace: dict[str, Any] = {"together": together}
    exec("def test():\n    box = [0]\n    def f(): box[0] += 1\n    together(f, f)\n", namespace)
    report = explore(namespace["test"], threads=True, schedules=20)
    assert report.failure is not None
    assert report.failure.verdict is Verdict.UNEXPLORED
    assert "no source file" in report.failure.detail


def test_no_campaign_passes_if_points_do_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    assert finds_a_known_race()
    monkeypatch.setattr(sys.modules["lkl_green.testing.explore"], "finds_a_known_race", lambda: False)
    report = explore(locked, threads=True, schedules=2)
    assert report.outcome is Outcome.INCOMPLETE
    assert "known race" in report.reason


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="use 'memory' or 'sync'"):
        explore(locked, points="lines")
    with pytest.raises(ValueError, match="a list is wanted"):
        explore(locked, points_in="bank")
