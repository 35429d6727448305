"""Every host operation fails once at every call: nothing leaks, the errno is right, and the kernel still halts.

Each story first runs on a host on which nothing fails, which counts the calls; then once for each operation and each
call of it. So a new call of the host in boot or fork is covered the day it is written.
"""

from __future__ import annotations

import errno
import gc
import threading

import pytest
from arch.foreign import ForeignThread

from lkl_green import FaultyHost, GreenletHost, ThreadHost, lkl_start_kernel
from lkl_green.host.faulty import CAN_FAIL
from lkl_green.host.ops import LiveObjects
from lkl_green.kernel.unistd import NR_gettid
from lkl_green.linux import do_exit, kernel_thread, kthread_run, kthread_stop, msleep

BOOT = {"clock": "virtual", "loglevel": 0, "watchdog_s": 60.0}


@pytest.fixture
def make_host(configuration, eventually):
    """make_host(fails={}): a host of the configuration whose n-th call of an operation fails."""
    hosts = []

    def make_host(fails=None):
        inner = GreenletHost() if configuration["host"] == "greenlet" else ThreadHost()
        hosts.append(FaultyHost(inner, fails or {}))
        return hosts[-1]

    os_threads = threading.active_count()
    yield make_host
    for host in hosts:
        assert host.live() == LiveObjects()
    assert eventually(lambda: threading.active_count() <= os_threads)


@pytest.fixture
def switch(configuration):
    return configuration["switch"]


def every_failure(calls_before, calls_after):
    """(operation, n) for each call between two countings."""
    for operation in CAN_FAIL:
        for n in range(calls_before[operation] + 1, calls_after[operation] + 1):
            yield operation, n


def boot_counts(make_host, switch, fails=None):
    host = make_host(fails)
    kernel = lkl_start_kernel(None, host=host, switch=switch, **BOOT)
    return kernel, host


def test_boot_with_any_one_failure_is_enomem_and_leaves_nothing(make_host, switch):
    kernel, host = boot_counts(make_host, switch)
    counted = host.calls.copy()
    kernel.lkl_sys_halt()
    failures = list(every_failure(dict.fromkeys(CAN_FAIL, 0), counted))
    assert ("tls_alloc", 1) in failures
    if switch == "semaphore":
        assert sum(operation == "thread_create" for operation, _ in failures) == 3  # init, kthreadd, ksoftirqd
        assert sum(operation == "sem_alloc" for operation, _ in failures) == 6  # the LKL CPU's, and one for each task
    for operation, n in failures:
        host = make_host({operation: n})
        with pytest.raises(OSError) as caught:
            lkl_start_kernel(None, host=host, switch=switch, **BOOT)
        assert caught.value.errno == errno.ENOMEM, (operation, n)
        assert host.live() == LiveObjects(), (operation, n)


def test_a_host_on_which_boot_failed_boots_the_next_time(make_host, switch):
    kernel, host = boot_counts(make_host, switch)
    counted = host.calls.copy()
    kernel.lkl_sys_halt()
    for operation, n in every_failure(dict.fromkeys(CAN_FAIL, 0), counted):
        host = make_host({operation: n})
        with pytest.raises(OSError):
            lkl_start_kernel(None, host=host, switch=switch, **BOOT)
        kernel = lkl_start_kernel(lambda: "up", host=host, switch=switch, **BOOT)
        assert kernel.run() == "up", (operation, n)


# -- failures in a running kernel


def low_level(log):
    """fork by kernel_thread()."""

    def child(arg):
        log.append("child")
        do_exit(0)

    pid = kernel_thread(child)
    msleep(1)
    return pid


def through_kthreadd(log):
    """fork by kthread_run()."""
    task = kthread_run(lambda: log.append("child"), name="child")
    msleep(1)
    return task.pid


def stopped_before_it_ran(log):
    from lkl_green.linux import kthread_create

    task = kthread_create(lambda: log.append("child"), name="child")
    log.append("child")
    return kthread_stop(task)


def several(log):
    """More than one, so that a failure in the middle leaves the others alone."""
    tasks = [kthread_run(msleep, 5, name=f"sleeper/{number}") for number in range(3)]
    log.append("child")
    msleep(10)
    return len(tasks)


@pytest.mark.parametrize("story", [low_level, through_kthreadd, stopped_before_it_ran, several])
def test_fork_with_any_one_failure_is_enomem_and_leaves_nothing(make_host, switch, story):
    def run(fails_at):
        """Boot without failure, arm one for what follows, and tell the story."""
        log = []

        def init():
            before = host.live()
            pids = len(kernel.pids)
            counted.update({operation: host.calls[operation] for operation in CAN_FAIL})
            if fails_at is not None:
                host._fails_at[fails_at[0]] = fails_at[1]
            try:
                story(log)
            except OSError as error:
                log.append(error.errno)
                msleep(50)
            gc.collect()
            return host.live() == before, len(kernel.pids) == pids

        counted = {}
        host = make_host()
        kernel = lkl_start_kernel(init, host=host, switch=switch, **BOOT)
        result = kernel.run()
        return log, result, counted, host

    log, clean, before, host = run(None)
    assert (log, clean) == (["child"], (True, True))
    failures = list(every_failure(before, host.calls))
    if switch == "semaphore":
        assert {operation for operation, _ in failures} == {"sem_alloc", "thread_create"}
    else:
        assert failures == [], "this model asks the host for nothing"
    for failure in failures:
        log, clean, _, _ = run(failure)
        assert (log, clean) == ([errno.ENOMEM], (True, True)), failure


@pytest.mark.parametrize("who", ["owner", "foreign"])
def test_a_system_call_with_any_one_failure_is_enomem_and_leaves_nothing(make_host, switch, who):
    def run(fails_at):
        host = make_host()
        kernel = lkl_start_kernel(None, host=host, switch=switch, **BOOT)
        kernel.lkl_run()
        counted = host.calls.copy()
        before = host.live()
        if fails_at is not None:
            host._fails_at[fails_at[0]] = fails_at[1]
        thread = ForeignThread(kernel) if who == "foreign" else None
        call = kernel.lkl_syscall if thread is None else thread.syscall
        results = [call(NR_gettid)]
        after_failure = host.live() == before
        results.append(call(NR_gettid))
        if thread is not None:
            thread.end()
            kernel.lkl_run()
        kernel.lkl_sys_halt()
        return results, after_failure, counted, host

    results, _, before, host = run(None)
    assert results == [4, 4]
    failures = list(every_failure(before, host.calls))
    assert "tls_set" in {operation for operation, _ in failures}
    for failure in failures:
        results, clean, _, _ = run(failure)
        if failure[0] == "thread_create" and who == "foreign" and switch == "semaphore" and results == [4, 4]:
            continue  # the thread on which the task of an ended OS thread exits: it stays until the halt
        assert results[0] == -errno.ENOMEM, failure
        assert results[1] > 3, failure
        assert clean, failure


@pytest.mark.parametrize("moment", ["the thread ends", "the kernel halts"])
def test_a_host_task_that_gets_no_thread_to_exit_on_stays_until_the_halt(make_host, moment):
    """Its OS thread is gone, and so is the stack it ran on; only a new host thread could let it exit."""
    host = FaultyHost(ThreadHost(), {})
    kernel = lkl_start_kernel(None, host=host, switch="semaphore", **BOOT)
    thread = ForeignThread(kernel)
    assert thread.syscall(NR_gettid) == 4
    host._fails_at["thread_create"] = host.calls["thread_create"] + 1
    if moment == "the thread ends":
        thread.end()
        kernel.lkl_run()
        assert [task.comm for task in kernel.pids][3:] == ["host0"]
        assert "no host thread for it to exit on" in kernel.printk.text()
    assert kernel.lkl_sys_halt() == 0
    assert host.live() == LiveObjects()
    thread.end()


def test_a_halt_needs_nothing_that_can_fail(make_host, switch):
    def init():
        for number in range(3):
            kthread_run(msleep, 1000, name=f"sleeper/{number}")
        msleep(1)
        kernel.power_off()
        msleep(1000)

    host = make_host()
    kernel = lkl_start_kernel(init, host=host, switch=switch, **BOOT)
    while not kernel.stopping:
        kernel.pause(kernel.lkl_run(max_switches=1))
    before = host.calls.copy()
    kernel.lkl_sys_halt()
    assert host.calls - before == {}
