"""One program, however the application cuts up its calls of `lkl_run()`.

The application may call `lkl_run()` once and wait until the kernel is idle, or leave it at every switch, after some
number of scheduling points, or when a budget of time is used up. Under a virtual clock the program must not notice: it
has the same log, result, ending, times, and the same trace, once leaving and coming back is taken out of that.

LKL_GREEN_EXAMPLES=n tries n random programs, other ones each time, instead of the same few.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from random_programs import ENDINGS, play_all, programs

from lkl_green import LklError, RunUntil, lkl_start_kernel
from lkl_green.compare.parity import CONFIGURATIONS, Configuration, TracedRun
from lkl_green.linux import (
    SCHED_FIFO,
    Timer,
    cond_resched,
    current,
    current_kernel,
    kthread_create,
    kthread_run,
    ktime_get,
    ndelay,
    preempt_disable,
    preempt_enable,
    request_irq,
    sched_setscheduler,
    schedule,
    usleep,
    wake_up_process,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lkl_green import Kernel
    from lkl_green.kernel.tracepoint import TraceRecord

WHOLE: tuple[dict[str, Any], ...] = ({},)
CUTS: dict[str, tuple[dict[str, Any], ...]] = {
    "each switch": ({"until": RunUntil.SWITCH},),
    "each point": ({"max_switches": 1},),
    "each third point": ({"max_switches": 3},),
    "a budget of nothing": ({"budget_ns": 1},),
    "in turn": ({"until": RunUntil.SWITCH}, {"max_switches": 7}, {}, {"budget_ns": 1, "max_switches": 300}),
}


def drive(kernel: Kernel, calls: Sequence[dict[str, Any]]) -> Any:
    """`Kernel.run()` with the given arguments of `lkl_run()`, over and over."""
    try:
        for arguments in itertools.cycle(calls):
            kernel.pause(kernel.lkl_run(**arguments))
            if kernel.halted:
                return kernel.init_result
    except BaseException:
        kernel.reboot.halt_quietly()
        raise


def without_the_application(records: Sequence[TraceRecord]) -> list[TraceRecord]:
    """A trace in which *A to swapper, swapper to B* is *A to B*, and *A to A* is nothing."""
    kept: list[TraceRecord] = []
    for record in records:
        if not kept or not (leaves(kept[-1]) and comes_back(record)):
            kept.append(record)
            continue
        left = kept.pop()
        if left.fields[:2] != record.fields[4:6]:
            kept.append(left._replace(fields=left.fields[:4] + record.fields[4:]))
    return kept


def leaves(record: TraceRecord) -> bool:
    return record.event == "sched_switch" and record.fields[5] == 0


def comes_back(record: TraceRecord) -> bool:
    return record.event == "sched_switch" and record.fields[1] == 0


def run_cut(
    configuration: Configuration, calls: Sequence[dict[str, Any]], init: Any, *args: Any, **options: Any
) -> Any:
    """What a run of `init(*args)` was for the program: ending, result, time at the end, and trace."""
    options = {"clock": "virtual", "loglevel": 0, **options}
    kernel = lkl_start_kernel(init, *args, host=configuration.host, switch=configuration.switch, trace=True, **options)
    error, result = None, None
    try:
        result = drive(kernel, calls)
    except LklError as raised:
        error = raised
    records = without_the_application(kernel.trace_stop())
    return TracedRun(configuration.name, "", 0, error, result).ending, result, kernel.clock.peek_ns(), records


def assert_equal(whole: Any, cut: Any, how: object) -> None:
    """The first record that differs is what one wants to see."""
    for number, (left, right) in enumerate(itertools.zip_longest(whole[3], cut[3])):
        assert left == right, f"record {number} of the run that was cut up by {how}"
    assert whole == cut


@pytest.fixture(params=CONFIGURATIONS, ids=lambda configuration: configuration.name)
def configuration(request: pytest.FixtureRequest) -> Configuration:
    return request.param


@pytest.fixture(params=CUTS.values(), ids=CUTS)
def calls(request: pytest.FixtureRequest) -> Sequence[dict[str, Any]]:
    return request.param


# -- stories, one for each thing that a call of lkl_run() might do to a program


def a_timer_that_is_due_when_it_is_armed(log: list[Any]) -> None:
    def other() -> None:
        for step in range(3):
            log.append(f"b{step}")
            schedule()

    Timer(lambda timer: log.append("timer")).mod_timer(0)
    kthread_run(other)
    for step in range(3):
        log.append(f"a{step}")
        schedule()


def a_timer_that_becomes_due_while_the_clock_is_read(log: list[Any]) -> None:
    Timer(lambda timer: log.append("timer")).mod_timer(ktime_get() + 2_500)
    for step in range(5):
        log.append((step, ktime_get()))
        cond_resched()


def interrupts_that_handlers_raise(log: list[Any]) -> None:
    kernel = current_kernel()
    first, second = (kernel.lkl_get_free_irq(name) for name in "ab")

    def handler(irq: int) -> None:
        log.append(irq)
        if len(log) < 40:
            kernel.lkl_trigger_irq(second if irq == first else first)

    request_irq(first, handler, "a")
    request_irq(second, handler, "b")
    kernel.lkl_trigger_irq(first)
    for step in range(30):
        log.append(f"step {step}")
        cond_resched()
    usleep(5)


def slices_of_two_threads_that_only_compute(log: list[Any]) -> None:
    def compute(name: str) -> None:
        for step in range(1000):
            if step % 50 == 0:
                log.append((name, step))
            cond_resched()

    kthread_run(compute, "a")
    kthread_run(compute, "b")
    compute("init")
    usleep(100)


def a_time_slice_in_an_atomic_section(log: list[Any]) -> None:
    kthread_run(lambda: [(log.append(step), schedule()) for step in range(6)])
    for step in range(3):
        preempt_disable()
        for _ in range(300):
            cond_resched()
        log.append(f"atomic {step}")
        preempt_enable()
        schedule()


def real_time_threads(log: list[Any]) -> None:
    def urgent(name: str) -> None:
        for step in range(3):
            log.append((name, step))
            usleep(3)
            schedule()

    for name, priority in (("low", 5), ("high", 50)):
        task = kthread_create(urgent, name)
        sched_setscheduler(task, SCHED_FIFO, priority)
        wake_up_process(task)
    for step in range(4):
        log.append(("init", step))
        ndelay(2_000)
        schedule()
    sched_setscheduler(current(), SCHED_FIFO, 10)
    log.append("init is real-time")
    schedule()


def threads_that_begin_and_end(log: list[Any]) -> None:
    def generation(number: int) -> None:
        log.append(number)
        if number:
            kthread_run(generation, number - 1)
            kthread_run(log.append, f"leaf {number}")

    kthread_run(generation, 5)
    usleep(50)


def a_thread_that_is_taken_down(log: list[Any]) -> None:
    def sleeper() -> None:
        try:
            for step in range(100):
                log.append(step)
                schedule()
        finally:
            schedule()
            log.append("ends")

    task = kthread_run(sleeper)
    for _ in range(3):
        schedule()
    current_kernel().exits.take_down(task)
    for step in range(4):
        log.append(f"init {step}")
        cond_resched()
        schedule()


STORIES = [
    a_timer_that_is_due_when_it_is_armed,
    a_timer_that_becomes_due_while_the_clock_is_read,
    interrupts_that_handlers_raise,
    slices_of_two_threads_that_only_compute,
    a_time_slice_in_an_atomic_section,
    real_time_threads,
    threads_that_begin_and_end,
    a_thread_that_is_taken_down,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_story_is_the_same_however_it_is_cut_up(
    configuration: Configuration, calls: Sequence[dict[str, Any]], story: Callable[[list[Any]], None]
) -> None:
    whole_log: list[Any] = []
    cut_log: list[Any] = []
    whole = run_cut(configuration, WHOLE, story, whole_log)
    cut = run_cut(configuration, calls, story, cut_log)
    assert len(whole_log) > 5
    assert cut_log == whole_log
    assert_equal(whole, cut, calls)
    assert whole[0] == "power-off"


def test_leaving_counts_no_scheduling_point(configuration: Configuration) -> None:
    def init() -> int:
        for _ in range(1000):
            cond_resched()
        return current_kernel().sched.points

    points = {run_cut(configuration, calls, init)[1] for calls in (WHOLE, *CUTS.values())}
    assert len(points) == 1


# -- random programs

call = st.one_of(
    st.just({"until": RunUntil.SWITCH}),
    st.builds(lambda points: {"max_switches": points}, st.one_of(st.integers(1, 12), st.integers(200, 300))),
    st.just({"budget_ns": 1}),
    st.just({}),
)

EXAMPLES_WANTED = int(os.environ.get("LKL_GREEN_EXAMPLES", "0"))


@pytest.mark.once
@settings(
    max_examples=EXAMPLES_WANTED or 100,
    derandomize=not EXAMPLES_WANTED,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(program=programs, calls=st.lists(call, min_size=1, max_size=5), on_oops=st.sampled_from(["kill", "panic"]))
def test_random_programs_are_the_same_however_they_are_cut_up(
    program: tuple[Any, ...], calls: list[dict[str, Any]], on_oops: str
) -> None:
    options = {"on_oops": on_oops, "watchdog_s": 30}
    whole = None
    for configuration in CONFIGURATIONS:
        whole = run_cut(configuration, WHOLE, play_all, *program, **options)
        assert whole[0] in ENDINGS
        for how in (calls, CUTS["each switch"]):
            assert_equal(whole, run_cut(configuration, how, play_all, *program, **options), how)
    assert whole is not None
    event(whole[0])
