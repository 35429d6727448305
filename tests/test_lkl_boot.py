"""LKL's own tests as far as they concern threads: tools/lkl/tests/boot.c, and arch/lkl/kernel/irq_test.c.

Each is called after LKL's test and asserts what LKL's asserts. Real time and real OS threads, as there; the order of
the suite does not matter here, because each test boots its own kernel.
"""

from __future__ import annotations

import threading
import time

import pytest
from arch.foreign import PATIENCE_S, ForeignThread, run_until

from lkl_green import Kernel, RunReason, lkl_start_kernel
from lkl_green.host.greenlets import GreenletHost
from lkl_green.host.ops import LiveObjects
from lkl_green.host.threads import ThreadHost
from lkl_green.kernel.unistd import NR_getpid, NR_getppid, NR_gettid, NR_nanosleep
from lkl_green.linux import Completion, free_irq, request_irq

NS_PER_MS = 1_000_000


@pytest.fixture
def host(configuration):
    """The host operations of the configuration, before any kernel uses them."""
    host = GreenletHost() if configuration["host"] == "greenlet" else ThreadHost()
    host.host_init()
    yield host
    host.host_cleanup()
    assert host.live() == LiveObjects()


@pytest.fixture
def kernel(boot):
    return boot(clock="monotonic")


# -- before a kernel runs


def test_mutex(host):
    mutex = host.mutex_alloc(False)
    host.mutex_lock(mutex)
    host.mutex_unlock(mutex)
    host.mutex_free(mutex)
    mutex = host.mutex_alloc(True)
    host.mutex_lock(mutex)
    host.mutex_lock(mutex)
    host.mutex_unlock(mutex)
    host.mutex_unlock(mutex)
    host.mutex_free(mutex)
    assert host.live().mutexes == 0


def test_semaphore(host):
    sem = host.sem_alloc(1)
    host.sem_down(sem)
    host.sem_up(sem)
    host.sem_free(sem)
    assert host.live().semaphores == 0


def test_join(host):
    tid = host.thread_create(lambda arg: None, None)
    assert tid > 0
    assert host.thread_join(tid) == 0


# -- with a kernel


def test_start_kernel(configuration):
    kernel = lkl_start_kernel(None, loglevel=0, **configuration)
    assert isinstance(kernel, Kernel)
    assert kernel.lkl_is_running()
    assert kernel.lkl_sys_halt() == 0
    assert not kernel.lkl_is_running()


def test_getpid(kernel):
    assert kernel.lkl_syscall(NR_getpid) == 1


def test_gettid(kernel):
    assert kernel.lkl_syscall(NR_gettid) > 0
    assert kernel.host.gettid() != 0


def test_nanosleep(kernel):
    before = time.monotonic_ns()
    assert kernel.lkl_syscall(NR_nanosleep, 8_765_432) == 0
    assert time.monotonic_ns() - before > 0.9 * 8_765_432


def test_syscall_latency(kernel):
    assert {kernel.lkl_syscall(NR_getpid) for _ in range(1000)} == {1}


def test_many_syscall_threads(kernel):
    results = []
    for _ in range(64):
        os_thread = threading.Thread(target=lambda: results.append(kernel.lkl_syscall(NR_getpid)), daemon=True)
        os_thread.start()
        run_until(kernel, lambda os_thread=os_thread: not os_thread.is_alive())
        os_thread.join(PATIENCE_S)
    assert results == [1] * 64
    kernel.lkl_run()
    assert len(kernel.pids) == 3, "the host tasks of ended threads are freed"


def test_many_syscall_threads_that_live_at_once(kernel):
    threads = [ForeignThread(kernel) for _ in range(64)]
    for thread in threads:
        thread.start(kernel.lkl_syscall, NR_getpid)
    assert [thread.result() for thread in threads] == [1] * 64
    for thread in threads:
        thread.end()
    kernel.lkl_run()
    assert len(kernel.pids) == 3


def test_new_tgid_threads(kernel):
    parent = kernel.lkl_syscall(NR_getpid)

    def child():
        kernel.new_thread_group_leader()
        return kernel.lkl_syscall(NR_getpid), kernel.lkl_syscall(NR_getppid)

    for _ in range(64):
        thread = ForeignThread(kernel)
        pid, ppid = thread.call(child)
        assert pid != parent
        assert ppid == parent
        thread.end()
    kernel.lkl_run()
    assert len(kernel.pids) == 4, "the application's own host task is left"


def test_host_thread_irq_delivery(boot):
    """An interrupt raised by a plain host thread is delivered although the kernel task sleeps."""

    def init():
        done = Completion(name="handler ran")
        runs = []

        def handler(irq):
            runs.append(irq)
            done.complete()

        irq = kernel.lkl_get_free_irq("test")
        assert irq >= 0
        request_irq(irq, handler, "test")
        os_thread = threading.Thread(target=kernel.lkl_trigger_irq, args=(irq,), daemon=True)
        os_thread.start()
        left = done.wait_for_completion_timeout(5000 * NS_PER_MS)
        os_thread.join(PATIENCE_S)
        free_irq(irq, "test")
        kernel.lkl_put_irq(irq, "test")
        return left > 0, runs == [irq], kernel.statistics().tainted

    kernel = boot(init, clock="monotonic")
    assert kernel.run() == (True, True, 0)


def test_stop_kernel(kernel):
    assert kernel.lkl_run().reason is RunReason.IDLE
    assert kernel.lkl_sys_halt() == 0


def test_the_suite_as_lkl_runs_it_twice_in_one_process(configuration):
    """LKL's second boot in one process fails (rule 23); LKL's main() never tries it."""
    for _ in range(2):
        kernel = lkl_start_kernel(None, loglevel=0, **configuration)
        assert kernel.lkl_syscall(NR_getpid) == 1
        assert kernel.lkl_syscall(NR_nanosleep, NS_PER_MS) == 0
        thread = ForeignThread(kernel)
        assert thread.syscall(NR_gettid) > 0
        thread.end()
        assert kernel.lkl_sys_halt() == 0
        assert kernel.host.live() == LiveObjects()
