"""One schedule, three configurations: the same run, whoever switches the tasks."""

from __future__ import annotations

import pytest

from lkl_green.linux import Completion, Mutex, Semaphore, Timer, WaitQueueHead, Work, flush_work, msleep, schedule_work
from lkl_green.testing import Shared, random, spawn
from lkl_green.testing.policies import RandomWalk
from lkl_green.testing.policies.replay import Trail
from lkl_green.testing.recording import Recording
from lkl_green.testing.settings import ScheduleSettings
from lkl_green.testing.testbed import Testbed


def producer_and_consumers():
    queue, items, taken = [], Semaphore(0, name="items"), Shared(0, "taken")
    lock = Mutex(name="lock")

    def consumer():
        for _ in range(2):
            items.down()
            with lock:
                taken.value += queue.pop(0)

    def producer():
        for number in range(4):
            with lock:
                queue.append(number)
            items.up()
            if random.random() < 0.5:
                msleep(1)

    for thread in [spawn(consumer), spawn(consumer), spawn(producer)]:
        thread.join()
    assert taken.peek() == 6


def sleepers_and_timers():
    ready, wq, done = Shared(False, "ready"), WaitQueueHead(name="wq"), Completion(name="done")

    def sleeper():
        wq.wait_event(ready.peek)
        msleep(random.randrange(3))

    def ring(_timer):
        done.complete()

    timer = Timer(ring, name="ring")
    timer.mod_timer_in(1_000_000)
    work = Work(lambda _work: done.wait_for_completion())
    schedule_work(work)
    sleepers = [spawn(sleeper), spawn(sleeper)]
    ready.value = True
    wq.wake_up()
    for thread in sleepers:
        thread.join()
    flush_work(work)


def loses_an_update():
    counter = Shared(0, "counter")

    def increment():
        counter.value += 1

    for thread in [spawn(increment), spawn(increment)]:
        thread.join()
    assert counter.peek() == 2


def takes_two_locks():
    a, b = Mutex(name="a"), Mutex(name="b")

    def task(first, second):
        with first, second:
            pass

    for thread in [spawn(task, a, b), spawn(task, b, a)]:
        thread.join()


@pytest.mark.parametrize("explore_time", [False, True], ids=["time jumps in idle", "time explored"])
@pytest.mark.parametrize("test", [producer_and_consumers, sleepers_and_timers, loses_an_update, takes_two_locks])
def test_a_trail_leads_the_same_way_in_each_configuration(test, explore_time):
    with (
        Testbed(ScheduleSettings(explore_time=explore_time)) as direct,
        Testbed(ScheduleSettings(explore_time=explore_time), "hosted") as hosted,
        Testbed(ScheduleSettings(explore_time=explore_time), "pthreads") as pthreads,
    ):
        policy = RandomWalk()
        verdicts = set()
        for number in range(25):
            policy.begin(7, number)
            trail = direct.run(test, policy).trail
            runs = []
            for testbed in (direct, hosted, pthreads):
                recording = Recording(Trail(trail))
                run = testbed.run(test, recording, recording.dissect)
                runs.append((run.verdict, run.trail, run.steps, run.time_ns, recording.decisions, recording.steps))
            assert runs[0] == runs[1] == runs[2]
            verdicts.add(runs[0][0])
        if test in (loses_an_update, takes_two_locks):
            assert len(verdicts) == 2


def test_a_configuration_has_a_name():
    with pytest.raises(ValueError, match="'direct', 'hosted', 'pthreads'"):
        Testbed(ScheduleSettings(), "greenlets")


def test_the_former_name_of_a_configuration_is_an_error_that_says_the_new_one():
    """`threads=True` says the opposite of it: threads of a program that are no OS threads."""
    with pytest.raises(ValueError, match="called 'pthreads' now"):
        Testbed(ScheduleSettings(), "threads")
