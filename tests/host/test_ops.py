"""Each host operation on each host."""

from __future__ import annotations

import contextvars
import copy
import threading
import weakref

import pytest

from lkl_green.errors import HostPanic, WrongHostThread
from lkl_green.host.ops import JmpBuf, LiveObjects

from .stories import HOSTS, finish, in_host_thread, in_os_thread, queue_up, settle, start, waiting

# -- semaphores


def test_a_semaphore_lets_through_as_many_as_it_counts(host, log):
    sem = host.sem_alloc(2)
    host.sem_down(sem)
    host.sem_down(sem)
    third = queue_up(host, sem, lambda: (host.sem_down(sem), log.append("third")))
    assert log == []
    host.sem_up(sem)
    finish(host, third)
    assert log == ["third"]


def test_sem_up_lets_the_longest_waiter_go(host, log):
    sem = host.sem_alloc(0)
    tids = [queue_up(host, sem, lambda name: (host.sem_down(sem), log.append(name)), name) for name in "abc"]
    for names in (["a"], ["a", "b"], ["a", "b", "c"]):
        host.sem_up(sem)
        settle(host, lambda: len(log) == len(names))  # noqa: B023 - called at once
        assert log == names
    finish(host, *tids)


def test_nobody_overtakes_a_waiter_that_was_let_go(host, log):
    sem = host.sem_alloc(0)
    first = queue_up(host, sem, lambda: (host.sem_down(sem), log.append("first")))
    host.sem_up(sem)
    second = start(host, lambda: (host.sem_down(sem), log.append("second")))
    settle(host, lambda: waiting(sem) == 1 and log == ["first"])
    host.sem_up(sem)
    finish(host, first, second)
    assert log == ["first", "second"]


def test_sem_up_before_sem_down_is_kept(host):
    sem = host.sem_alloc(0)
    host.sem_up(sem)
    in_host_thread(host, lambda: host.sem_down(sem))
    host.sem_free(sem)


# -- mutexes


def test_a_mutex_keeps_others_out_until_it_is_unlocked(host, log):
    mutex = host.mutex_alloc(recursive=False)
    host.mutex_lock(mutex)
    other = queue_up(host, mutex, lambda: (host.mutex_lock(mutex), log.append("other"), host.mutex_unlock(mutex)))
    log.append("me")
    host.mutex_unlock(mutex)
    finish(host, other)
    assert log == ["me", "other"]
    host.mutex_free(mutex)


def test_a_recursive_mutex_is_free_after_as_many_unlocks(host, log):
    mutex = host.mutex_alloc(recursive=True)
    host.mutex_lock(mutex)
    host.mutex_lock(mutex)
    other = queue_up(host, mutex, lambda: (host.mutex_lock(mutex), log.append("other"), host.mutex_unlock(mutex)))
    host.mutex_unlock(mutex)
    assert waiting(mutex) == 1
    host.mutex_unlock(mutex)
    finish(host, other)
    assert log == ["other"]


def test_a_mutex_goes_to_the_longest_waiter(host, log):
    mutex = host.mutex_alloc(recursive=False)

    def take(name: str) -> None:
        host.mutex_lock(mutex)
        log.append(name)
        host.mutex_unlock(mutex)

    host.mutex_lock(mutex)
    tids = [queue_up(host, mutex, take, name) for name in "abc"]
    host.mutex_unlock(mutex)
    finish(host, *tids)
    assert log == ["a", "b", "c"]


# -- threads


def test_a_thread_gets_its_argument_and_is_joined(host, log):
    tid = host.thread_create(log.append, "hello")
    finish(host, tid)
    assert log == ["hello"]


def test_thread_create_comes_back_even_if_the_new_thread_blocks(host):
    sem = host.sem_alloc(0)
    tid = start(host, host.sem_down, sem)
    host.sem_up(sem)
    finish(host, tid)


def test_tids_are_never_zero_and_never_used_again(host):
    seen = {host.thread_self()}
    for _ in range(5):
        tid = start(host, lambda: None)
        finish(host, tid)
        assert tid not in seen
        seen.add(tid)
    assert 0 not in seen


def test_a_thread_knows_its_tid(host):
    box: list[int] = []
    tid = start(host, lambda: box.append(host.thread_self()))
    finish(host, tid)
    assert box == [tid]
    assert host.thread_equal(tid, box[0])
    assert not host.thread_equal(tid, host.thread_self())


def test_a_caller_that_the_host_did_not_make_is_adopted_with_a_tid_of_its_own(host):
    mine, others = host.thread_self(), in_os_thread(host.thread_self)
    assert mine != others
    assert mine == host.thread_self() > 0


def test_gettid_is_a_number_of_the_thread(host):
    assert host.gettid() == host.gettid() != 0
    assert in_host_thread(host, host.gettid) != host.gettid()


def test_thread_exit_runs_finally_blocks_and_nothing_else(host, log, console):
    def leave() -> None:
        try:
            host.thread_exit()
        finally:
            log.append("finally")
        log.append("not reached")

    finish(host, start(host, leave))
    assert log == ["finally"]
    assert console == []


def test_an_exception_ends_only_its_thread_and_is_reported_with_its_traceback(host, log, console):
    def fail() -> None:
        raise ValueError("no such device")

    tids = [start(host, fail), start(host, log.append, "goes on")]
    finish(host, *tids)
    assert log == ["goes on"]
    [report] = console
    assert f"host thread {tids[0]} ended" in report
    assert "in fail" in report
    assert "ValueError: no such device" in report


def test_a_detached_thread_is_forgotten_when_it_ends(host):
    sem = host.sem_alloc(0)
    start(host, lambda: (host.thread_detach(), host.sem_down(sem)))
    settle(host, lambda: waiting(sem) == 1)
    assert host.live().threads == 1
    host.sem_up(sem)
    settle(host, lambda: host.live().threads == 0)


def test_a_thread_has_a_copy_of_its_creators_context(host, log):
    colour = contextvars.ContextVar("colour", default="none")
    colour.set("red")

    def child() -> None:
        log.append(colour.get())
        colour.set("blue")

    tid = start(host, child)
    colour.set("green")
    finish(host, tid)
    assert log == ["red"]
    assert colour.get() == "green"


def test_the_stack_of_a_blocked_thread_can_be_seen(host):
    sem = host.sem_alloc(0)

    def sleeper() -> None:
        host.sem_down(sem)

    tid = queue_up(host, sem, sleeper)
    names = []
    frame = host.thread_stack(tid)
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    assert "sleeper" in names
    assert host.thread_stack(12345) is None
    host.sem_up(sem)
    finish(host, tid)
    assert host.thread_stack(tid) is None


# -- thread-local storage


def test_each_thread_has_its_own_value(host):
    key = host.tls_alloc()
    assert host.tls_set(key, "mine") == 0
    assert in_host_thread(host, lambda: host.tls_get(key)) is None
    in_host_thread(host, lambda: host.tls_set(key, "its"))
    in_os_thread(lambda: host.tls_set(key, "foreign"))
    assert host.tls_get(key) == "mine"


def test_the_destructor_gets_the_value_in_its_thread_when_the_thread_ends(host, log):
    key = host.tls_alloc(lambda value: log.append((value, host.thread_self())))
    tid = start(host, lambda: (host.tls_set(key, "value"), log.append("running")))
    finish(host, tid)
    assert log == ["running", ("value", tid)]


def test_no_destructor_for_none_or_for_a_freed_key(host, log):
    unset, freed = host.tls_alloc(log.append), host.tls_alloc(log.append)

    def use() -> None:
        host.tls_set(unset, "value")
        host.tls_set(unset, None)
        host.tls_set(freed, "value")
        host.tls_free(freed)

    finish(host, start(host, use))
    assert log == []


class Value:
    """Something that can be referred to weakly."""


def test_freeing_a_key_forgets_the_values(host):
    key, value = host.tls_alloc(), Value()
    forgotten = weakref.ref(value)
    host.tls_set(key, value)
    del value
    host.tls_free(key)
    assert forgotten() is None


def test_a_destructor_that_sets_the_value_again_is_called_four_times(host, log):
    def destroy(value: int) -> None:
        log.append(value)
        host.tls_set(key, value + 1)

    key = host.tls_alloc(destroy)
    finish(host, start(host, host.tls_set, key, 1))
    assert log == [1, 2, 3, 4]


def test_a_destructor_sees_the_values_of_other_keys(host, log):
    name = host.tls_alloc()
    key = host.tls_alloc(lambda value: log.append((value, host.tls_get(name))))
    finish(host, start(host, lambda: (host.tls_set(name, "n"), host.tls_set(key, "v"))))
    assert log == [("v", "n")]


def test_a_failing_destructor_is_reported_and_the_others_run(host, log, console):
    broken, sound = host.tls_alloc(lambda value: 1 // 0), host.tls_alloc(log.append)
    finish(host, start(host, lambda: (host.tls_set(broken, 1), host.tls_set(sound, 2))))
    assert log == [2]
    assert "ZeroDivisionError" in console[0]


def test_destructors_of_an_adopted_os_thread_run_in_it_when_it_ends(host, log):
    key = host.tls_alloc(lambda value: log.append((value, host.thread_self(), threading.get_ident())))

    def visit() -> tuple[int, int]:
        host.tls_set(key, "value")
        return host.thread_self(), threading.get_ident()

    tid, ident = in_os_thread(visit)
    assert log == [("value", tid, ident)]


def test_an_os_thread_that_reuses_an_identifier_is_somebody_else(host):
    """The system gives identifiers of ended threads to new ones."""
    tids = [in_os_thread(host.thread_self) for _ in range(20)]
    assert len(set(tids)) == 20


# -- jump buffers


def test_a_function_that_returns_gives_zero(host):
    assert host.jmp_buf_set(JmpBuf(), lambda: "anything") == 0


@pytest.mark.parametrize(("value", "result"), [(7, 7), (0, 1), (-1, -1)])
def test_a_jump_gives_its_value_and_never_zero(host, value, result):
    jmp_buf = JmpBuf()
    assert host.jmp_buf_set(jmp_buf, lambda: host.jmp_buf_longjmp(jmp_buf, value)) == result


def test_a_jump_goes_to_its_own_point_past_others(host, log):
    outer, inner = JmpBuf(), JmpBuf()

    def inside() -> None:
        host.jmp_buf_set(inner, lambda: host.jmp_buf_longjmp(outer, 5))
        log.append("not reached")

    assert host.jmp_buf_set(outer, inside) == 5
    assert log == []


def test_a_copy_of_a_buffer_means_the_same_point(host):
    jmp_buf = JmpBuf()
    assert host.jmp_buf_set(jmp_buf, lambda: host.jmp_buf_longjmp(copy.copy(jmp_buf), 3)) == 3


def test_an_exception_passes_through_a_jump_point(host):
    with pytest.raises(ZeroDivisionError):
        host.jmp_buf_set(JmpBuf(), lambda: 1 // 0)


# -- memory


def test_memory_is_zeroed_writable_and_counted(host):
    mem = host.mem_alloc(16)
    assert mem == bytes(16)
    mem[0] = 255
    assert host.live().memory == 1
    host.mem_free(mem)
    assert host.live().memory == 0


def test_more_memory_than_there_is_gives_none(host):
    assert host.mem_alloc(1 << 62) is None
    assert host.mem_alloc(1 << 70) is None
    assert host.live().memory == 0


# -- time, console


def test_time_is_a_whole_number_that_does_not_go_back(host):
    first = host.time()
    assert isinstance(first, int)
    assert host.time() >= first


def test_print_goes_to_the_console(host, console):
    host.print("booting\n")
    in_os_thread(lambda: host.print("foreign\n"))
    assert console == ["booting\n", "foreign\n"]


@pytest.mark.parametrize("kind", sorted(HOSTS))
def test_print_goes_to_standard_output_by_default(kind, capsys):
    HOSTS[kind](None).print("booting\n")
    assert capsys.readouterr().out == "booting\n"


def test_panic_is_an_exception(host):
    with pytest.raises(HostPanic):
        host.panic()


def test_a_broken_console_does_not_hide_a_failed_thread(host, monkeypatch, capsys):
    monkeypatch.setattr(host, "_console", lambda text: 1 // 0)
    finish(host, start(host, lambda: {}[0]))
    assert "KeyError" in capsys.readouterr().err


# -- idle


def test_a_wake_up_before_the_sleep_is_not_lost(host):
    host.idle_wake()
    host.idle_sleep(None)


def test_many_wake_ups_are_one(host):
    host.idle_wake()
    host.idle_wake()
    host.idle_sleep(None)
    host.idle_sleep(1)
    host.idle_sleep(0)
    host.idle_sleep(-5)


def test_a_wake_up_comes_from_any_os_thread(host, log):
    waker = threading.Thread(target=lambda: (log.append("waking"), host.idle_wake()), daemon=True)
    waker.start()
    host.idle_sleep(10**10)
    waker.join()
    assert log == ["waking"]


def test_a_very_long_sleep_is_no_error(host):
    host.idle_wake()
    host.idle_sleep(10**30)


def test_a_wake_up_before_boot_does_not_disturb_the_new_kernel(host):
    host.idle_wake()
    host.host_cleanup()
    host.host_init()
    assert not host._doorbell.acquire(blocking=False)


# -- life cycle


def test_everything_is_counted_and_nothing_leaks(host):
    assert host.live() == LiveObjects()
    sem, mutex, key = host.sem_alloc(0), host.mutex_alloc(False), host.tls_alloc()
    timer, mem, tid = host.timer_alloc(print, None), host.mem_alloc(1), start(host, lambda: None)
    assert host.live() == LiveObjects(1, 1, 1, 1, 1, 1)
    finish(host, tid)
    host.mem_free(mem)
    host.timer_free(timer)
    host.tls_free(key)
    host.mutex_free(mutex)
    host.sem_free(sem)
    assert host.live() == LiveObjects()


def test_a_host_can_be_used_by_one_kernel_after_another(host, log):
    for boot in range(3):
        finish(host, start(host, log.append, boot))
        host.host_cleanup()
        host.host_init()
    assert log == [0, 1, 2]


def test_threads_that_are_left_at_cleanup_are_told_to_exit_and_reported(host, log, console):
    sem = host.sem_alloc(0)

    def sleeper() -> None:
        try:
            host.sem_down(sem)
        finally:
            log.append("finally")

    tid = queue_up(host, sem, sleeper)
    host.host_cleanup()
    assert log == ["finally"]
    assert console == [f"host_cleanup: host thread(s) {tid} had not ended and were told to exit\n"]
    assert host.live().threads == 0


def test_a_thread_that_blocks_again_while_it_exits_is_told_again(host, log):
    sem, mutex = host.sem_alloc(0), host.mutex_alloc(False)

    def sleeper() -> None:
        try:
            host.sem_down(sem)
        finally:
            try:
                host.mutex_lock(mutex)
            finally:
                log.append("ended")

    host.mutex_lock(mutex)
    queue_up(host, sem, sleeper)
    host.host_cleanup()
    assert log == ["ended"]


def test_only_the_owner_cleans_up(host):
    with pytest.raises(WrongHostThread):
        in_os_thread(host.host_cleanup)
