"""Asynchronous exceptions: one at each line of scheduler, loop, architecture and host that a story reaches.

Afterwards the kernel works or has panicked, `current` is swapper, no lock is held, and a halt halts.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from typing import Any

import pytest
from raising import Lines, RaiseAt

from lkl_green import Kernel, RunUntil, lkl_start_kernel
from lkl_green.errors import Deadlock, HaltTimeout, KernelPanic
from lkl_green.host.greenlets import GreenletHost
from lkl_green.host.threads import ThreadHost
from lkl_green.kernel.current import running_here
from lkl_green.kernel.task import TASK_RUNNING
from lkl_green.kernel.unistd import NR_getpid, NR_gettid, NR_nanosleep
from lkl_green.linux import (
    SCHED_FIFO,
    Completion,
    Semaphore,
    WaitQueueHead,
    cond_resched,
    current_kernel,
    kthread_create,
    kthread_run,
    msleep,
    preempt_disable,
    preempt_enable,
    request_irq,
    sched_setscheduler,
    schedule,
    usleep,
    wake_up_process,
)

ERRORS = [KeyboardInterrupt, RecursionError, MemoryError]
PARTS = {"kernel": ("kernel/sched.py", "kernel/loop.py"), "arch": ("arch/",), "host": ("host/",)}
EVERYTHING = bool(os.environ.get("LKL_GREEN_ASYNC_EXCEPTIONS"))
PATIENCE_S = 5
BUDGET_NS = 5_000_000


class Story:
    """Kernel threads of all kinds, and an application that runs them in all ways; `init` and `tell` are its halves."""

    def __init__(self) -> None:
        self.irq = 0
        self.irqs: list[int] = []
        self.is_over = False
        self.failed: list[BaseException] = []
        self.foreign: threading.Thread | None = None

    # -- in the kernel

    def init(self) -> None:
        there, back = Semaphore(0), Semaphore(0)

        def echo() -> None:
            for _ in range(2):
                there.down()
                back.up()

        def forever() -> None:
            try:
                Completion(name="never").wait_for_completion()
            finally:
                usleep(1)

        kthread_run(echo)
        urgent = kthread_create(lambda: usleep(3), name="urgent")
        sched_setscheduler(urgent, SCHED_FIFO, 5)
        wake_up_process(urgent)
        kthread_run(lambda: None)
        for _ in range(2):
            there.up()
            back.down()
            cond_resched()
            schedule()
        preempt_disable()
        preempt_enable()
        usleep(20)
        kthread_run(forever)
        kthread_create(forever, name="never run")
        self.interrupts()
        self.is_over = True
        while True:
            msleep(10**6)

    def interrupts(self) -> None:
        queue = WaitQueueHead(name="interrupts")
        irq = current_kernel().lkl_get_free_irq("story")
        request_irq(irq, lambda irq: (self.irqs.append(irq), queue.wake_up()), "story")
        self.irq = irq
        while len(self.irqs) < 2:
            queue.wait_event_timeout(lambda: len(self.irqs) >= 2, 500_000)

    # -- outside

    def tell(self, kernel: Kernel) -> None:
        for _ in range(6):
            kernel.pause(kernel.lkl_run(RunUntil.SWITCH))
        kernel.pause(kernel.lkl_run(max_switches=3))
        kernel.pause(kernel.lkl_run(budget_ns=1))
        kernel.lkl_syscall(NR_getpid)
        foreign = threading.Thread(target=self.call_from_outside, args=(kernel,), daemon=True)
        end_s = time.monotonic() + PATIENCE_S
        while not (self.is_over or self.failed) and time.monotonic() < end_s:
            # With a budget: where tracing takes longer than the shortest time-out, the kernel is never idle.
            kernel.pause(kernel.lkl_run(budget_ns=BUDGET_NS))
            if self.irq and foreign.ident is None:
                kernel.lkl_trigger_irq(self.irq)
                foreign.start()
                self.foreign = foreign
                while foreign.is_alive() and time.monotonic() < end_s:
                    kernel.lkl_run(budget_ns=BUDGET_NS)
                    time.sleep(0)
        if self.failed:
            raise self.failed[0]
        assert self.is_over, "the kernel stands still"

    def call_from_outside(self, kernel: Kernel) -> None:
        try:
            kernel.lkl_syscall(NR_nanosleep, 1000)
            kernel.lkl_syscall(NR_gettid)
            kernel.lkl_trigger_irq(self.irq)
            kernel.host.idle_wake()
        except BaseException as error:
            self.failed.append(error)


def boot(configuration: dict[str, Any], story: Story) -> Kernel:
    console: list[str] = []
    host = {"greenlet": GreenletHost, "thread": ThreadHost}[configuration["host"]](console=console.append)
    options = {**configuration, "host": host, "clock": "monotonic", "loglevel": 0, "on_oops": "kill"}
    return lkl_start_kernel(story.init, **options)


def problems_after(configuration: dict[str, Any], injection: RaiseAt) -> list[str]:
    """Run the story with an exception in it; returns what is wrong afterwards."""
    story = Story()
    kernel = boot(configuration, story)
    wrong = []
    with injection:
        try:
            story.tell(kernel)
            if kernel.lkl_sys_halt() or not kernel.halted:
                wrong.append("the halt came back before the kernel had halted")
        except BaseException as error:
            if not is_expected(error, injection):
                wrong.append("".join(traceback.format_exception(error)))
    wrong += state_outside(kernel)
    if kernel.lkl_is_running():
        wrong += works_on(kernel, injection)
    wrong += halts(kernel)
    if story.foreign is not None:
        story.foreign.join(PATIENCE_S)
        if story.foreign.is_alive():
            wrong.append("the foreign thread still waits for its call")
    return wrong


def is_expected(error: BaseException, injection: RaiseAt) -> bool:
    """Whether it is the exception itself, a panic that names it, or the end of a story that lost one of its threads."""
    raised = injection.raised
    if raised is None:
        return False
    died = isinstance(raised, Exception) and isinstance(error, Deadlock)
    names = type(raised).__name__, "[Errno 12]"  # what an allocation makes of a MemoryError
    panicked = isinstance(error, KernelPanic) and any(name in str(error) for name in names)
    return error is raised or died or panicked


def state_outside(kernel: Kernel) -> list[str]:
    """What must not be so while no kernel code runs."""
    wrong = []
    if kernel.sched.current is not kernel.sched.swapper:
        wrong.append(f"current is {kernel.sched.current!r}")
    if kernel.loop.running or running_here.kernel is not None:
        wrong.append("the kernel is said to run")
    timers = kernel.host._timers._changed.lock
    locks = {"the host's": kernel.host._lock}
    if timers._is_owned():  # their thread may have it, but not this one
        wrong.append("the timers' lock is held")
    cpu = getattr(kernel.arch, "cpu", None)
    if cpu is not None:
        locks["the gate's"] = cpu._gate_lock
        if cpu.lock is not None and (cpu.lock.holder is not None or cpu.lock.depth):
            wrong.append(f"the lock of the LKL CPU is held: {cpu.lock!r}")
        if cpu.owner or cpu.count or cpu.shutdown_gate not in (0, 1_000_000):
            wrong.append(f"the LKL CPU is not free: {cpu!r}, gate {cpu.shutdown_gate}")
    wrong += [f"{name} lock is held" for name, lock in locks.items() if is_taken(lock)]
    return wrong


def is_taken(lock: Any) -> bool:
    if lock.acquire(blocking=False):
        lock.release()
        return False
    return True


def works_on(kernel: Kernel, injection: RaiseAt) -> list[str]:
    """A kernel that has not panicked runs what is runnable, and its timers, and answers system calls."""
    try:
        for _ in range(3):
            kernel.lkl_run(max_switches=1000)
        lost = [task for task in kernel.pids if task.state == TASK_RUNNING]
        if lost and kernel.lkl_is_running() and len(lost) != kernel.sched.policy.nr_running:
            return [f"{lost} are runnable, and not all of them are queued"]
        result = kernel.lkl_syscall(NR_nanosleep, 1000)
    except BaseException as error:
        expected = kernel.panicked is not None or error is injection.raised
        return [] if expected else ["".join(traceback.format_exception(error))]
    wrong = state_outside(kernel)
    return wrong if not result or kernel.halted else [*wrong, f"nanosleep() gave {result}"]


def halts(kernel: Kernel) -> list[str]:
    start_s = time.monotonic()
    try:
        if kernel.lkl_sys_halt(1) or not kernel.halted:
            return ["the halt came back before the kernel had halted"]
    except HaltTimeout as error:
        return [str(error)]
    except BaseException as error:
        return ["".join(traceback.format_exception(error))]
    if time.monotonic() - start_s > PATIENCE_S:
        return ["the halt took longer than its timeout"]
    return state_outside(kernel)


@pytest.fixture
def default_sigint():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.usefixtures("default_sigint")
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("error", ERRORS)
def test_an_exception_at_any_line_leaves_a_kernel_that_works_or_has_panicked(configuration, part, error):
    """Each error at a third of the lines, so that each line has one; in `make soak` each error at each line."""
    story = Story()
    kernel = boot(configuration, story)
    with Lines(*PARTS[part]) as lines:
        story.tell(kernel)
        kernel.lkl_sys_halt()
    third = ERRORS.index(error)
    chosen = [line for line in lines if EVERYTHING or line.number % len(ERRORS) == third]
    tried = reached = 0
    wrong: list[str] = []
    for line in chosen:
        for nth in {1, lines.times(line)} if EVERYTHING else {1}:
            injection = RaiseAt(line, error, nth)
            wrong += [f"{line}: {problem}" for problem in problems_after(configuration, injection)]
            tried += 1
            reached += injection.raised is not None
    print(f"{reached} times {error.__name__} at {len(chosen)} of {len(list(lines))} lines of {', '.join(PARTS[part])}")
    assert not wrong, "\n".join(wrong)
    assert reached > tried / 2
