"""A recording: each decision by name, each operation with the line that does it."""

from __future__ import annotations

import threading

from lkl_green.kernel.current import current_kernel
from lkl_green.linux import Mutex, msleep
from lkl_green.testing import Shared, spawn
from lkl_green.testing.policies import FIFO, RandomWalk
from lkl_green.testing.recording import Recording
from lkl_green.testing.run import Verdict
from lkl_green.testing.settings import ScheduleSettings
from lkl_green.testing.testbed import Testbed


def record(test, policy=None, **options):
    recording = Recording(policy or FIFO())
    recording.begin(0, 0)
    with Testbed(ScheduleSettings(**options)) as testbed:
        run = testbed.run(test, recording, recording.dissect)
    return run, recording


def two_steps():
    lock = Mutex(name="lock")

    def work():
        with lock:  # taken here
            msleep(2)

    for thread in [spawn(work), spawn(work)]:
        thread.join()


def test_steps_say_who_does_what_to_what_at_which_line_and_when():
    run, recording = record(two_steps)
    assert run.passed
    told = [(step.actor, step.op, step.obj) for step in recording.steps if step.op != "after"]
    assert told[:5] == [
        ("main", "start", ""),
        ("main", "join", "Spawned#1"),
        ("work", "start", ""),
        ("work", "lock", "lock"),
        ("work#2", "start", ""),
    ]
    step = next(step for step in recording.steps if step.op == "lock")
    assert step.where is not None
    assert step.where.text == "with lock:  # taken here"
    assert step.where.function == "two_steps.<locals>.work"
    assert [step.time_ns for step in recording.steps] == sorted(step.time_ns for step in recording.steps)
    assert recording.steps[-1].time_ns >= 4_000_000


def test_decisions_belong_to_steps_and_preemptions_are_marked():
    def test():
        counter = Shared(0, "counter")

        def work():
            counter.value += 1

        for thread in [spawn(work), spawn(work)]:
            thread.join()

    _, recording = record(test, RandomWalk())
    numbers = [step.decision for step in recording.steps if step.decision is not None]
    assert numbers == list(range(len(recording.decisions)))
    for step in recording.steps:
        assert step.preempts != step.actor
        if step.decision is not None:
            assert recording.decisions[step.decision].actor == step.actor
    assert any(step.preempts for step in recording.steps)


def test_recording_changes_nothing():
    plain = RandomWalk()
    plain.begin(0, 5)
    with Testbed(ScheduleSettings()) as testbed:
        run = testbed.run(two_steps, plain)
    walk = RandomWalk()
    recording = Recording(walk)
    recording.begin(0, 5)
    with Testbed(ScheduleSettings()) as testbed:
        again = testbed.run(two_steps, recording, recording.dissect)
    assert (run.trail, run.steps, run.time_ns) == (again.trail, again.steps, again.time_ns)


def test_lines_of_threading_are_told_as_those_that_call_it():
    def test():
        condition = threading.Condition(Wrapped())
        with condition:
            pass

    class Wrapped:
        def __init__(self):
            self._lock = Mutex(name="inside")

        def acquire(self):
            self._lock.lock()  # the innermost line that is the program's
            return True

        def release(self):
            self._lock.unlock()

        def locked(self):  # Condition of Python 3.14 asks for it
            return self._lock.is_locked()

        def __enter__(self):
            return self.acquire()

        def __exit__(self, *_):
            self.release()

    _, recording = record(test)
    (step,) = [step for step in recording.steps if step.op == "lock"]
    assert step.where is not None
    assert step.where.text.startswith("self._lock.lock()")


def test_the_end_of_the_trace_is_kept_and_tracing_of_the_test_is_its_own():
    def test():
        kernel = current_kernel()
        kernel.trace_start()
        spawn(lambda: None).join()
        seen.append(len(kernel.trace_stop()))

    seen = []
    run, recording = record(test)
    assert run.passed
    assert seen[0] > 0
    assert "sched_switch" in recording.trace


def test_what_is_unwound_after_the_end_is_no_part_of_it():
    def test():
        lock = Mutex(name="lock")

        def fail():
            raise ValueError("the end")

        def sleep():
            try:
                msleep(100)
            finally:
                lock.lock()
                lock.unlock()

        for thread in [spawn(sleep), spawn(fail)]:
            thread.join()

    run, recording = record(test)
    assert run.verdict is Verdict.FAILED
    assert {step.op for step in recording.steps} == {"start", "after", "join"}
