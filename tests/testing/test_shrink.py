"""A failing schedule, made as simple as it gets: the known minimum of preemptions on small classics."""

from __future__ import annotations

import pytest
from recorded import abba, run_all

from lkl_green.linux import Mutex, cond_resched, msleep
from lkl_green.testing import Shared, Verdict, explore, fault_point, random, replay, spawn
from lkl_green.testing.schedule import Schedule
from lkl_green.testing.shrink import shrink

pytestmark = pytest.mark.once


def lost_update():
    counter = Shared(0, "counter")

    def increment():
        for _ in range(3):
            counter.value += 1

    run_all(increment, increment, increment)
    assert counter.peek() == 9


def check_then_act():
    free = Shared(True, "free")
    owners = []

    def claim():
        if free.value:
            free.value = False
            owners.append(1)

    run_all(claim, claim)
    assert len(owners) == 1


def last_one_checks():
    lock = Mutex(name="lock")
    data = Shared(0, "data")

    def check():
        with lock:
            assert data.value < 3

    def add():
        with lock:
            data.value += 2

    run_all(check, add, add)


def there_and_back():
    """Fails only if the flag is seen up and then down: the watcher is left once, the waver once."""
    flag = Shared(0, "flag")

    def wave():
        flag.value = 1
        flag.value = 0

    def watch():
        assert not (flag.value == 1 and flag.value == 0)

    run_all(wave, watch)


def many_setters():
    a, b = Shared(0, "a"), Shared(0, "b")

    def set_both():
        a.value = 1
        b.value = -1

    def check():
        assert (a.value, b.value) in ((0, 0), (1, -1))

    run_all(*[set_both] * 9, check)


MINIMA = [
    (lost_update, 1),
    (abba, 1),
    (check_then_act, 1),
    (last_one_checks, 0),
    (there_and_back, 2),
    (many_setters, 1),
]


def first_failure(test, seed=0, **options):
    report = explore(test, schedules=5000, seed=seed, **options)
    assert report.failure is not None, report.text()
    return report.failure


@pytest.mark.parametrize("policy", ["random", "pos"])
@pytest.mark.parametrize(("test", "preemptions"), MINIMA, ids=lambda value: getattr(value, "__name__", None))
def test_the_known_minimum_of_preemptions_is_reached(test, preemptions, policy):
    for seed in range(2):
        failure = shrink(test, first_failure(test, seed, policy=policy, after_points=False))
        again = replay(test, Schedule.loads(failure.schedule.dumps()))
        assert again is not None
        assert again.verdict is failure.verdict
        assert sum(bool(step.preempts) for step in again.steps) == preemptions


def test_how_much_simpler_it_became_is_told():
    shrunk = shrink(lost_update, first_failure(lost_update, policy="random")).shrunk
    assert shrunk is not None
    assert shrunk.after < shrunk.before
    assert shrunk.minimal
    assert str(shrunk).startswith(f"shrunk from {shrunk.before.preemptions} preemptions and ")
    assert " to 1 preemption and 29 steps in " in str(shrunk)


def test_it_stays_the_same_failure():
    def test():
        counter = Shared(0, "counter")

        def increment():
            counter.value += 1

        def quarrel():
            if counter.value == 1:
                raise RuntimeError("another bug, which is easier to meet")

        run_all(increment, increment, quarrel)
        assert counter.peek() == 2

    for seed in range(20):
        failure = first_failure(test, seed)
        simpler = shrink(test, failure)
        assert type(simpler.exception) is type(failure.exception)
        if isinstance(failure.exception, AssertionError):
            return
    pytest.fail("the second bug was never met")


def test_faults_and_draws_that_do_not_matter_go():
    def test():
        for _ in range(5):
            random.randrange(1000)
        noise = [fault_point("noise") for _ in range(5)]
        assert not fault_point("disk"), noise

    failure = first_failure(test)
    simpler = shrink(test, failure)
    assert simpler.shrunk is not None
    assert simpler.shrunk.after.faults == 1
    told = [decision for decision in simpler.schedule.decisions if not decision.op.startswith("0/")]
    assert told == [("fault disk", "1/2", "")]


def test_jumps_of_time_that_do_not_matter_go():
    def test():
        counter = Shared(0, "counter")

        def increment():
            value = counter.value
            msleep(1)
            counter.value = value + 1

        run_all(increment, increment, lambda: msleep(5))
        assert counter.peek() == 2

    simpler = shrink(test, first_failure(test, explore_time=True, policy="random"))
    assert simpler.shrunk is not None
    assert simpler.shrunk.after.jumps < simpler.shrunk.before.jumps
    assert simpler.shrunk.after.preemptions == 0


def test_candidates_that_spin_are_given_up():
    def test():
        ready = Shared(False, "ready")
        counter = Shared(0, "counter")

        def wait():
            while not ready.value:
                cond_resched()
            counter.value += 1

        def announce():
            ready.value = True
            counter.value += 1

        run_all(wait, announce)
        assert counter.peek() == 2

    simpler = shrink(test, first_failure(test))
    assert simpler.shrunk is None or simpler.shrunk.after <= simpler.shrunk.before
    again = replay(test, simpler.schedule)
    assert again is not None
    assert again.error == simpler.error


def test_a_budget_is_kept_and_what_was_reached_is_returned():
    failure = first_failure(lost_update, policy="random")
    simpler = shrink(lost_update, failure, max_runs=3)
    assert simpler.shrunk is None or simpler.shrunk.runs <= 3
    assert simpler.verdict is Verdict.FAILED
    assert shrink(lost_update, failure, budget_s=0.0).verdict is Verdict.FAILED


def test_what_does_not_fail_again_is_left_alone():
    failure = first_failure(lost_update)
    assert shrink(lambda: None, failure) is failure


# -- livelocks


def update_is_awaited():
    """A lost update leaves somebody waiting who asks for ever."""
    counter = Shared(0, "counter")

    def increment():
        counter.value += 1

    def wait():
        while counter.value < 2:
            cond_resched()

    run_all(increment, increment, wait)


def everybody_waits():
    flag = Shared(False, "flag")

    def wait():
        while not flag.value:
            cond_resched()

    run_all(wait, wait)


def courtesy():
    """Two that take one lock, find the other one taken, and start again: if they do so in step, for ever."""
    left, right = Mutex(name="left"), Mutex(name="right")

    def take(first, second):
        while True:
            first.lock()
            if second.trylock():
                second.unlock()
                first.unlock()
                return
            first.unlock()

    run_all(lambda: take(left, right), lambda: take(right, left))


@pytest.mark.parametrize("policy", ["default", "pct", "pos", "random"])
@pytest.mark.parametrize(("test", "preemptions"), [(update_is_awaited, 1), (everybody_waits, 0)])
def test_a_livelock_shrinks_to_its_minimum_as_well(test, preemptions, policy):
    failure = first_failure(test, policy=policy, max_steps=4_000)
    assert failure.verdict is Verdict.LIVELOCK
    simpler = shrink(test, failure, budget_s=20)
    assert simpler.shrunk is not None
    assert simpler.shrunk.after.preemptions == preemptions
    assert simpler.shrunk.minimal
    assert " steps" in str(simpler.shrunk)
    assert "in the first " in str(simpler.shrunk)


def test_a_shrunk_livelock_is_short_and_replays_within_its_own_limit():
    failure = first_failure(update_is_awaited, max_steps=4_000, policy="random")
    simpler = shrink(update_is_awaited, failure, budget_s=20)
    assert len(simpler.steps) < 1_100
    assert "did not end within 4000 steps; this is one of its kind, up to step " in simpler.detail
    assert "times wait: read counter at test_shrink.py:" in simpler.detail
    again = replay(update_is_awaited, Schedule.loads(simpler.schedule.dumps()))
    assert again is not None
    assert again.verdict is Verdict.LIVELOCK


def test_a_livelock_of_many_preemptions_keeps_to_the_budget():
    """It has to be kept up by preempting somebody in each step; there is a neighbour for each."""
    failure = first_failure(courtesy, max_steps=4_000)
    assert failure.verdict is Verdict.LIVELOCK
    simpler = shrink(courtesy, failure, budget_s=20, max_runs=200)
    assert simpler.shrunk is not None
    assert simpler.shrunk.runs <= 200
    assert simpler.shrunk.after.preemptions <= 200
    assert len(simpler.steps) < 300


def test_a_schedule_that_starves_somebody_is_not_taken_for_a_livelock():
    """Not to let anybody else go on would be simpler, and never ends either."""
    simpler = shrink(update_is_awaited, first_failure(update_is_awaited, policy="random", max_steps=4_000), budget_s=20)
    last = simpler.steps[-100:]
    assert {step.actor for step in last} == {"wait"}
    writes = [step for step in simpler.steps if step.op == "write"]
    assert len(writes) == 2, "both have had their turn"


def test_a_long_test_is_not_taken_for_a_livelock():
    """Here the plain schedule ends, after more steps than any candidate is given."""

    def test():
        counter = Shared(0, "counter")
        for _ in range(12_000):
            counter.value += 1
        update_is_awaited()

    failure = first_failure(test, policy="random", max_steps=30_000)
    assert failure.verdict is Verdict.LIVELOCK
    assert shrink(test, failure, budget_s=20) is failure


def test_a_livelock_that_is_none_any_more_is_left_alone():
    failure = first_failure(everybody_waits, max_steps=2_000)
    assert shrink(lambda: None, failure) is failure


# -- faults


def out_of_threads():
    """Starting one of six threads may fail; starting two of them may not."""
    lost = 0
    threads = []
    for number in range(6):
        try:
            threads.append(spawn(msleep, number))
        except OSError:
            lost += 1
    for thread in threads:
        thread.join()
    assert lost < 2


def faults_of(schedule):
    return [one for one in schedule.decisions if one.actor.startswith("fault") and not one.op.startswith("0/")]


@pytest.mark.parametrize("policy", ["default", "pct", "random"])
def test_faults_of_the_host_become_fewer_and_never_more(policy):
    for seed in range(3):
        failure = first_failure(out_of_threads, seed, policy=policy, host_faults=True)
        simpler = shrink(out_of_threads, failure)
        assert simpler.shrunk is not None
        assert simpler.shrunk.after.preemptions == 0
        assert len(faults_of(simpler.schedule)) == simpler.shrunk.after.faults == 2
        assert "2 faults" in str(simpler.shrunk)
        again = replay(out_of_threads, Schedule.loads(simpler.schedule.dumps()))
        assert again is not None
        assert again.error == simpler.error


def test_a_fault_and_a_race_shrink_together():
    """The way out after a failure races with a thread that was started before."""

    def test():
        done = Shared(False, "done")
        threads = [spawn(lambda: setattr(done, "value", True))]
        for number in range(4):
            try:
                threads.append(spawn(msleep, number))
            except OSError:
                assert not done.value
        for thread in threads:
            thread.join()

    simpler = shrink(test, first_failure(test, host_faults=True))
    assert simpler.shrunk is not None
    assert simpler.shrunk.after.faults == 1
    assert "1 fault and " in str(simpler.shrunk)
