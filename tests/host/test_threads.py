"""What is special about host threads that are OS threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import pytest

import lkl_green.host.threads as threads_module
from lkl_green.host import native
from lkl_green.host.services import SIGNAL_POLL_S
from lkl_green.host.threads import UNWIND_TRIES, ThreadHost

from .stories import PATIENCE_S, breathe, finish, in_os_thread, queue_up, settle, start, waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot pin threads")


@pytest.fixture
def host(make_host) -> ThreadHost:
    return make_host("threads")


class Interrupt(Exception):
    """What a signal handler raises."""


# -- OS threads


def test_a_host_thread_is_a_daemon_with_a_telling_name(host, log):
    tid = start(host, lambda: log.append((threading.current_thread().name, threading.current_thread().daemon)))
    finish(host, tid)
    assert log == [(f"lkl-host-{tid}", True)]


def test_joining_waits_until_the_os_thread_is_gone(host, log):
    """Not only until its function has returned."""
    at_end = threading.local()

    class Last:
        def __del__(self) -> None:
            threading.Event().wait(0.05)
            log.append("really gone")

    tid = start(host, lambda: setattr(at_end, "last", Last()))
    host.thread_join(tid)
    assert log == ["really gone"]


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=["limit", "memory"])
def test_if_there_is_no_os_thread_to_be_had_the_result_is_zero(host, monkeypatch, error):
    def fail(self: threading.Thread) -> None:
        raise error

    with monkeypatch.context() as without_threads:
        without_threads.setattr(native.Thread, "start", fail)
        assert host.thread_create(print, None) == 0
    assert host.live().threads == 0
    finish(host, start(host, lambda: None))


def test_created_threads_have_the_stack_size_asked_for_and_others_do_not(log, monkeypatch):
    # Asking threading.stack_size() for the size in force resets it; hence a stand-in.
    in_force = [0]
    real_start = native.Thread.start

    def stack_size(size: int = 0) -> int:
        before, in_force[0] = in_force[0], size
        return before

    monkeypatch.setattr(threads_module, "stack_size", stack_size)
    monkeypatch.setattr(native.Thread, "start", lambda self: (log.append(in_force[0]), real_start(self))[1])
    host = ThreadHost(stack_size=256 * 1024)
    assert in_force == [0]
    host.host_init()
    finish(host, start(host, lambda: None))
    host.host_cleanup()
    assert log == [256 * 1024]
    assert in_force == [0]


def test_a_thread_runs_on_a_small_stack(log):
    host = ThreadHost(stack_size=256 * 1024)
    host.host_init()
    finish(host, start(host, log.append, "runs"))
    host.host_cleanup()
    assert log == ["runs"]


def test_a_stack_size_that_the_system_refuses_is_refused_at_once():
    before = threading.stack_size()
    with pytest.raises(ValueError, match="size"):
        ThreadHost(stack_size=1)
    assert threading.stack_size() == before


def test_a_foreign_thread_with_the_identifier_of_an_ended_host_thread_is_somebody_else(host):
    for _ in range(20):
        tid = start(host, lambda: None)
        finish(host, tid)
        assert in_os_thread(host.thread_self) != tid


def test_all_operations_work_from_any_os_thread(host, log):
    sem, mutex = host.sem_alloc(0), host.mutex_alloc(False)
    waiter = queue_up(host, sem, lambda: (host.sem_down(sem), log.append("woken")))

    def visit() -> int:
        host.mutex_lock(mutex)
        host.sem_up(sem)
        finish(host, waiter, start(host, log.append, "created"))
        host.mutex_unlock(mutex)
        own = host.sem_alloc(1)
        host.sem_down(own)
        host.sem_free(own)
        return host.thread_self()

    assert in_os_thread(visit) != host.thread_self()
    assert sorted(log) == ["created", "woken"]


def test_os_threads_that_run_at_the_same_time_lose_nothing(host):
    sem, mutex = host.sem_alloc(0), host.mutex_alloc(False)
    total = [0]

    def produce() -> None:
        for _ in range(500):
            host.sem_up(sem)

    def consume() -> None:
        for _ in range(500):
            host.sem_down(sem)
            host.mutex_lock(mutex)
            seen = total[0]
            total[0] = seen + 1
            host.mutex_unlock(mutex)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        finish(host, *[start(host, job) for job in [produce, consume] * 3])
    finally:
        sys.setswitchinterval(interval)
    assert (total, sem.count, waiting(sem)) == ([1500], 0, 0)


def test_generations_of_detached_threads_leave_nothing(host):
    done = host.sem_alloc(0)

    def generation(number: int) -> None:
        host.thread_detach()
        if number == 200:
            host.sem_up(done)
        else:
            host.thread_create(generation, number + 1)

    host.thread_create(generation, 1)
    host.sem_down(done)
    settle(host, lambda: host.live().threads == 0)


# -- pinning


@needs_affinity
def test_created_threads_and_the_owner_are_pinned_and_the_owner_only_while_it_owns():
    everywhere = os.sched_getaffinity(0)
    cpu = max(everywhere)
    host = ThreadHost(cpu=cpu)
    assert os.sched_getaffinity(0) == everywhere
    box: list[set[int]] = []
    before_init = threading.Event()
    foreign = threading.Thread(
        target=lambda: (before_init.wait(PATIENCE_S), finish(host, start(host, lambda: box.append(affinity())))),
        daemon=True,
    )
    foreign.start()
    host.host_init()
    assert affinity() == {cpu}
    before_init.set()
    foreign.join(PATIENCE_S)
    assert box == [{cpu}]
    host.host_cleanup()
    assert affinity() == everywhere


def affinity() -> set[int]:
    return os.sched_getaffinity(0)


@needs_affinity
def test_without_a_cpu_nobody_is_pinned(host, log):
    everywhere = affinity()
    finish(host, start(host, lambda: log.append(affinity())))
    assert log == [everywhere]


@needs_affinity
@pytest.mark.parametrize("cpu", [-1, 100_000])
def test_a_cpu_on_which_this_process_may_not_run_is_refused(cpu):
    with pytest.raises(ValueError, match=f"cpu={cpu}: this process may not run there"):
        ThreadHost(cpu=cpu)


def test_a_system_that_cannot_pin_is_no_reason_to_fail(monkeypatch, log):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    host = ThreadHost(cpu=0)
    host.host_init()
    finish(host, start(host, log.append, "runs"))
    host.host_cleanup()
    assert log == ["runs"]


# -- signal handlers that raise


class Tormentor:
    """Sends signals, whose handler raises, to the main thread while that waits in the host."""

    def __init__(self, host: ThreadHost, log: list[object]) -> None:
        self.host = host
        self.log = log
        self.handled = threading.Semaphore(0)

    def handle(self, number: int, frame: object) -> None:
        self.log.append("signal")
        self.handled.release()
        raise Interrupt

    def torment(self, waits: Callable[[], bool], times: int, release: Callable[[], object]) -> threading.Thread:
        """When main waits, send signals; when each was handled and main waits all the same, let it go."""
        main = threading.get_ident()

        def waits_again() -> bool:
            # Not still busy with the last signal.
            return waits() and sys._current_frames()[main].f_code is ThreadHost._go_on.__code__

        def run() -> None:
            try:
                for _ in range(times):
                    spin(waits_again)
                    signal.pthread_kill(main, signal.SIGUSR1)
                    assert self.handled.acquire(timeout=PATIENCE_S)
                spin(waits_again)
                self.log.append("still waits")
            finally:
                release()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread


def spin(until: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if until():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not come to this")


@pytest.fixture
def tormentor(host, log) -> Iterator[Tormentor]:
    tormentor = Tormentor(host, log)
    before = signal.signal(signal.SIGUSR1, tormentor.handle)
    yield tormentor
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("times", [1, 3])
def test_an_exception_during_sem_down_comes_when_it_was_obtained(host, log, tormentor, times):
    sem = host.sem_alloc(0)
    thread = tormentor.torment(lambda: waiting(sem) == 1, times, lambda: host.sem_up(sem))
    with pytest.raises(Interrupt):
        host.sem_down(sem)
    thread.join(PATIENCE_S)
    assert log == ["signal"] * times + ["still waits"]
    assert (sem.count, waiting(sem)) == (0, 0)


def test_the_hook_takes_the_exception_at_once_and_sem_down_does_not_raise_it(host, log, tormentor):
    sem = host.sem_alloc(0)
    host.on_interrupt = lambda exc: log.append(type(exc))
    thread = tormentor.torment(lambda: waiting(sem) == 1, 2, lambda: host.sem_up(sem))
    host.sem_down(sem)
    thread.join(PATIENCE_S)
    assert [entry for entry in log if entry != "still waits"] == ["signal", Interrupt, "signal", Interrupt]


def test_an_exception_during_mutex_lock_comes_when_it_is_held(host, log, tormentor):
    mutex, gate = host.mutex_alloc(False), host.sem_alloc(0)

    def hold() -> None:
        host.mutex_lock(mutex)
        host.sem_down(gate)
        host.mutex_unlock(mutex)

    holder = queue_up(host, gate, hold)
    tormentor.torment(lambda: waiting(mutex) == 1, 1, lambda: host.sem_up(gate))
    with pytest.raises(Interrupt):
        host.mutex_lock(mutex)
    host.mutex_unlock(mutex)
    finish(host, holder)
    host.mutex_free(mutex)


def test_an_exception_during_thread_join_comes_when_the_thread_has_ended(host, log, tormentor):
    sem = host.sem_alloc(0)
    tid = queue_up(host, sem, lambda: (host.sem_down(sem), log.append("ended")))
    tormentor.torment(lambda: waiting(host._threads[tid].end) == 1, 1, lambda: host.sem_up(sem))
    with pytest.raises(Interrupt):
        host.thread_join(tid)
    assert log == ["signal", "still waits", "ended"]
    assert host.live().threads == 0


def test_an_exception_during_idle_sleep_comes_at_once_and_rings(host, tormentor):
    """Idle is the application's: Ctrl-C ends it. The wake-up that it may have swallowed is given back."""
    main = threading.get_ident()

    def send() -> None:
        spin(lambda: sys._current_frames()[main].f_code is ThreadHost.idle_sleep.__code__)
        signal.pthread_kill(main, signal.SIGUSR1)

    threading.Thread(target=send, daemon=True).start()
    with pytest.raises(Interrupt):
        host.idle_sleep(None)
    assert host._doorbell.acquire(blocking=False)


def test_a_signal_handler_may_wake_idle(host):
    before = signal.signal(signal.SIGUSR1, lambda number, frame: host.idle_wake())
    try:
        main = threading.get_ident()
        sender = threading.Thread(target=signal.pthread_kill, args=(main, signal.SIGUSR1), daemon=True)
        sender.start()
        host.idle_sleep(None)
        sender.join(PATIENCE_S)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_main_thread_never_blocks_for_good_because_it_runs_the_signal_handlers(host, log):
    """A signal that comes just before a lock blocks does not interrupt it, and would wait for the next wake-up."""

    class Doorbell:
        def acquire(self, timeout: float) -> bool:
            log.append(timeout)
            return len(log) > 1

    host._doorbell = Doorbell()
    host.idle_sleep(None)
    assert log == [SIGNAL_POLL_S] * 2
    assert host._nap_s() == SIGNAL_POLL_S
    assert in_os_thread(host._nap_s) == threading.TIMEOUT_MAX


class TrickyLock:
    """A lock of which one call is hit by an exception, before it takes effect or just after."""

    def __init__(self, lock: threading.Lock, when: str, calls_before: int = 0) -> None:
        self._lock = lock
        self._when = when
        self._calls_before = calls_before

    def _hit(self, when: str) -> None:
        if when != self._when:
            return
        self._calls_before -= 1
        if self._calls_before == -1:
            raise Interrupt

    def acquire(self, timeout: float = -1) -> bool:
        self._hit("before")
        acquired = self._lock.acquire(timeout=timeout)
        self._hit("after")
        return acquired

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self._hit("before")
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()
        self._hit("after")


class TrickyWaiter(threads_module._Waiter):
    """A wait whose second `acquire()` is hit; the first only prepares the bell."""

    when = "never"

    @property
    def bell(self) -> TrickyLock:
        return self.tricky

    @bell.setter
    def bell(self, lock: threading.Lock) -> None:
        self.tricky = TrickyLock(lock, self.when, calls_before=1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_exception_right_at_the_return_of_the_wait_is_neither_lost_nor_loses_the_semaphore(
    host, log, monkeypatch, when
):
    sem = host.sem_alloc(0)

    def sleeper() -> None:
        try:
            host.sem_down(sem)
        except Interrupt:
            log.append((sem.count, waiting(sem)))

    with monkeypatch.context() as tricky:
        tricky.setattr(TrickyWaiter, "when", when)
        tricky.setattr(threads_module, "_Waiter", TrickyWaiter)
        tid = start(host, sleeper)
        spin(lambda: waiting(sem) == 1)
    host.sem_up(sem)
    finish(host, tid)
    assert log == [(0, 0)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_exception_at_the_hosts_own_lock_leaves_nothing_half_done(host, monkeypatch, when):
    sem = host.sem_alloc(0)
    for operation, count in [(host.sem_up, 1), (host.sem_down, 0)]:
        with monkeypatch.context() as tricky:
            tricky.setattr(host, "_lock", TrickyLock(threading.Lock(), when))
            with pytest.raises(Interrupt):
                operation(sem)
        assert sem.count == count


def test_a_storm_of_signals_loses_no_semaphore(host, log):
    """The handler raises, once per turn, in the code of the semaphores and past its entry: there the promise holds."""
    here, there, rounds = host.sem_alloc(0), host.sem_alloc(0), 500
    codes = {ThreadHost._go_on.__code__, ThreadHost._line_up.__code__, ThreadHost._give.__code__}
    struck: list[int] = []

    def handle(number: int, frame) -> None:
        if not struck and frame.f_code in codes and frame.f_lineno > frame.f_code.co_firstlineno:
            struck.append(frame.f_lineno)
            raise Interrupt

    def echo() -> None:
        for _ in range(rounds):
            host.sem_down(there)
            host.sem_up(here)

    before = signal.signal(signal.SIGALRM, handle)
    tid = start(host, echo)
    signal.setitimer(signal.ITIMER_REAL, 2e-5, 2e-5)
    try:
        for _ in range(rounds):
            struck.clear()
            for operation, sem in [(host.sem_up, there), (host.sem_down, here)]:
                try:
                    operation(sem)
                except Interrupt:
                    log.append(operation.__name__)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, lambda *_: None)
        time.sleep(0.001)  # the last signal is handled before nobody handles it: CPython complains of that
        signal.signal(signal.SIGALRM, before)
    finish(host, tid)
    assert log, "no signal came at the right moment"
    assert (here.count, there.count, waiting(here), waiting(there)) == (0, 0, 0, 0)


# -- the end


def test_a_thread_that_does_not_want_to_exit_is_given_up_and_reported(host, log, console, monkeypatch):
    monkeypatch.setattr(threads_module, "UNWIND_TIMEOUT_S", 0.3)
    sem = host.sem_alloc(0)

    def stubborn() -> None:
        while len(log) < 100:
            try:
                host.sem_down(sem)
            except BaseException as exc:
                log.append(type(exc).__name__)

    tid = queue_up(host, sem, stubborn)
    host.host_cleanup()
    # The first refusal comes to the wait under way, the others to new waits; then it waits for good.
    assert log == ["HostThreadExit"] * (UNWIND_TRIES + 1)
    assert console[1] == f"host_cleanup: host thread(s) {tid} did not exit, and are left as they are\n"
    assert host.live().threads == 1


def test_a_thread_that_is_busy_elsewhere_is_not_waited_for_for_ever(host, console, monkeypatch):
    monkeypatch.setattr(threads_module, "UNWIND_TIMEOUT_S", 0.1)
    busy = threading.Event()
    start(host, lambda: busy.wait(PATIENCE_S))
    host.host_cleanup()
    assert "did not exit" in console[1]
    busy.set()


def test_while_threads_are_unwound_no_new_ones_start(host, log):
    sem = host.sem_alloc(0)

    def sleeper() -> None:
        try:
            host.sem_down(sem)
        finally:
            log.append(host.thread_create(log.append, "never"))

    queue_up(host, sem, sleeper)
    host.host_cleanup()
    assert log == [0]


def test_a_foreign_os_thread_that_waits_is_left_alone_at_cleanup(host, log):
    sem = host.sem_alloc(0)
    foreign = threading.Thread(target=lambda: (host.sem_down(sem), log.append("obtained")), daemon=True)
    foreign.start()
    settle(host, lambda: waiting(sem) == 1)
    host.host_cleanup()
    assert foreign.is_alive()
    host.sem_up(sem)
    foreign.join(PATIENCE_S)
    assert log == ["obtained"]


def test_a_foreign_thread_can_be_looked_at(host):
    sem = host.sem_alloc(0)
    box: list[int] = []
    foreign = threading.Thread(target=lambda: (box.append(host.thread_self()), host.sem_down(sem)), daemon=True)
    foreign.start()
    settle(host, lambda: waiting(sem) == 1)
    assert host.thread_stack(box[0]) is not None
    host.sem_up(sem)
    foreign.join(PATIENCE_S)
    assert host.thread_stack(box[0]) is None


def test_a_host_that_nobody_refers_to_goes_away_without_running_destructors(log):
    """The thread did not end."""
    import gc

    host = ThreadHost()
    host.tls_set(host.tls_alloc(log.append), "value")
    del host
    gc.collect()
    assert log == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_child_does_not_end_its_parents_threads():
    """In the child the other threads are gone, but they did not end there: no destructor runs."""
    script = """
        import os, threading
        from lkl_green.host.threads import ThreadHost
        host = ThreadHost()
        key = host.tls_alloc(lambda value: print("destructor", value, os.getpid() == parent, flush=True))
        parent, ready, go_on = os.getpid(), threading.Event(), threading.Event()
        thread = threading.Thread(target=lambda: (host.tls_set(key, 1), ready.set(), go_on.wait()))
        thread.start()
        ready.wait()
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        go_on.set()
        thread.join()
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("destructor 1 True\n", "")


def test_leaving_the_interpreter_without_cleanup_is_quiet():
    script = """
        from lkl_green.host.threads import ThreadHost
        host = ThreadHost()
        host.host_init()
        key = host.tls_alloc(lambda value: print("destructor", value))
        host.tls_set(key, 1)
        sem = host.sem_alloc(0)
        host.thread_create(lambda _: (host.tls_set(key, 2), host.sem_down(sem)), None)
        host.thread_join(host.thread_create(lambda _: None, None))
        print("end")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=30, check=True
    )
    assert (done.stdout, done.stderr) == ("end\n", "")


def test_breathing_gives_others_a_turn(host, log):
    tid = start(host, log.append, "ran")
    breathe(host)
    finish(host, tid)
    assert log == ["ran"]
