"""A recorded schedule leads the same way again: here, from its file, on each Python version; or says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from recorded import PROGRAMS, lost_update

from lkl_green.errors import NotATest, ScheduleFileError
from lkl_green.testing import Schedule, Shared, Verdict, explore, replay, spawn
from lkl_green.testing.decision import Decision

RECORDED = Path(__file__).parent / "schedules"


def failing_schedule(test, **options):
    failure = explore(test, schedules=3000, **options).failure
    assert failure is not None
    return failure


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_file_recorded_on_another_python_replays_on_this_one(name):
    schedule = Schedule.load(RECORDED / f"{name}.json")
    failure = replay(PROGRAMS[name][0], schedule)
    assert failure is not None
    assert failure.verdict.value == schedule.verdict
    assert failure.error.partition("\n")[0] == schedule.error.partition("\n")[0]
    # The files are from a time in which names of threads were cut at 15 characters.
    recorded = [decision._replace(actor=decision.actor[:15]) for decision in failure.schedule.decisions]
    assert recorded == schedule.decisions


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_found_here_replays_from_its_file(name, tmp_path):
    test, options = PROGRAMS[name]
    failure = failing_schedule(test, **options)
    failure.schedule.save(tmp_path / "deep" / "schedule.json")
    schedule = Schedule.load(tmp_path / "deep" / "schedule.json")
    assert schedule == failure.schedule
    again = replay(test, schedule)
    assert again is not None
    assert (again.verdict, again.error, again.detail) == (failure.verdict, failure.error, failure.detail)
    assert [step[:3] for step in again.steps] == [step[:3] for step in failure.steps]


def test_the_same_steps_are_recorded_again_and_again():
    schedule = failing_schedule(lost_update).schedule
    steps = [replay(lost_update, schedule).steps for _ in range(3)]
    assert steps[0] == steps[1] == steps[2]


def test_a_schedule_of_a_fixed_test_passes_or_does_not_fit():
    def fixed():
        counter = Shared(0, "counter")

        def increment():
            counter.value += 1

        threads = [spawn(increment), spawn(increment)]
        for thread in threads:
            thread.join()

    assert replay(fixed, failing_schedule(lost_update).schedule) is None


def mismatch(test, schedule):
    failure = replay(test, schedule)
    assert failure is not None
    assert failure.verdict is Verdict.MISMATCH
    return failure.detail


def test_another_operation_is_the_first_divergence():
    def changed():
        counter = Shared(0, "counter")

        def increment():
            _ = counter.value
            _ = counter.value
            counter.value = 1

        for thread in [spawn(increment), spawn(increment)]:
            thread.join()

    schedule = failing_schedule(lost_update).schedule
    detail = mismatch(changed, schedule)
    assert detail.startswith("decision ")
    assert f" of {len(schedule.decisions)}: recorded was '" in detail
    assert "comes next. The test, or what it tests, has changed" in detail


def test_a_task_of_another_name_cannot_go_on():
    schedule = failing_schedule(lost_update).schedule
    schedule.decisions[0] = Decision("nobody", "start")
    detail = mismatch(lost_update, schedule)
    assert detail.startswith("decision 1 of ")
    assert "recorded was 'nobody: start', and nobody cannot go on; these can: " in detail


def test_a_test_that_goes_on_after_the_recording():
    schedule = failing_schedule(lost_update).schedule
    cut = replace(schedule, decisions=schedule.decisions[:1])
    assert "the recorded schedule ends here, and the test goes on" in mismatch(lost_update, cut)


def test_a_test_that_ends_before_the_recording():
    schedule = failing_schedule(lost_update).schedule
    detail = mismatch(lambda: None, schedule)
    assert detail == f"the run ended with {len(schedule.decisions)} recorded decisions left (passed)"


@pytest.mark.parametrize("op", ["9/2", "x/2", "1/3", "1", ""])
def test_a_choice_that_does_not_exist(op):
    test = PROGRAMS["fault_and_draw"][0]
    schedule = failing_schedule(test).schedule
    assert schedule.decisions[-1].op == "1/2"
    schedule.decisions[-1] = Decision("fault disk", op)
    assert "and now there is a choice of 'fault disk' among 2" in mismatch(test, schedule)


def test_options_that_do_not_exist_are_an_error_of_the_file():
    text = failing_schedule(lost_update).schedule.dumps()
    assert '"lockdep"' in text
    with pytest.raises(ScheduleFileError, match=r"options .*'speed': .* do not exist"):
        Schedule.loads(text.replace('"lockdep"', '"speed"'))


def test_what_is_no_test_is_not_replayed():
    async def test():
        pass

    with pytest.raises(NotATest):
        replay(test, Schedule([]))
