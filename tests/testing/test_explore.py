"""explore(): what may be said after a campaign, and what is never taken for a pass."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError

import pytest
from recorded import PROGRAMS, abba, fault_and_draw, interrupt, lost_update

from lkl_green.errors import NotATest
from lkl_green.linux import msleep
from lkl_green.testing import Outcome, Shared, Verdict, explore, random, replay, spawn
from lkl_green.testing.settings import Settings
from lkl_green.testing.shrink import shrink


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_is_found_failing_in_the_same_schedule_of_a_seed(name):
    test, options = PROGRAMS[name]
    found = [explore(test, schedules=3000, seed=3, **options).failure for _ in range(2)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].number == found[1].number
    assert found[0].schedule == found[1].schedule


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_shrinks_to_a_schedule_that_replays(name):
    test, options = PROGRAMS[name]
    failure = explore(test, schedules=3000, **options).failure
    assert failure is not None
    simpler = shrink(test, failure)
    assert simpler.verdict is failure.verdict
    again = replay(test, simpler.schedule)
    assert again is not None
    assert (again.verdict, again.error) == (simpler.verdict, simpler.error)


def test_another_seed_is_another_campaign():
    trails = {tuple(explore(lost_update, policy="pos", seed=seed).failure.schedule.decisions) for seed in range(6)}
    assert len(trails) > 1


def test_shrink_is_an_option():
    failure = explore(abba, shrink=True, policy="random").failure
    assert failure is not None
    assert failure.shrunk is not None
    assert failure.shrunk.after.preemptions == 1
    assert failure.contrast


def test_interrupts_are_explored_unless_they_are_not_to_be():
    assert explore(interrupt, schedules=200).outcome is Outcome.FAILED
    assert explore(interrupt, schedules=200, explore_irqs=False).outcome is Outcome.EXHAUSTED


def test_time_is_explored_if_it_is_to_be():
    def test():
        ready = Shared(False, "ready")

        def prepare():
            ready.value = True

        spawn(prepare)
        msleep(1)
        assert ready.peek()

    assert explore(test, schedules=200).passed
    failure = explore(test, schedules=200, explore_time=True).failure
    assert failure is not None
    assert any(decision.actor == "clock" for decision in failure.schedule.decisions)


def test_draws_and_faults_are_part_of_the_schedule():
    failure = explore(fault_and_draw, schedules=3000).failure
    assert failure is not None
    kinds = [decision.actor for decision in failure.schedule.decisions]
    assert kinds == ["random", "fault disk"]
    for _ in range(3):
        again = replay(fault_and_draw, failure.schedule)
        assert again is not None
        assert again.error == failure.error


def test_draws_are_the_same_for_a_seed_and_differ_among_schedules():
    def test():
        drawn.append((random.random(), random.randrange(10**12), random.choice("abc")))

    drawn = []
    explore(test, schedules=20, seed=1)
    first = drawn.copy()
    drawn.clear()
    explore(test, schedules=20, seed=1)
    assert drawn == first
    assert len(set(first)) == 20


def test_a_time_budget_that_runs_out_is_no_pass():
    report = explore(lambda: msleep(1), schedules=10**9, time_budget=0.05)
    assert report.outcome is Outcome.INCOMPLETE
    assert not report.passed
    assert "time budget" in report.text()


def test_the_campaign_can_go_on_after_a_failure():
    report = explore(lost_update, schedules=60, stop_on_failure=False)
    assert report.schedules == 60
    assert len(report.failures) > 1
    assert {failure.verdict for failure in report.failures} == {Verdict.FAILED}


def test_state_that_is_kept_between_schedules_is_not_deterministic():
    def test():
        counter.value += 1
        assert counter.peek() < 5

    counter = Shared(0, "counter")
    failure = explore(test).failure
    assert failure is not None
    assert failure.verdict is Verdict.NONDETERMINISTIC


def test_a_passing_schedule_that_fails_again_is_not_deterministic():
    def test():
        runs.append(1)
        if len(runs) >= 3:
            raise ValueError("it was used too often")

    runs = []
    failure = explore(test).failure
    assert failure is not None
    assert failure.verdict is Verdict.NONDETERMINISTIC
    assert "the same schedule ended once with 'passed' and once with 'failed ValueError: it was" in failure.detail


def test_addresses_in_messages_make_no_difference():
    def test():
        kept.append(object())
        raise ValueError(f"{kept[-1]!r} is not what it should be")

    kept = []
    failure = explore(test, shrink=True).failure
    assert failure is not None
    assert failure.verdict is Verdict.FAILED
    assert " at 0x" in failure.error


def test_other_values_in_messages_are_told_and_make_no_difference():
    kept = []

    def test():
        kept.append(object())
        counter = Shared(0, "counter")

        def increment():
            counter.value += 1

        for thread in [spawn(increment), spawn(increment)]:
            thread.join()
        if counter.peek() != 2:
            raise ValueError(f"object number {id(kept[-1])} is lost")

    failure = explore(test, shrink=True, policy="random").failure
    assert failure is not None
    assert failure.verdict is Verdict.FAILED
    assert failure.shrunk is not None
    assert failure.shrunk.after.preemptions == 1
    assert "its message differs each time" in failure.text()
    assert replay(test, failure.schedule).verdict is Verdict.FAILED


def test_numbers_of_a_program_are_no_addresses():
    def test():
        raise ValueError("flags are 0x1f")

    assert "flags are 0x1f" in explore(test).failure.error


def generator():
    yield 1


async def coroutine():
    pass


@pytest.mark.parametrize("test", [generator, coroutine, "name", None])
def test_what_would_run_nothing_is_no_test(test):
    with pytest.raises(NotATest):
        explore(test)


def test_the_signature_of_explore_is_that_of_its_settings():
    names = list(inspect.signature(explore).parameters)
    assert names == ["test", *inspect.signature(Settings).parameters]
    with pytest.raises(TypeError, match=r"^explore\(\) got an unexpected keyword argument 'speed'$"):
        explore(lambda: None, speed=11)


def test_settings_of_a_campaign_do_not_change():
    settings = Settings()
    with pytest.raises(FrozenInstanceError):
        settings.seed = 1
    assert settings.seed == 0
