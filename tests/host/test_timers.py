"""One-shot timers. What is tested is order and that things happen at all, never how long they take."""

from __future__ import annotations

import threading

import pytest

from lkl_green.host import native

from .stories import PATIENCE_S, in_os_thread

LATER_NS = 10**13
SOON_NS = 1_000_000


class Bell:
    """A callback that notes its calls and can be waited for."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self._rung = threading.Semaphore(0)

    def ring(self, arg: object) -> None:
        self.heard.append(arg)
        self._rung.release()

    def wait(self, times: int = 1) -> None:
        for _ in range(times):
            assert self._rung.acquire(timeout=PATIENCE_S), "the timer did not expire"


@pytest.fixture
def bell():
    return Bell()


def timer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lkl-host-timers"]


def test_a_timer_calls_back_with_its_argument_in_another_os_thread(host, bell):
    threads = []
    timer = host.timer_alloc(lambda arg: (threads.append(threading.current_thread()), bell.ring(arg)), "arg")
    assert host.timer_set_oneshot(timer, SOON_NS) == 0
    bell.wait()
    assert bell.heard == ["arg"]
    assert threads[0] is not threading.current_thread()
    host.timer_free(timer)


def test_zero_means_at_once(host, bell):
    timer = host.timer_alloc(bell.ring, "now")
    host.timer_set_oneshot(timer, 0)
    bell.wait()
    host.timer_free(timer)
    assert bell.heard == ["now"]


def test_a_timer_expires_once_and_can_be_armed_again(host, bell):
    timer = host.timer_alloc(bell.ring, "tick")
    for _ in range(3):
        host.timer_set_oneshot(timer, 0)
        bell.wait()
    host.timer_free(timer)
    assert bell.heard == ["tick"] * 3


def test_arming_anew_replaces(host, bell):
    timer, other = host.timer_alloc(bell.ring, "timer"), host.timer_alloc(bell.ring, "other")
    host.timer_set_oneshot(timer, LATER_NS)
    host.timer_set_oneshot(timer, 0)
    bell.wait()
    host.timer_set_oneshot(timer, 0)
    bell.wait()
    host.timer_set_oneshot(timer, SOON_NS)
    host.timer_set_oneshot(timer, LATER_NS)
    host.timer_set_oneshot(other, 2 * SOON_NS)
    bell.wait()
    assert bell.heard == ["timer", "timer", "other"]
    host.timer_free(timer)
    host.timer_free(other)


def test_timers_expire_in_the_order_of_their_time(host, bell):
    """The first callback holds the thread until all are armed."""
    armed = threading.Event()
    gate = host.timer_alloc(lambda _: armed.wait(PATIENCE_S), None)
    host.timer_set_oneshot(gate, 0)
    timers = {delay: host.timer_alloc(bell.ring, delay) for delay in (3, 1, 2)}
    for delay, timer in timers.items():
        host.timer_set_oneshot(timer, delay * SOON_NS * 100)
    armed.set()
    bell.wait(3)
    assert bell.heard == [1, 2, 3]
    for timer in [gate, *timers.values()]:
        host.timer_free(timer)


def test_a_freed_timer_does_not_call_back(host, bell):
    freed, other = host.timer_alloc(bell.ring, "freed"), host.timer_alloc(bell.ring, "other")
    host.timer_set_oneshot(freed, SOON_NS)
    host.timer_free(freed)
    host.timer_set_oneshot(other, 2 * SOON_NS)
    bell.wait()
    assert bell.heard == ["other"]
    host.timer_free(other)


def test_freeing_waits_for_the_callback_under_way(host, log):
    started, go_on = threading.Event(), threading.Event()

    def slow(_: object) -> None:
        started.set()
        go_on.wait(PATIENCE_S)
        log.append("callback done")

    timer, other = host.timer_alloc(slow, None), host.timer_alloc(print, None)
    host.timer_set_oneshot(timer, 0)
    assert started.wait(PATIENCE_S)
    freer = threading.Thread(target=lambda: (host.timer_free(timer), log.append("freed")), daemon=True)
    freer.start()
    while not timer.freed:
        pass
    log.append("callback still runs")
    go_on.set()
    freer.join(PATIENCE_S)
    assert log == ["callback still runs", "callback done", "freed"]
    host.timer_free(other)


def test_a_callback_may_free_its_own_timer_even_the_last(host, bell):
    box = []
    timer = host.timer_alloc(lambda arg: (host.timer_free(box[0]), bell.ring(arg)), "freed itself")
    box.append(timer)
    threads = timer_threads()
    host.timer_set_oneshot(timer, 0)
    bell.wait()
    assert bell.heard == ["freed itself"]
    assert host.live().timers == 0
    for thread in set(timer_threads()) - set(threads):
        thread.join(PATIENCE_S)
    assert timer_threads() == threads


def test_a_callback_may_arm_its_own_timer_again(host, bell):
    def tick(_: object) -> None:
        bell.ring(len(bell.heard))
        if len(bell.heard) < 3:
            host.timer_set_oneshot(timer, 0)

    timer = host.timer_alloc(tick, None)
    host.timer_set_oneshot(timer, 0)
    bell.wait(3)
    host.timer_free(timer)
    assert bell.heard == [0, 1, 2]


def test_a_failing_callback_is_reported_and_the_other_timers_go_on(host, bell, console):
    broken, sound = host.timer_alloc(lambda _: 1 // 0, None), host.timer_alloc(bell.ring, "sound")
    host.timer_set_oneshot(broken, 0)
    host.timer_set_oneshot(sound, SOON_NS)
    bell.wait()
    host.timer_free(broken)
    host.timer_free(sound)
    assert "a host timer's callback failed" in console[0]
    assert "ZeroDivisionError" in console[0]


def test_the_os_thread_lives_from_the_first_arming_to_the_last_free(host):
    first, second = host.timer_alloc(print, None), host.timer_alloc(print, None)
    assert timer_threads() == []
    host.timer_set_oneshot(first, LATER_NS)
    host.timer_set_oneshot(second, LATER_NS)
    assert len(timer_threads()) == 1
    host.timer_free(first)
    assert len(timer_threads()) == 1
    host.timer_free(second)
    assert timer_threads() == []


def test_cleanup_ends_the_os_thread_and_shows_the_leak(host, bell):
    timer = host.timer_alloc(bell.ring, None)
    host.timer_set_oneshot(timer, LATER_NS)
    host.host_cleanup()
    assert timer_threads() == []
    assert host.live().timers == 1
    host.timer_free(timer)
    assert host.live().timers == 0


def test_if_there_is_no_os_thread_to_be_had_arming_fails_and_can_be_tried_again(host, bell, monkeypatch):
    timer = host.timer_alloc(bell.ring, "second try")
    with monkeypatch.context() as without_threads:
        without_threads.setattr(native.Thread, "start", no_more_threads)
        assert host.timer_set_oneshot(timer, 0) != 0
    assert host.timer_set_oneshot(timer, 0) == 0
    bell.wait()
    host.timer_free(timer)
    assert bell.heard == ["second try"]


def no_more_threads(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_timers_work_from_any_os_thread(host, bell):
    timer = in_os_thread(lambda: host.timer_alloc(bell.ring, "foreign"))
    in_os_thread(lambda: host.timer_set_oneshot(timer, 0))
    bell.wait()
    in_os_thread(lambda: host.timer_free(timer))
    assert bell.heard == ["foreign"]


def test_a_timer_that_is_armed_again_and_again_takes_no_more_memory(host):
    timer = host.timer_alloc(print, None)
    for _ in range(10_000):
        host.timer_set_oneshot(timer, LATER_NS)
    assert len(host._timers._heap) < 200
    host.timer_free(timer)


def test_a_callback_is_a_thread_of_the_host_like_any_other(host, bell, log):
    """It is adopted, and its thread-local values are destroyed when the timers' thread ends."""
    key = host.tls_alloc(log.append)
    timer = host.timer_alloc(lambda arg: (host.tls_set(key, "value"), bell.ring(host.thread_self())), None)
    host.timer_set_oneshot(timer, 0)
    bell.wait()
    assert bell.heard[0] not in (0, host.thread_self())
    host.timer_free(timer)
    assert log == ["value"]
