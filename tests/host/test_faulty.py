"""The host on which a chosen call fails."""

from __future__ import annotations

import pytest

from lkl_green.host.faulty import CAN_FAIL, FaultyHost
from lkl_green.host.greenlets import GreenletHost
from lkl_green.host.ops import HostOps, JmpBuf, LiveObjects
from lkl_green.host.threads import ThreadHost

from .stories import HOSTS


@pytest.fixture(params=sorted(HOSTS))
def real(request, make_host):
    """A host that works."""
    return make_host(request.param)


# How each operation is called, and how it reports failure.
CALLS = {
    "sem_alloc": (lambda host: host.sem_alloc(0), None),
    "mutex_alloc": (lambda host: host.mutex_alloc(False), None),
    "thread_create": (lambda host: host.thread_create(lambda _: host.thread_detach(), None), 0),
    "tls_alloc": (lambda host: host.tls_alloc(), None),
    "tls_set": (lambda host: host.tls_set(host.tls_alloc(), "value"), -1),
    "mem_alloc": (lambda host: host.mem_alloc(8), None),
    "timer_alloc": (lambda host: host.timer_alloc(print, None), None),
    "timer_set_oneshot": (lambda host: host.timer_set_oneshot(host.timer_alloc(print, None), 10**12), -1),
}


def test_every_operation_that_can_fail_is_tried_here():
    assert set(CALLS) == set(CAN_FAIL)


@pytest.mark.parametrize("operation", CAN_FAIL)
def test_the_second_call_fails_and_no_other(real, operation):
    call, failure = CALLS[operation]
    host = FaultyHost(real, operation, 2)
    results = [call(host) for _ in range(3)]
    assert [result == failure for result in results] == [False, True, False]
    assert host.calls[operation] == 3


def test_a_call_that_fails_allocates_nothing(real):
    host = FaultyHost(real, dict.fromkeys(CAN_FAIL, 1))
    assert [host.sem_alloc(0), host.mutex_alloc(False), host.mem_alloc(1), host.tls_alloc()] == [None] * 4
    assert host.timer_alloc(print, None) is None
    assert host.thread_create(print, None) == 0
    assert host.live() == real.live() == LiveObjects()


def test_with_zero_nothing_fails_and_calls_are_counted(real):
    host = FaultyHost(real, "sem_alloc", 0)
    assert None not in [host.sem_alloc(0) for _ in range(3)]
    assert host.mem_alloc(1) is not None
    assert host.calls == {"sem_alloc": 3, "mem_alloc": 1}


def test_several_operations_fail_each_at_its_own_call(real):
    host = FaultyHost(real, {"sem_alloc": 2, "thread_create": 1})
    assert host.thread_create(print, None) == 0
    assert [host.sem_alloc(0) is None for _ in range(3)] == [False, True, False]


@pytest.mark.parametrize("operation", ["sem_up", "sem_allocate"])
def test_an_operation_that_cannot_fail_is_refused_with_those_that_can(operation):
    with pytest.raises(ValueError, match=f"{operation}.*These can: sem_alloc, mutex_alloc, thread_create"):
        FaultyHost(GreenletHost(), operation, 1)


def test_a_call_before_the_first_is_refused():
    with pytest.raises(ValueError, match="counted from 1"):
        FaultyHost(GreenletHost(), "sem_alloc", -1)


def test_everything_else_is_the_work_of_the_real_host(real, log, console):
    host = FaultyHost(real, "sem_alloc")
    sem, mutex, key, mem = host.sem_alloc(0), host.mutex_alloc(True), host.tls_alloc(), host.mem_alloc(1)

    def child(name: str) -> None:
        host.mutex_lock(mutex)
        log.append((name, host.tls_get(key)))
        host.mutex_unlock(mutex)
        host.sem_up(sem)
        host.thread_exit()

    host.tls_set(key, "value")
    tid = host.thread_create(child, "child")
    host.sem_down(sem)
    assert host.thread_join(tid) == 0
    assert log == [("child", None)]
    assert host.tls_get(key) == "value"
    assert host.thread_self() == real.thread_self()
    assert host.gettid() == real.gettid()
    assert host.thread_equal(1, 1)
    assert host.thread_stack(tid) is None
    host.print("text")
    assert console == ["text"]
    jmp_buf = JmpBuf()
    assert host.jmp_buf_set(jmp_buf, lambda: host.jmp_buf_longjmp(jmp_buf, 2)) == 2
    host.idle_wake()
    host.idle_sleep(None)
    assert host.time() <= real.time()
    timer = host.timer_alloc(print, None)
    host.timer_free(timer)
    host.mem_free(mem)
    host.tls_free(key)
    host.mutex_free(mutex)
    host.sem_free(sem)
    assert host.live() == LiveObjects()
    host.host_cleanup()
    host.host_init()


def test_no_operation_is_forgotten():
    """An operation that FaultyHost inherits, and not delegates, would work on no host at all."""
    operations = [name for name in vars(HostOps) if not name.startswith("_")]
    assert [name for name in operations if name not in vars(FaultyHost)] == [
        "foreign_threads_run_kernel",
        "made_poller",
    ]


def test_the_hook_for_interrupts_is_that_of_the_host_which_calls_it():
    real = ThreadHost()
    host = FaultyHost(real, "sem_alloc")
    assert host.on_interrupt is None
    host.on_interrupt = print
    assert real.on_interrupt is host.on_interrupt is print
    assert host.foreign_threads_run_kernel
    assert not FaultyHost(GreenletHost(), "sem_alloc").foreign_threads_run_kernel
