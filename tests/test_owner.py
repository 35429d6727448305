"""A kernel without the OS thread that runs it: the thread has ended, or os.fork() did not take it along."""

from __future__ import annotations

import errno
import os
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green import Kernel, KernelHalted, RunReason, lkl_start_kernel
from lkl_green.errors import OwnerGone
from lkl_green.host.ops import LiveObjects
from lkl_green.kernel.unistd import NR_getpid, NR_nanosleep
from lkl_green.linux import Completion, Mutex, kthread_run, msleep

if TYPE_CHECKING:
    from collections.abc import Callable

FOR_EVER_NS = 10**15


def on_os_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, name="somebody")
    thread.start()
    return thread


def start_and_leave(
    configuration: dict[str, Any], init: Any = None, until: Callable[[Kernel], object] = bool
) -> Kernel:
    """Start a kernel and run it on an OS thread that ends without halting it, once `until(kernel)` has returned."""
    kernels: list[Kernel] = []

    def owner() -> None:
        kernel = lkl_start_kernel(init, **{"loglevel": 0, "clock": "virtual", **configuration})
        kernel.lkl_run()
        kernels.append(kernel)
        until(kernel)

    thread = threading.Thread(target=owner, name="the owner")
    thread.start()
    thread.join()
    return kernels[0]


# -- the thread has ended


def test_each_call_says_that_the_owner_has_ended_until_somebody_has_halted_the_kernel(configuration):
    kernel = start_and_leave(configuration)
    for _ in range(2):
        with pytest.raises(OwnerGone, match=r"run by OS thread 'the owner', which has ended without lkl_sys_halt\(\)"):
            kernel.lkl_syscall(NR_getpid)
    assert kernel.lkl_trigger_irq(2) == -errno.ESHUTDOWN
    assert kernel.lkl_run().reason is RunReason.HALTED
    with pytest.raises(OwnerGone, match="has ended without"):
        kernel.lkl_sys_halt()
    assert kernel.halted
    assert kernel.lkl_sys_halt() == 0
    assert kernel.lkl_syscall(NR_getpid) == -errno.ESHUTDOWN


def test_on_os_threads_the_tasks_are_unwound_all_the_same(configuration, log):
    def sleeper():
        try:
            Completion(name="never").wait_for_completion()
        finally:
            log.append("unwound")

    def init():
        kthread_run(sleeper)
        Completion(name="never").wait_for_completion()

    kernel = start_and_leave(configuration, init)
    with pytest.raises(OwnerGone):
        kernel.lkl_sys_halt()
    if configuration["host"] == "thread":
        assert log == ["unwound"]
        assert kernel.host.live() == LiveObjects()
    else:
        assert log == []


def test_a_kernel_that_its_owner_has_halted_says_nothing_of_the_owners_end(configuration):
    kernel = start_and_leave(configuration, until=Kernel.lkl_sys_halt)
    assert kernel.lkl_sys_halt() == 0
    assert kernel.lkl_syscall(NR_getpid) == -errno.ESHUTDOWN


def test_a_lock_made_at_module_level_is_usable_in_the_next_kernel_unless_a_task_still_holds_it(configuration, log):
    free, held = Mutex(name="free"), Mutex(name="held")

    def init():
        with free:
            held.lock()
        Completion(name="never").wait_for_completion()

    with pytest.raises(OwnerGone):
        start_and_leave(configuration, init).lkl_sys_halt()

    def next_init():
        with free:
            log.append("free")
        try:
            held.lock()
            held.unlock()
        except KernelHalted:
            log.append("left behind")

    lkl_start_kernel(next_init, loglevel=0, **configuration).run()
    assert log == (["free"] if configuration["host"] == "thread" else ["free", "left behind"])


@pytest.mark.parametrize("taken_in", [False, True], ids=["waits for lkl_run()", "sleeps in the call"])
def test_whoever_waits_for_a_system_call_is_answered_when_the_owner_ends(configuration, log, eventually, taken_in):
    callers: list[threading.Thread] = []

    def until(kernel):
        callers.append(on_os_thread(lambda: log.append(kernel.lkl_syscall(NR_nanosleep, FOR_EVER_NS))))
        assert eventually(lambda: bool(kernel.host_tasks.posts))
        if taken_in:
            while len(kernel.timers) == 0:
                kernel.lkl_run()
                time.sleep(0.001)

    start_and_leave({**configuration, "clock": "monotonic"}, until=until)
    callers[0].join(5)
    assert log == [-errno.ESHUTDOWN]


def test_whoever_waits_for_the_halt_hears_that_the_owner_has_ended(configuration, log, eventually):
    halters: list[threading.Thread] = []

    def halt(kernel):
        try:
            kernel.lkl_sys_halt(5)
        except OwnerGone as error:
            log.append(str(error))

    def until(kernel):
        halters.append(on_os_thread(lambda: halt(kernel)))
        assert eventually(lambda: kernel.stopping)

    kernel = start_and_leave(configuration, until=until)
    halters[0].join(5)
    assert kernel.halted
    assert len(log) == 1
    assert "'the owner', which has ended" in log[0]


# -- the process has forked


def in_child(function: Callable[[], object]) -> str:
    """What a function returns, or raises, in the child of a fork."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: a fork in a process with several threads
        pid = os.fork()
    if not pid:
        try:
            try:
                result = repr(function())
            except Exception as error:
                result = f"{type(error).__name__}: {error}"
            os.write(write, result.encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    return text


def three_sleeps():
    for _ in range(3):
        msleep(1)
    return "done"


def halt_and_say(kernel: Kernel) -> tuple[int, bool, bool]:
    return kernel.lkl_sys_halt(), kernel.halted, kernel.loop.running


def test_a_kernel_on_os_threads_says_in_the_child_of_a_fork_that_it_is_not_there(boot, configuration):
    kernel = boot(three_sleeps)
    kernel.lkl_run(max_switches=3)
    on_threads = configuration["host"] == "thread"
    for call in (kernel.run, kernel.lkl_run, lambda: kernel.lkl_syscall(NR_getpid)):
        said = in_child(call)
        assert ("KernelHalted" in said and "made by os.fork()" in said) is on_threads, said
    assert in_child(lambda: halt_and_say(kernel)) == "(0, True, False)"
    assert kernel.run() == "done"


def test_a_kernel_of_another_thread_says_in_the_child_of_a_fork_that_nobody_runs_it(boot, log):
    kernel = boot()
    kernel.lkl_run()

    def somebody() -> None:
        log.append(in_child(lambda: kernel.lkl_syscall(NR_getpid)))
        log.append(in_child(lambda: halt_and_say(kernel)))

    on_os_thread(somebody).join()
    assert log[0].startswith(
        f"{KernelHalted.__name__}: lkl_syscall(): kernel lkl0 was started in process {os.getpid()}"
    )
    assert log[1] == "(0, True, False)"
    assert kernel.lkl_syscall(NR_getpid) == 1
