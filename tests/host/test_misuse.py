"""Misuse is the same error with the same words on every host."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from lkl_green.errors import HostMisuse
from lkl_green.host.ops import HostOps, JmpBuf

from .stories import HOSTS, finish, in_host_thread, queue_up, start, waiting

if TYPE_CHECKING:
    from collections.abc import Callable


def free_semaphore_twice(host):
    sem = host.sem_alloc(0)
    host.sem_free(sem)
    host.sem_free(sem)


def free_semaphore_with_waiters(host):
    sem = host.sem_alloc(0)
    for _ in range(2):
        queue_up(host, sem, host.sem_down, sem)
    host.sem_free(sem)


def up_freed_semaphore(host):
    sem = host.sem_alloc(1)
    host.sem_free(sem)
    host.sem_up(sem)


def down_freed_semaphore(host):
    sem = host.sem_alloc(1)
    host.sem_free(sem)
    host.sem_down(sem)


def allocate_negative_semaphore(host):
    host.sem_alloc(-1)


def unlock_free_mutex(host):
    host.mutex_unlock(host.mutex_alloc(False))


def unlock_mutex_of_another(host):
    mutex = host.mutex_alloc(True)
    host.mutex_lock(mutex)
    in_host_thread(host, lambda: host.mutex_unlock(mutex))


def unlock_once_too_often(host):
    mutex = host.mutex_alloc(True)
    host.mutex_lock(mutex)
    host.mutex_unlock(mutex)
    host.mutex_unlock(mutex)


def lock_twice(host):
    mutex = host.mutex_alloc(False)
    host.mutex_lock(mutex)
    host.mutex_lock(mutex)


def free_locked_mutex(host):
    mutex = host.mutex_alloc(False)
    host.mutex_lock(mutex)
    host.mutex_free(mutex)


def free_mutex_with_waiters(host):
    mutex = host.mutex_alloc(False)
    host.mutex_lock(mutex)
    queue_up(host, mutex, host.mutex_lock, mutex)
    host.mutex_free(mutex)


def free_mutex_twice(host):
    mutex = host.mutex_alloc(False)
    host.mutex_free(mutex)
    host.mutex_free(mutex)


def lock_freed_mutex(host):
    mutex = host.mutex_alloc(False)
    host.mutex_free(mutex)
    host.mutex_lock(mutex)


def unlock_freed_mutex(host):
    mutex = host.mutex_alloc(False)
    host.mutex_free(mutex)
    host.mutex_unlock(mutex)


def join_zero(host):
    host.thread_join(0)


def join_self(host):
    in_host_thread(host, lambda: host.thread_join(host.thread_self()))


def join_nobody(host):
    host.thread_join(999)


def join_twice(host):
    tid = start(host, lambda: None)
    finish(host, tid)
    host.thread_join(tid)


def join_detached(host):
    sem = host.sem_alloc(0)
    tid = queue_up(host, sem, lambda: (host.thread_detach(), host.sem_down(sem)))
    host.thread_join(tid)


def join_adopted(host):
    application = host.thread_self()
    in_host_thread(host, lambda: host.thread_join(application))


def detach_while_joined(host):
    sem = host.sem_alloc(0)
    box = []

    def child() -> None:
        host.sem_down(sem)
        try:
            host.thread_detach()
        except HostMisuse as exc:
            box.append(exc)

    def wake_when_joined() -> None:
        while not waiting(host._threads[tid].end):
            time.sleep(0.001)
        host.sem_up(sem)

    tid = queue_up(host, sem, child)
    start(host, wake_when_joined)
    assert host.thread_join(tid) == 0
    raise box[0]


def exit_adopted(host):
    host.thread_exit()


def use_freed_tls_key(host):
    key = host.tls_alloc()
    host.tls_free(key)
    host.tls_set(key, 1)


def get_freed_tls_key(host):
    key = host.tls_alloc()
    host.tls_free(key)
    host.tls_get(key)


def free_tls_key_twice(host):
    key = host.tls_alloc()
    host.tls_free(key)
    host.tls_free(key)


def jump_without_point(host):
    host.jmp_buf_longjmp(JmpBuf(), 1)


def jump_after_return(host):
    jmp_buf = JmpBuf()
    host.jmp_buf_set(jmp_buf, lambda: None)
    host.jmp_buf_longjmp(jmp_buf, 1)


def jump_into_another_thread(host):
    jmp_buf = JmpBuf()
    host.jmp_buf_set(jmp_buf, lambda: in_host_thread(host, lambda: host.jmp_buf_longjmp(jmp_buf, 1)))


def allocate_negative_memory(host):
    host.mem_alloc(-1)


def free_memory_twice(host):
    mem = host.mem_alloc(1)
    host.mem_free(mem)
    host.mem_free(mem)


def free_foreign_memory(host):
    host.mem_free(bytearray(1))


def free_timer_twice(host):
    timer = host.timer_alloc(print, None)
    host.timer_free(timer)
    host.timer_free(timer)


def arm_freed_timer(host):
    timer = host.timer_alloc(print, None)
    host.timer_free(timer)
    host.timer_set_oneshot(timer, 1)


def arm_timer_in_the_past(host):
    timer = host.timer_alloc(print, None)
    host.timer_set_oneshot(timer, -1)


def initialise_twice(host):
    host.host_init()


def clean_up_in_a_host_thread(host):
    in_host_thread(host, host.host_cleanup)


def allocate_semaphore_after_cleanup(host):
    host.host_cleanup()
    host.sem_alloc(0)


def create_thread_after_cleanup(host):
    host.host_cleanup()
    host.thread_create(print, None)


MISUSES: dict[Callable[[HostOps], None], str] = {
    free_semaphore_twice: "sem_free: this semaphore was freed before",
    free_semaphore_with_waiters: r"sem_free: 2 thread\(s\) wait",
    up_freed_semaphore: "sem_up: this semaphore was freed",
    down_freed_semaphore: "sem_down: this semaphore was freed",
    allocate_negative_semaphore: "sem_alloc: count is -1",
    unlock_free_mutex: "mutex_unlock: this mutex is not locked",
    unlock_mutex_of_another: "mutex_unlock: this mutex is held by another thread",
    unlock_once_too_often: "mutex_unlock: this mutex is not locked",
    lock_twice: "mutex_lock: the calling thread holds this mutex already",
    free_locked_mutex: "mutex_free: this mutex is locked",
    free_mutex_with_waiters: r"mutex_free: 1 thread\(s\) wait",
    free_mutex_twice: "mutex_free: this mutex was freed before",
    lock_freed_mutex: "mutex_lock: this mutex was freed",
    unlock_freed_mutex: "mutex_unlock: this mutex was freed",
    join_zero: r"thread_join\(0\)",
    join_self: "would wait for itself",
    join_nobody: r"thread_join\(999\): no thread ever had this tid",
    join_twice: "was joined before",
    join_detached: "was joined before, or it is detached",
    join_adopted: "thread_create.. did not make",
    detach_while_joined: "another thread joins host thread",
    exit_adopted: "did not make the calling thread",
    use_freed_tls_key: "tls_set: this TLS key was freed",
    get_freed_tls_key: "tls_get: this TLS key was freed",
    free_tls_key_twice: "tls_free: this TLS key was freed before",
    jump_without_point: r"no jmp_buf_set\(\) with this buffer",
    jump_after_return: r"no jmp_buf_set\(\) with this buffer",
    jump_into_another_thread: "a thread cannot jump into the stack of another",
    allocate_negative_memory: "mem_alloc: size is -1",
    free_memory_twice: "mem_free: this memory is not allocated",
    free_foreign_memory: "mem_free: this memory is not allocated",
    free_timer_twice: "timer_free: this timer was freed before",
    arm_freed_timer: "timer_set_oneshot: this timer was freed",
    arm_timer_in_the_past: "timer_set_oneshot: delta_ns is -1",
    initialise_twice: "host_init: a kernel uses this host already",
    clean_up_in_a_host_thread: "host_cleanup: called by a host thread",
    allocate_semaphore_after_cleanup: r"sem_alloc: no kernel uses this host now. Call host_init\(\)",
    create_thread_after_cleanup: r"thread_create: no kernel uses this host now",
}


@pytest.mark.parametrize("misuse", MISUSES, ids=lambda misuse: misuse.__name__)
def test_misuse_is_the_same_error_on_each_host(misuse, make_host):
    messages = set()
    for kind in HOSTS:
        with pytest.raises(HostMisuse, match=MISUSES[misuse]) as caught:
            misuse(make_host(kind))
        messages.add(str(caught.value))
    # One set of words; what to do comes after what happened.
    [message] = messages
    assert len(message.split(". ")) > 1 or "; " in message, "says what happened, but not what to do"
