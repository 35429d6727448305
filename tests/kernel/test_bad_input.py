"""What cannot be right is refused where it is given to the kernel: by a named error, and before anything changes.

Each test goes on to use what the mistake could have broken.
"""

from __future__ import annotations

import functools

import pytest

from lkl_green import KernelPanic, lkl_start_kernel
from lkl_green.kernel.callback import not_plain
from lkl_green.linux import (
    SIGTERM,
    TASK_RUNNING,
    UMH_WAIT_PROC,
    Completion,
    DelayedWork,
    KthreadDelayedWork,
    KthreadWork,
    Semaphore,
    Tasklet,
    Timer,
    WaitQueueHead,
    Work,
    alloc_workqueue,
    call_usermodehelper,
    current,
    current_kernel,
    kernel_thread,
    kthread_create,
    kthread_create_worker,
    kthread_destroy_worker,
    kthread_mod_delayed_work,
    kthread_queue_delayed_work,
    kthread_run,
    ktime_get,
    mod_delayed_work,
    mod_timer,
    msleep,
    msleep_interruptible,
    ndelay,
    queue_delayed_work,
    request_irq,
    schedule_timeout,
    schedule_timeout_interruptible,
    ssleep,
    usleep,
)

# -- functions that would not run when they are called


async def coroutine_function(*_):
    raise AssertionError("nobody awaits this")


def generator_function(*_):
    raise AssertionError("nobody iterates over this")
    yield


async def asynchronous_generator_function(*_):
    raise AssertionError("nobody iterates over this")
    yield


class Device:
    async def method(self, *_):
        raise AssertionError("nobody awaits this")

    async def __call__(self, *_):
        raise AssertionError("nobody awaits this")


UNRUN = {
    "coroutine function": coroutine_function,
    "generator function": generator_function,
    "asynchronous generator function": asynchronous_generator_function,
    "bound method": Device().method,
    "object": Device(),
    "partial": functools.partial(coroutine_function, 1),
    "partial of an object": functools.partial(functools.partial(Device(), 1), 2),
    "partial of a method": functools.partial(Device().method, 1),
    "lambda": lambda *_: (yield),
}

GIVEN_TO = {
    "kthread_create": kthread_create,
    "kthread_run": kthread_run,
    "kernel_thread": kernel_thread,
    "Timer": Timer,
    "Work": Work,
    "DelayedWork": DelayedWork,
    "KthreadWork": KthreadWork,
    "KthreadDelayedWork": KthreadDelayedWork,
    "Tasklet": lambda fn: Tasklet(current_kernel().tasklets, fn),
    "softirq": lambda fn: current_kernel().softirq.open_softirq(3, fn),
    "request_irq": lambda fn: request_irq(9, fn, "device"),
    "register_program": lambda fn: current_kernel().register_program("/bin/async", fn),
}


def leftovers(kernel):
    """What a refused call must not have left."""
    return [task.comm for task in kernel.pids], len(kernel.irq.lines), len(kernel.timers), kernel.exec.nr_programs


@pytest.mark.parametrize("call", GIVEN_TO.values(), ids=GIVEN_TO)
def test_a_function_of_which_a_call_would_run_nothing_is_a_type_error_at_once(run, call):
    def init():
        kernel = current_kernel()
        before = leftovers(kernel)
        for name, function in UNRUN.items():
            with pytest.raises(TypeError, match=r"would run nothing of it\. Use a plain function"):
                call(function)
            assert leftovers(kernel) == before, name
        return "alive"

    assert run(init) == "alive"


@pytest.mark.parametrize("call", GIVEN_TO.values(), ids=GIVEN_TO)
def test_what_cannot_be_called_is_a_type_error_at_once(run, call):
    def init():
        kernel = current_kernel()
        before = leftovers(kernel)
        for thing in (None, 5, "function"):
            with pytest.raises(TypeError, match=f"must be a function, not {thing!r}"):
                call(thing)
        return leftovers(kernel) == before

    assert run(init) is True


@pytest.mark.parametrize("function", UNRUN.values(), ids=UNRUN)
def test_an_init_of_which_a_call_would_run_nothing_starts_no_kernel(configuration, function):
    with pytest.raises(TypeError, match="as a function for init would run nothing of it"):
        lkl_start_kernel(function, **configuration)


@pytest.mark.parametrize("start", ["clone", "vfork", "clone_thread"])
def test_a_program_that_starts_a_coroutine_function_sees_the_error_and_has_no_child(run, log, start):
    def main(sys, argv, envp):
        with pytest.raises(TypeError, match="as a program would run nothing of it"):
            getattr(sys, start)(coroutine_function)
        with pytest.raises(ChildProcessError):
            sys.wait4()
        log.append("no child")

    def init():
        current_kernel().register_program("/bin/main", main)
        return call_usermodehelper("/bin/main", wait=UMH_WAIT_PROC)

    assert run(init) == 0
    assert log == ["no child"]


def test_a_signal_handler_that_is_a_coroutine_function_is_efault(run):
    def main(sys, argv, envp):
        with pytest.raises(OSError, match="Bad address"):
            sys.sigaction(SIGTERM, coroutine_function)
        return 3

    def init():
        current_kernel().register_program("/bin/main", main)
        return call_usermodehelper("/bin/main", wait=UMH_WAIT_PROC)

    assert run(init) == 3


@pytest.mark.parametrize(
    "function",
    [print, [].append, int, functools.partial(print, 1), Device().__init__],
    ids=["builtin", "method of a builtin", "class", "partial", "slot wrapper"],
)
def test_what_runs_when_it_is_called_is_plain(function):
    assert not_plain(function) is None


def test_a_thread_that_returns_a_coroutine_is_an_oops_because_its_work_was_not_done(boot):
    def init():
        kthread_run(lambda: coroutine_function("work"), name="lazy")
        msleep(1)

    with pytest.raises(KernelPanic, match=r"lazy.*returned a coroutine, coroutine_function\(\)") as caught:
        boot(init).run()
    assert isinstance(caught.value.__cause__, TypeError)


def test_an_init_that_returns_a_coroutine_is_an_oops(boot):
    with pytest.raises(KernelPanic, match="of which nothing has run"):
        boot(lambda: coroutine_function("work")).run()


# -- times

NOT_INTEGERS = [None, float("nan"), 2.5, "5", True]

TIMES = {
    "mod_timer": lambda time: mod_timer(Timer(print), time),
    "add_timer": lambda time: Timer(print).add_timer(time),
    "mod_timer_in": lambda time: Timer(print).mod_timer_in(time),
    "schedule_timeout": schedule_timeout,
    "schedule_timeout_interruptible": schedule_timeout_interruptible,
    "ndelay": ndelay,
    "queue_delayed_work": lambda time: queue_delayed_work(alloc_workqueue("wq"), DelayedWork(print), time),
    "mod_delayed_work": lambda time: mod_delayed_work(alloc_workqueue("wq"), DelayedWork(print), time),
}
TIMEOUTS = {
    "wait_for_completion_timeout": lambda time: Completion().wait_for_completion_timeout(time),
    "down_timeout": lambda time: Semaphore(0).down_timeout(time),
    "wait_event_timeout": lambda time: WaitQueueHead().wait_event_timeout(lambda: False, time),
}


@pytest.mark.parametrize("call", [*TIMES.values(), *TIMEOUTS.values()], ids=[*TIMES, *TIMEOUTS])
def test_a_time_that_is_not_an_integer_is_a_type_error_and_every_timer_still_works(run, log, call):
    def init():
        Timer(lambda timer: log.append("the timer of another task")).mod_timer_in(5_000)
        for time in NOT_INTEGERS:
            if time is None and call in TIMEOUTS.values():
                continue  # these wait without a limit, as is usual in Python
            with pytest.raises(TypeError, match=r"must be an integer"):
                call(time)
            assert current().state == TASK_RUNNING
            assert current().waiting_for is None
        usleep(10)
        return len(current_kernel().timers)

    assert run(init) == 0
    assert log == ["the timer of another task"]


@pytest.mark.parametrize("queue", [kthread_queue_delayed_work, kthread_mod_delayed_work])
def test_a_bad_delay_leaves_the_work_of_a_kthread_worker_idle(run, log, queue):
    def init():
        worker = kthread_create_worker("worker")
        work = KthreadDelayedWork(lambda work: log.append("ran"))
        for time in NOT_INTEGERS:
            with pytest.raises(TypeError, match=r"delay_ns=.* must be an integer"):
                queue(worker, work, time)
        log.append(work.pending)
        queue(worker, work, 1_000)
        usleep(10)
        kthread_destroy_worker(worker)

    run(init)
    assert log == [False, "ran"]


def test_a_pending_timer_keeps_its_time_when_it_cannot_be_moved(run, log):
    def init():
        timer = Timer(lambda timer: log.append(ktime_get()))
        mod_timer(timer, 5_000_000)
        with pytest.raises(TypeError):
            mod_timer(timer, None)
        msleep(10)

    run(init)
    assert log == [5_000_000]


@pytest.mark.parametrize("sleep", [usleep, msleep, ssleep, msleep_interruptible])
def test_a_duration_that_is_not_a_number_is_refused_and_no_time_passes(run, sleep):
    def init():
        before = current_kernel().clock.peek_ns()
        for duration in ("5", b"5", None, [5], True):
            with pytest.raises(TypeError, match="must be a number"):
                sleep(duration)
        for duration in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match="must be a finite number"):
                sleep(duration)
        return current_kernel().clock.peek_ns() - before

    assert run(init) == 0


def test_fractions_of_a_millisecond_are_durations(run):
    def init():
        start = ktime_get()
        msleep(1.5)
        return ktime_get() - start

    assert run(init) in range(1_500_000, 1_510_000)
