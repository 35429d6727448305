"""The parity contract: examples, stories and random programs trace equally in the three configurations.

LKL_GREEN_EXAMPLES=n tries n random programs, other ones each time, instead of the same few.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from random_programs import ENDINGS, SECOND_NS, play_all, programs

from lkl_green import Deadlock, KernelPanic
from lkl_green.compare.parity import CONFIGURATIONS, Configuration, TracedRun, first_difference, parity, run_traced
from lkl_green.linux import (
    Completion,
    Mutex,
    current_kernel,
    do_exit,
    irq_expect,
    kthread_run,
    request_irq,
    schedule,
    usleep,
)

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("[0-9][0-9]_*.py"))
TWICE = CONFIGURATIONS * 2
QUIET = {"loglevel": 0}


# -- examples


# Those from 20 on start kernels themselves, in event loops and in explorations.
PROGRAMS = [example for example in EXAMPLES if example.name < "20"]


@pytest.mark.parametrize("example", PROGRAMS, ids=lambda path: path.stem)
def test_example_is_equal_in_all_configurations(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = parity(example, configurations=TWICE, **QUIET)
    assert outcome.equal, str(outcome)
    assert outcome.runs[0].error is None
    assert len(outcome.runs[0].events) > 30


def test_block_device_is_equal_for_a_file_of_many_blocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "image"
    file.write_bytes(bytes(range(250)) * 100)
    outcome = parity(EXAMPLES[3], str(file), "512", "4", configurations=TWICE, **QUIET)
    assert outcome.equal, str(outcome)
    assert capsys.readouterr().out.endswith(f"  {file}\n")


# -- endings


def test_a_deadlock_is_one_in_every_configuration() -> None:
    def embrace(first: Mutex, second: Mutex) -> None:
        with first:
            usleep(10)
            with second:
                pass

    def init() -> None:
        left, right = Mutex(name="left"), Mutex(name="right")
        kthread_run(embrace, left, right, name="a")
        kthread_run(embrace, right, left, name="b")
        Completion(name="never").wait_for_completion()

    outcome = parity(init, configurations=TWICE, **QUIET)
    assert outcome.equal, str(outcome)
    assert {run.ending for run in outcome.runs} == {"Deadlock"}
    assert isinstance(outcome.runs[0].error, Deadlock)


@pytest.mark.parametrize("on_oops", ["panic", "kill"])
def test_an_oops_has_the_same_consequences_everywhere(on_oops: str) -> None:
    def fail() -> None:
        usleep(3)
        raise ValueError("on purpose")

    def init() -> int:
        kthread_run(fail, name="fail")
        usleep(100)
        return 4

    outcome = parity(init, configurations=TWICE, on_oops=on_oops, **QUIET)
    assert outcome.equal, str(outcome)
    first = outcome.runs[0]
    if on_oops == "kill":
        assert first.result == 4
    else:
        assert isinstance(first.error, KernelPanic)
        assert first.ending == "KernelPanic from ValueError"


def test_power_off_takes_the_remaining_threads_down_in_the_same_order(log: list[Any]) -> None:
    def linger(number: int) -> None:
        try:
            usleep(1000 * number)
        finally:
            log.append(number)

    def init() -> None:
        for number in (3, 1, 2):
            kthread_run(linger, number, name="linger/%d")
        schedule()

    outcome = parity(init, **QUIET)
    assert outcome.equal, str(outcome)
    assert log == [3, 1, 2] * 3


def test_a_traced_run_ends_as_an_untraced_one(run: Callable[..., Any]) -> None:
    def init() -> int:
        usleep(7)
        return current_kernel().timers.now_ns()

    assert parity(init, **QUIET).runs[0].result == run(init)


class SlowSet(set[int]):
    """A set to which adding takes a while, so that another OS thread looks in between."""

    def add(self, element: int) -> None:
        time.sleep(0.002)
        super().add(element)


def test_time_stands_still_until_a_slow_os_thread_has_raised_the_expected_interrupt(run: Callable[..., Any]) -> None:
    def init() -> int:
        kernel = current_kernel()
        kernel.irq.held = SlowSet()
        done = Completion(name="device")
        irq = kernel.lkl_get_free_irq("device")
        request_irq(irq, lambda irq: done.complete(), "device")
        irq_expect(irq)
        threading.Thread(target=kernel.lkl_trigger_irq, args=(irq,)).start()
        return done.wait_for_completion_timeout(SECOND_NS)

    assert run(init) > 0, "the timeout came first"


# -- what parity finds


def test_a_program_that_looks_behind_the_kernels_back_is_found() -> None:
    def init() -> None:
        usleep(5 if current_kernel().host.foreign_threads_run_kernel else 6)

    outcome = parity(init, **QUIET)
    assert not outcome.equal
    assert outcome.difference is not None
    assert (outcome.difference.left, outcome.difference.right) == ("direct", "pthreads")
    text = str(outcome)
    assert text.startswith("direct and pthreads differ from event ")
    removed = [line for line in text.splitlines() if line.startswith("- ")]
    added = [line for line in text.splitlines() if line.startswith("+ ")]
    assert "timer_start: timer=init function=process_timeout expires=6000" in removed[0]
    assert "timer_start: timer=init function=process_timeout expires=5000" in added[0]


def test_equal_traces_with_different_endings_are_not_equal() -> None:
    def init() -> None:
        if current_kernel().host.foreign_threads_run_kernel:
            raise ValueError("only here")
        do_exit(0)

    outcome = parity(init, **QUIET)
    assert outcome.difference is None
    assert not outcome.equal
    assert str(outcome).endswith("threads ends by KernelPanic from ValueError")


def test_the_end_of_the_shorter_trace_is_a_difference() -> None:
    def traced(name: str, lines: list[str]) -> TracedRun:
        return TracedRun(name, "# header\n" + "".join(f"{line}\n" for line in lines), 0, None, None)

    difference = first_difference(traced("a", ["1", "2", "3", "4", "5"]), traced("b", ["1", "2", "3", "4"]))
    assert str(difference).splitlines() == [
        "a and b differ from event 5 on:",
        "  2",
        "  3",
        "  4",
        "- 5",
        "+ (the trace ends here)",
    ]


# -- random programs

EXAMPLES_WANTED = int(os.environ.get("LKL_GREEN_EXAMPLES", "0"))
thoroughly = settings(
    max_examples=EXAMPLES_WANTED or 200,
    derandomize=not EXAMPLES_WANTED,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.once
@thoroughly
@given(program=programs, on_oops=st.sampled_from(["kill", "panic"]))
def test_random_programs_are_equal(program: tuple[Any, ...], on_oops: str) -> None:
    outcome = parity(play_all, *program, configurations=TWICE, on_oops=on_oops, watchdog_s=30, **QUIET)
    event(outcome.runs[0].ending)
    assert outcome.equal, str(outcome)
    assert outcome.runs[0].ending in ENDINGS, outcome.runs[0].error


def test_random_programs_get_far_enough_to_mean_something() -> None:
    """The interpreter of the random programs does what its steps say."""
    script = [("down_timeout", 1, 500), ("locked", 0, [("sleep", 5_000)]), ("give", 0), ("trigger", 0), ("exec",)]
    main = [("locked", 0, [("sleep", 1_000)]), ("wait", 0), ("take", 0, 20_000), ("timer", 0, 500), ("down", 0)]
    run = run_traced(Configuration("direct", "greenlet", "direct"), play_all, [script, script], main, True, **QUIET)
    assert run.error is None
    assert run.result == 2
    for event_name in (
        "irq_handler_entry: irq=",
        "timer_expire_entry: timer=timer0",
        "sched_process_exec",
        "sys_enter",
    ):
        assert event_name in run.trace
