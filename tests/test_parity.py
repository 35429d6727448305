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

from lkl_green import Deadlock, KernelPanic
from lkl_green.compare.parity import CONFIGURATIONS, Configuration, Run, first_difference, parity, run_traced
from lkl_green.linux import (
    SCHED_FIFO,
    SCHED_NORMAL,
    SCHED_RR,
    UMH_WAIT_PROC,
    Completion,
    DelayedWork,
    Mutex,
    Semaphore,
    SpinLock,
    Timer,
    WaitQueueHead,
    Work,
    allow_signal,
    call_usermodehelper,
    cancel_delayed_work_sync,
    cancel_work_sync,
    cond_resched,
    current,
    current_kernel,
    do_exit,
    flush_signals,
    flush_work,
    free_irq,
    irq_expect,
    kthread_create,
    kthread_park,
    kthread_parkme,
    kthread_run,
    kthread_should_park,
    kthread_should_stop,
    kthread_stop,
    kthread_unpark,
    local_bh_disable,
    local_bh_enable,
    local_irq_restore,
    local_irq_save,
    ndelay,
    request_irq,
    sched_setscheduler,
    schedule,
    schedule_delayed_work,
    schedule_work,
    send_sig,
    tasklet,
    usleep,
    wake_up,
    wake_up_process,
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
    assert (outcome.difference.left, outcome.difference.right) == ("direct", "threads")
    text = str(outcome)
    assert text.startswith("direct and threads differ from event ")
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
    def traced(name: str, lines: list[str]) -> Run:
        return Run(name, "# header\n" + "".join(f"{line}\n" for line in lines), 0, None, None)

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

NR_OBJECTS = 2
NR_THREADS = 4
SECOND_NS = 1_000_000_000
DELAYS_NS = (0, 500, 1_000, 5_000, 5_000, 20_000)


class Stage:
    """What the threads of one random program share."""

    def __init__(self) -> None:
        self.kernel = current_kernel()
        self.mutexes = [Mutex(name=f"mutex{n}") for n in range(NR_OBJECTS)]
        self.semaphores = [Semaphore(n, name=f"sem{n}") for n in range(NR_OBJECTS)]
        self.completions = [Completion(name=f"completion{n}") for n in range(NR_OBJECTS)]
        self.queues = [WaitQueueHead(name=f"queue{n}") for n in range(NR_OBJECTS)]
        self.tokens = [0] * NR_OBJECTS
        self.spinlock = SpinLock(name="spinlock")
        self.timers = [Timer(lambda timer: self.semaphores[0].up(), name=f"timer{n}") for n in range(NR_OBJECTS)]
        self.tasklet = tasklet(lambda: self.give(1))
        self.works = [Work(lambda work: self.give(0), name="work0"), Work(self.work, name="work1")]
        self.delayed = [DelayedWork(self.work, name=f"delayed{n}") for n in range(NR_OBJECTS)]
        self.threads: list[Any] = []
        self.irqs = [self.kernel.lkl_get_free_irq(f"device{n}") for n in range(NR_OBJECTS)]
        request_irq(self.irqs[0], lambda irq: self.completions[0].complete(), "device0")
        request_irq(self.irqs[1], lambda irq: self.tasklet.schedule(), "device1")
        # A line of its own for what OS threads do: whoever raised it by hand would take away what is expected of them.
        self.irqs.append(self.kernel.lkl_get_free_irq("device2"))
        request_irq(self.irqs[2], lambda irq: self.give(0), "device2")
        self.kernel.register_program("/bin/nap", self.nap)
        # While an interrupt may come, a kernel in which all wait is not deadlocked. At last nothing may come any more.
        Timer(self.unplug, name="unplug").add_timer(SECOND_NS)

    def unplug(self, timer: Timer) -> None:
        for number, irq in enumerate(self.irqs):
            free_irq(irq, f"device{number}")

    def give(self, number: int) -> None:
        """Put a token down and wake who waits for it."""
        self.tokens[number] += 1
        wake_up(self.queues[number])

    def work(self, work: Work) -> None:
        usleep(2)
        self.semaphores[1].up()

    def take(self, number: int, timeout_ns: int) -> None:
        """Take a token, with patience."""
        self.queues[number].wait_event_interruptible_timeout(lambda: self.tokens[number], timeout_ns)
        self.tokens[number] = max(self.tokens[number] - 1, 0)

    @staticmethod
    def nap(sys: Any, argv: list[str], envp: dict[str, str]) -> int:
        child = sys.clone(lambda sys: sys.nanosleep(3_000))
        sys.sched_yield()
        return int(sys.wait4(child)[1])

    # -- running a script

    def play(self, script: list[Any]) -> int:
        """Thread function: a script's steps, one after another; how many there were."""
        for name, *arguments in script:
            try:
                getattr(self, f"do_{name}")(*arguments)
            except (InterruptedError, TimeoutError):
                flush_signals()
        return len(script)

    def start(self, script: list[Any], wake: bool = True) -> None:
        thread = kthread_create(self.play, script, name=f"actor/{len(self.threads)}")
        self.threads.append(thread)
        if wake:
            wake_up_process(thread)

    def do_schedule(self) -> None:
        schedule()

    def do_cond_resched(self) -> None:
        cond_resched()

    def do_sleep(self, delay_ns: int) -> None:
        usleep(delay_ns / 1000)

    def do_ndelay(self, delay_ns: int) -> None:
        ndelay(delay_ns)

    def do_locked(self, number: int, script: list[Any]) -> None:
        if self.mutexes[number].owner is not current():
            with self.mutexes[number]:
                self.play(script)

    def do_spinlocked(self, script: list[Any]) -> None:
        if self.spinlock.owner is None:
            with self.spinlock:
                self.play(script)

    def do_irqs_off(self, script: list[Any]) -> None:
        flags = local_irq_save()
        self.play(script)
        local_irq_restore(flags)

    def do_bh_off(self, script: list[Any]) -> None:
        local_bh_disable()
        self.play(script)
        local_bh_enable()

    def do_down(self, number: int) -> None:
        self.semaphores[number].down()

    def do_down_timeout(self, number: int, delay_ns: int) -> None:
        self.semaphores[number].down_timeout(delay_ns)

    def do_down_interruptible(self, number: int) -> None:
        allow_signal(10)
        self.semaphores[number].down_interruptible()

    def do_up(self, number: int) -> None:
        self.semaphores[number].up()

    def do_wait(self, number: int) -> None:
        self.completions[number].wait_for_completion()

    def do_wait_timeout(self, number: int, delay_ns: int) -> None:
        self.completions[number].wait_for_completion_timeout(delay_ns)

    def do_complete(self, number: int) -> None:
        self.completions[number].complete()

    def do_complete_all(self, number: int) -> None:
        self.completions[number].complete_all()

    def do_give(self, number: int) -> None:
        self.give(number)

    def do_take(self, number: int, delay_ns: int) -> None:
        self.take(number, delay_ns)

    def do_trigger(self, number: int) -> None:
        self.kernel.lkl_trigger_irq(self.irqs[number])

    def do_ask_os_thread(self) -> None:
        irq_expect(self.irqs[2])
        threading.Thread(target=self.kernel.lkl_trigger_irq, args=(self.irqs[2],), daemon=True).start()

    def do_timer(self, number: int, delay_ns: int) -> None:
        self.timers[number].mod_timer_in(delay_ns)

    def do_del_timer(self, number: int) -> None:
        self.timers[number].del_timer_sync()

    def do_queue_work(self, number: int) -> None:
        schedule_work(self.works[number])

    def do_flush_work(self, number: int) -> None:
        flush_work(self.works[number])

    def do_cancel_work(self, number: int) -> None:
        cancel_work_sync(self.works[number])

    def do_delay_work(self, number: int, delay_ns: int) -> None:
        schedule_delayed_work(self.delayed[number], delay_ns)

    def do_cancel_delayed(self, number: int) -> None:
        cancel_delayed_work_sync(self.delayed[number])

    def do_priority(self, policy: int, priority: int) -> None:
        sched_setscheduler(current(), policy, 0 if policy == SCHED_NORMAL else priority)

    def do_wake(self, number: int) -> None:
        if number < len(self.threads):
            wake_up_process(self.threads[number])

    def do_signal(self, number: int) -> None:
        if number < len(self.threads):
            send_sig(10, self.threads[number])

    def do_stop(self, number: int) -> None:
        if number < len(self.threads):
            kthread_stop(self.threads[number])

    def do_park(self, number: int) -> None:
        if number < len(self.threads):
            kthread_park(self.threads[number])

    def do_unpark(self, number: int) -> None:
        if number < len(self.threads):
            kthread_unpark(self.threads[number])

    def do_service(self) -> None:
        """What a well-behaved kthread does in its loop."""
        if current().kthread is not None:
            if kthread_should_park():
                kthread_parkme()
            if kthread_should_stop():
                do_exit(7)

    def do_start(self, script: list[Any], wake: bool) -> None:
        if len(self.threads) < NR_THREADS:
            self.start(script, wake)

    def do_exec(self) -> None:
        call_usermodehelper("/bin/nap", wait=UMH_WAIT_PROC)

    def do_exit(self) -> None:
        do_exit(3)

    def do_oops(self) -> None:
        raise ValueError("on purpose")


def play_all(scripts: list[Any], main: list[Any], joins: bool) -> int:
    """Init of a random program: start the actors, act, and wait for the actors or leave them alone."""
    stage = Stage()
    for script in scripts:
        stage.start(script)
    stage.play(main)
    for thread in stage.threads if joins else []:
        kthread_stop(thread)
    return len(stage.threads)


numbers = st.integers(0, NR_OBJECTS - 1)
actors = st.integers(0, NR_THREADS - 1)
delays = st.sampled_from(DELAYS_NS)

# What may be done where sleeping is forbidden, too.
atomic_steps = st.one_of(
    st.tuples(st.sampled_from(["up", "complete", "complete_all", "give", "trigger"]), numbers),
    st.tuples(st.sampled_from(["del_timer", "queue_work"]), numbers),
    st.tuples(st.sampled_from(["wake", "signal", "unpark"]), actors),
    st.tuples(st.sampled_from(["timer", "delay_work"]), numbers, delays),
    st.tuples(st.just("priority"), st.sampled_from([SCHED_NORMAL, SCHED_FIFO, SCHED_RR]), st.integers(1, 3)),
    st.tuples(st.just("ndelay"), delays),
    st.tuples(st.just("cond_resched")),
)
atomic_scripts = st.lists(atomic_steps, max_size=3)

plain_steps = st.one_of(
    atomic_steps,
    st.tuples(st.sampled_from(["schedule", "schedule", "service", "exec", "ask_os_thread"])),
    st.tuples(st.just("sleep"), delays),
    st.tuples(st.sampled_from(["down_timeout", "wait_timeout", "take"]), numbers, delays),
    st.tuples(st.sampled_from(["flush_work", "cancel_work", "cancel_delayed"]), numbers),
    st.tuples(st.sampled_from(["irqs_off", "bh_off", "spinlocked"]), atomic_scripts),
)
# What often ends a program, or a thread, for good.
grave_steps = st.one_of(
    st.tuples(st.sampled_from(["down", "down_interruptible", "wait"]), numbers),
    st.tuples(st.sampled_from(["stop", "park"]), actors),
    st.tuples(st.just("exit")),
    st.tuples(st.just("oops")),
)


def scripts_of(steps: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(steps, max_size=7)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.tuples(st.just("locked"), numbers, scripts_of(inner)),
        st.tuples(st.just("start"), scripts_of(inner), st.booleans()),
    )


all_steps = st.recursive(plain_steps | plain_steps | grave_steps, nested, max_leaves=10)

ENDINGS = ("power-off", "Deadlock", "KernelPanic from ValueError")

EXAMPLES_WANTED = int(os.environ.get("LKL_GREEN_EXAMPLES", "0"))
thoroughly = settings(
    max_examples=EXAMPLES_WANTED or 200,
    derandomize=not EXAMPLES_WANTED,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@thoroughly
@given(
    scripts=st.lists(scripts_of(all_steps), min_size=1, max_size=3),
    main=scripts_of(all_steps),
    joins=st.booleans(),
    on_oops=st.sampled_from(["kill", "panic"]),
)
def test_random_programs_are_equal(scripts: list[Any], main: list[Any], joins: bool, on_oops: str) -> None:
    outcome = parity(play_all, scripts, main, joins, configurations=TWICE, on_oops=on_oops, watchdog_s=30, **QUIET)
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
