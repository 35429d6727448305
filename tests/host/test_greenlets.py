"""What is special about host threads that are greenlets."""

from __future__ import annotations

import contextlib
import gc
import itertools
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from greenlet import getcurrent, greenlet

from lkl_green.errors import ForeignGreenlet, HostDeadlock, HostMisuse, WrongHostThread
from lkl_green.host.greenlets import UNWIND_TRIES, GreenletHost

from .stories import breathe, finish, in_host_thread, in_os_thread, queue_up, start, waiting


@pytest.fixture
def host(make_host) -> GreenletHost:
    return make_host("greenlets")


class Interrupt(Exception):
    """What a signal handler raises."""


def greenlets_alive() -> int:
    gc.collect()
    return sum(isinstance(thing, greenlet) for thing in gc.get_objects())


def come_back(host):
    """Let a host thread switch to the caller, by greenlet's own means, as soon as it may run."""
    start(host, getcurrent().switch)


# -- order


def test_nothing_runs_before_somebody_blocks_and_then_in_the_order_of_creation(host, log):
    tids = [start(host, log.append, name) for name in "abc"]
    assert log == []
    finish(host, *tids)
    assert log == ["a", "b", "c"]


def test_sem_up_and_mutex_unlock_do_not_switch(host, log):
    sem, mutex = host.sem_alloc(0), host.mutex_alloc(False)
    host.mutex_lock(mutex)
    tids = [
        queue_up(host, sem, lambda: (host.sem_down(sem), log.append("upped"))),
        queue_up(host, mutex, lambda: (host.mutex_lock(mutex), host.mutex_unlock(mutex), log.append("unlocked"))),
    ]
    host.sem_up(sem)
    host.mutex_unlock(mutex)
    log.append("still me")
    finish(host, *tids)
    assert log == ["still me", "upped", "unlocked"]


def test_a_new_thread_and_a_woken_one_run_in_the_order_in_which_they_became_ready(host, log):
    sem = host.sem_alloc(0)
    tids = [queue_up(host, sem, lambda: (host.sem_down(sem), log.append("woken")))]
    tids.append(start(host, log.append, "new 1"))
    host.sem_up(sem)
    tids.append(start(host, log.append, "new 2"))
    finish(host, *tids)
    assert log == ["new 1", "woken", "new 2"]


def test_a_switch_goes_straight_from_the_thread_that_blocks_to_the_next(host, log):
    """No hub between them: greenlet's own trace shows one switch."""
    here, there = host.sem_alloc(0), host.sem_alloc(0)
    contexts = {}

    def ping() -> None:
        contexts["ping"] = getcurrent()
        host.sem_down(here)
        host.sem_up(there)
        host.sem_down(here)

    def pong() -> None:
        contexts["pong"] = getcurrent()
        host.sem_down(there)
        host.sem_up(here)

    ping_tid, pong_tid = queue_up(host, here, ping), queue_up(host, there, pong)
    names = {context: name for name, context in contexts.items()} | {getcurrent(): "main"}
    host.sem_up(here)
    before = sys.modules["greenlet"].settrace(
        lambda event, route: log.append(tuple(names.get(context, "launcher") for context in route))
    )
    try:
        finish(host, ping_tid, pong_tid)
    finally:
        sys.modules["greenlet"].settrace(before)
    # Main waits; ping wakes pong and blocks; pong ends, and only then the launcher has a part.
    assert log[:3] == [("main", "ping"), ("ping", "pong"), ("pong", "launcher")]


# -- stacks


def test_twenty_thousand_generations_run_in_flat_memory(host, log):
    """Each thread starts the next and ends: neither the C stack nor the heap may grow."""
    done = host.sem_alloc(0)

    def generation(number: int) -> None:
        host.thread_detach()
        if number in (2_000, 20_000):
            log.append(len(gc.get_objects()))
        if number == 20_000:
            host.sem_up(done)
        else:
            host.thread_create(generation, number + 1)

    host.thread_create(generation, 1)
    host.sem_down(done)
    assert abs(log[1] - log[0]) < 500
    breathe(host)
    assert host.live().threads == 0


def test_a_thread_that_is_started_from_deep_recursion_starts_at_the_top(host, log):
    def dig(depth: int, bottom) -> None:
        if depth:
            dig(depth - 1, bottom)
        else:
            bottom()

    def level(number: int) -> None:
        if number == 0:
            log.append("reached")
        else:
            # The creator blocks down there until the child, which digs as deep, has ended.
            dig(600, lambda: finish(host, start(host, level, number - 1)))

    level(10)
    assert log == ["reached"]


def test_no_greenlet_is_left_after_cleanup():
    before = greenlets_alive()
    host = GreenletHost()
    host.host_init()
    sem = host.sem_alloc(0)
    queue_up(host, sem, host.sem_down, sem)
    start(host, print)
    finish(host, start(host, lambda: None))
    host._console = lambda text: None
    host.host_cleanup()
    del sem
    assert greenlets_alive() == before


# -- deadlock


def test_blocking_when_nobody_is_ready_is_an_error_that_names_who_waits(host):
    sem, mutex = host.sem_alloc(0), host.mutex_alloc(False)
    host.mutex_lock(mutex)
    other = queue_up(host, mutex, host.mutex_lock, mutex)
    with pytest.raises(HostDeadlock, match=f"host thread {other} in mutex_lock, the application in sem_down"):
        host.sem_down(sem)


def test_the_wait_of_a_deadlock_is_undone(host):
    sem, mutex = host.sem_alloc(0), host.mutex_alloc(False)
    with pytest.raises(HostDeadlock):
        host.sem_down(sem)
    assert waiting(sem) == 0
    host.sem_up(sem)
    host.sem_down(sem)
    tid = queue_up(host, sem, lambda: (host.mutex_lock(mutex), host.sem_down(sem)))
    with pytest.raises(HostDeadlock):
        host.mutex_lock(mutex)
    with pytest.raises(HostDeadlock, match=rf"thread_join\({tid}\)"):
        host.thread_join(tid)
    host.sem_up(sem)
    assert host.thread_join(tid) == 0
    host.sem_free(sem)


def test_a_deadlock_is_raised_in_the_thread_that_tried_to_block(host, log):
    sem = host.sem_alloc(0)

    def child() -> None:
        try:
            host.sem_down(sem)
        except HostDeadlock:
            log.append("child")

    assert host.thread_join(start(host, child)) == 0
    assert log == ["child"]


def test_if_the_last_running_thread_ends_the_waiting_application_is_told(host, log):
    sem = host.sem_alloc(0)
    start(host, log.append, "ended")
    with pytest.raises(HostDeadlock, match="the application in sem_down"):
        host.sem_down(sem)
    assert log == ["ended"]
    assert waiting(sem) == 0


def test_of_several_greenlets_of_the_application_the_main_one_is_told(host, log):
    sem = host.sem_alloc(0)

    def visit() -> None:
        try:
            host.sem_down(sem)
        except HostDeadlock:
            log.append("the other is told")

    come_back(host)
    visitor = greenlet(visit)
    visitor.switch()
    assert waiting(sem) == 1
    start(host, log.append, "ended")
    with pytest.raises(HostDeadlock):
        host.sem_down(host.sem_alloc(0))
    assert log == ["ended"]
    visitor.throw()


# -- OS threads


OWNERS_ONLY = {
    "sem_alloc": lambda host, sem, mutex: host.sem_alloc(0),
    "sem_free": lambda host, sem, mutex: host.sem_free(sem),
    "sem_up": lambda host, sem, mutex: host.sem_up(sem),
    "sem_down": lambda host, sem, mutex: host.sem_down(sem),
    "mutex_alloc": lambda host, sem, mutex: host.mutex_alloc(False),
    "mutex_free": lambda host, sem, mutex: host.mutex_free(mutex),
    "mutex_lock": lambda host, sem, mutex: host.mutex_lock(mutex),
    "mutex_unlock": lambda host, sem, mutex: host.mutex_unlock(mutex),
    "thread_create": lambda host, sem, mutex: host.thread_create(print, None),
    "thread_join": lambda host, sem, mutex: host.thread_join(1),
    "host_cleanup": lambda host, sem, mutex: host.host_cleanup(),
}


@pytest.mark.parametrize("operation", OWNERS_ONLY)
def test_what_may_switch_belongs_to_the_owner(host, operation):
    sem, mutex = host.sem_alloc(1), host.mutex_alloc(False)
    with pytest.raises(WrongHostThread, match=f"{operation}: .* belongs to OS thread {threading.get_ident()}"):
        in_os_thread(lambda: OWNERS_ONLY[operation](host, sem, mutex))
    assert sem.count == 1
    host.sem_free(sem)
    host.mutex_free(mutex)


def test_the_rest_works_from_any_os_thread(host, console):
    key = host.tls_alloc()

    def visit() -> tuple[object, ...]:
        host.print("hello")
        host.mem_free(host.mem_alloc(3))
        host.timer_free(host.timer_alloc(print, None))
        host.idle_wake()
        host.tls_set(key, "foreign")
        mine = host.thread_self()
        return mine, host.gettid(), host.thread_equal(mine, host.thread_self()), host.tls_get(key), host.time() > 0

    tid, *rest = in_os_thread(visit)
    assert tid != host.thread_self()
    assert rest == [tid, True, "foreign", True]
    assert console == ["hello"]


def test_another_os_thread_can_see_where_the_owner_is(host):
    tid = host.thread_self()
    sem = host.sem_alloc(0)
    blocked = queue_up(host, sem, host.sem_down, sem)
    running, parked = in_os_thread(lambda: (host.thread_stack(tid), host.thread_stack(blocked)))
    assert running is not None
    assert parked.f_code.co_name == "sem_down"


def test_after_the_owner_has_ended_another_os_thread_can_own_the_host(log):
    host = GreenletHost()
    in_os_thread(host.host_init)
    with pytest.raises(HostMisuse, match="no kernel uses this host"):
        host.sem_alloc(0)
    host.host_init()
    finish(host, start(host, log.append, "runs"))
    host.host_cleanup()
    assert log == ["runs"]


# -- the application's own greenlets


def test_each_greenlet_of_the_application_is_a_thread_of_its_own(host):
    key = host.tls_alloc()
    host.tls_set(key, "main")
    tids = [host.thread_self()]

    def visit() -> object:
        tids.append(host.thread_self())
        tids.append(host.thread_self())
        return host.tls_get(key)

    assert greenlet(visit).switch() is None
    assert tids[1] == tids[2] != tids[0]
    assert host.tls_get(key) == "main"


def test_an_adopted_greenlet_is_not_kept_alive(host):
    for _ in range(5):
        greenlet(host.thread_self).switch()
    gc.collect()
    assert host._visitors.items() == []


def test_their_destructors_run_as_themselves_when_the_os_thread_ends(log):
    host = GreenletHost()
    key = host.tls_alloc(lambda value: log.append((value, host.thread_self())))

    def application() -> list[tuple[str, int]]:
        host.host_init()
        found = []

        def visit(name: str) -> None:
            host.tls_set(key, name)
            found.append((name, host.thread_self()))

        for name in "ab":
            greenlet(visit).switch(name)
        host.tls_set(key, "main")
        found.append(("main", host.thread_self()))
        host.host_cleanup()
        return found

    found = in_os_thread(application)
    assert sorted(log) == sorted(found)
    assert len(found) == 3


def test_greenlets_of_the_application_may_block(host, log):
    sem = host.sem_alloc(0)

    def visitor() -> None:
        host.sem_down(sem)
        log.append("visitor")

    waker = start(host, host.sem_up, sem)
    greenlet(visitor).switch()
    finish(host, waker)
    assert log == ["visitor"]


def test_a_switch_by_the_application_does_not_end_a_wait(host, log):
    sem = host.sem_alloc(0)
    contexts = []

    def sleeper() -> None:
        contexts.append(getcurrent())
        host.sem_down(sem)
        log.append("obtained")

    tid = queue_up(host, sem, sleeper)
    come_back(host)
    contexts[0].switch()
    assert log == []
    assert waiting(sem) == 1
    host.sem_up(sem)
    finish(host, tid)
    assert log == ["obtained"]


# -- exceptions that come into a wait


class Visit:
    """A greenlet of the application that waits for a semaphore."""

    def __init__(self, host, log) -> None:
        self.sem = host.sem_alloc(0)
        self.done = host.sem_alloc(0)
        self.context = greenlet(lambda: self._run(host, log))
        come_back(host)
        self.context.switch()
        assert waiting(self.sem) == 1

    def _run(self, host, log) -> None:
        try:
            host.sem_down(self.sem)
            log.append("obtained")
        except Exception as exc:
            log.append(type(exc))
        host.sem_up(self.done)


def test_an_exception_during_a_wait_comes_when_the_semaphore_was_obtained(host, log):
    visit = Visit(host, log)
    come_back(host)
    visit.context.throw(Interrupt())
    assert log == []
    assert waiting(visit.sem) == 1
    host.sem_up(visit.sem)
    host.sem_down(visit.done)
    assert log == [Interrupt]
    assert visit.sem.count == 0


def test_an_exception_that_comes_between_sem_up_and_the_return_is_raised_and_the_semaphore_obtained(host, log):
    visit = Visit(host, log)
    host.sem_up(visit.sem)
    visit.context.throw(Interrupt())
    assert log == [Interrupt]
    assert (visit.sem.count, waiting(visit.sem), visit.done.count) == (0, 0, 1)


def test_the_hook_takes_the_exception_at_once_and_the_wait_goes_on(host, log):
    visit = Visit(host, log)
    host.on_interrupt = lambda exc: log.append(("hook", type(exc)))
    come_back(host)
    visit.context.throw(Interrupt())
    assert log == [("hook", Interrupt)]
    host.sem_up(visit.sem)
    host.sem_down(visit.done)
    assert log == [("hook", Interrupt), "obtained"]


def test_what_the_hook_raises_is_raised_after_the_wait(host, log):
    def hook(exc: BaseException) -> None:
        raise LookupError

    visit = Visit(host, log)
    host.on_interrupt = hook
    come_back(host)
    visit.context.throw(Interrupt())
    host.sem_up(visit.sem)
    host.sem_down(visit.done)
    assert log == [LookupError]


def test_an_application_greenlet_that_is_killed_leaves_its_queue(host, log):
    visit = Visit(host, log)
    visit.context.throw()
    assert visit.context.dead
    assert waiting(visit.sem) == 0
    host.sem_free(visit.sem)


def test_one_that_is_killed_when_it_was_let_go_passes_the_semaphore_on(host, log):
    visit = Visit(host, log)
    host.sem_up(visit.sem)
    visit.context.throw()
    assert visit.sem.count == 1
    assert list(host._ready) == []


def test_a_lock_obtained_with_an_exception_is_held(host, log):
    mutex = host.mutex_alloc(False)
    back = getcurrent()

    def visit() -> None:
        try:
            host.mutex_lock(mutex)
        except Interrupt:
            host.mutex_unlock(mutex)
            log.append("held it")

    holder = queue_up(host, gate := host.sem_alloc(0), lambda: hold(host, mutex, gate))
    visitor = greenlet(visit)
    come_back(host)
    visitor.switch()
    come_back(host)
    visitor.throw(Interrupt())
    host.sem_up(gate)
    finish(host, holder)
    breathe(host)
    assert log == ["held it"]
    assert back is getcurrent()
    host.mutex_free(mutex)


def hold(host, mutex, gate) -> None:
    host.mutex_lock(mutex)
    host.sem_down(gate)
    host.mutex_unlock(mutex)


def test_ctrl_c_in_a_host_thread_ends_the_thread_and_reaches_the_application(host, log, console):
    def struck() -> None:
        raise KeyboardInterrupt

    tid = start(host, struck)
    with pytest.raises(KeyboardInterrupt):
        host.thread_join(tid)
    assert "KeyboardInterrupt" in console[0]
    assert host.live().threads == 0
    finish(host, start(host, log.append, "goes on"))
    assert log == ["goes on"]


def test_ctrl_c_at_the_very_entry_of_a_thread_does_not_lose_the_thread(host, log):
    tid = start(host, log.append, "runs")
    with pytest.raises(KeyboardInterrupt):
        # An exception thrown into a greenlet that never ran rises in its parent, the launcher.
        host._new[0].greenlet.throw(KeyboardInterrupt())
    finish(host, tid)
    assert log == ["runs"]


def test_an_exception_anywhere_in_the_launcher_loses_no_thread(log):
    """Also where its loop jumps back, which is outside a `try` that begins in the loop."""
    reached = itertools.count(1)
    for nth in reached:
        if not launch_with_an_exception(nth, log):
            break
        assert log.pop() == log.pop() == "ran"
    assert nth > 10


def launch_with_an_exception(nth: int, log: list[str]) -> bool:
    """Run two threads, with an exception at the nth line that the launcher runs; whether there is such a line."""
    host, lines, raised = GreenletHost(), itertools.count(1), []

    def trace_call(frame, event, arg):
        return trace_line if frame.f_code is GreenletHost._launch.__code__ else None

    def trace_line(frame, event, arg):
        if event == "line" and created and next(lines) == nth:
            raised.append(frame.f_lineno)
            raise KeyboardInterrupt
        return trace_line

    created: list[int] = []
    sys.settrace(trace_call)
    try:
        host.host_init()
        created += [host.thread_create(log.append, "ran") for _ in range(2)]
        for tid in created:
            with contextlib.suppress(KeyboardInterrupt):  # it is raised after the wait
                host.thread_join(tid)
    finally:
        sys.settrace(None)
    host.host_cleanup()
    return bool(raised)


def test_a_storm_of_signals_loses_no_semaphore_and_no_thread(host, log):
    """The handler raises, once per turn, in the code of the semaphores and past its entry: there the promise holds."""
    here, there, rounds = host.sem_alloc(0), host.sem_alloc(0), 1_000
    codes = {GreenletHost.sem_down.__code__, GreenletHost.sem_up.__code__}
    struck: list[int] = []

    def handle(number: int, frame) -> None:
        if not struck and frame.f_code in codes and frame.f_lineno > frame.f_code.co_firstlineno:
            struck.append(frame.f_lineno)
            raise Interrupt

    def turns(mine, others) -> None:
        for _ in range(rounds):
            struck.clear()
            for operation, sem in [(host.sem_up, others), (host.sem_down, mine)]:
                try:
                    operation(sem)
                except Interrupt:
                    log.append(operation.__name__)

    before = signal.signal(signal.SIGALRM, handle)
    tid = start(host, turns, there, here)
    signal.setitimer(signal.ITIMER_REAL, 2e-5, 2e-5)
    try:
        turns(here, there)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, lambda *_: None)
        time.sleep(0.001)  # the last signal is handled before nobody handles it: CPython complains of that
        signal.signal(signal.SIGALRM, before)
    finish(host, tid)
    assert log, "no signal came at the right moment"
    assert (here.count, there.count, waiting(here), waiting(there)) == (0, 0, 0, 0)
    assert list(host._ready) == []


# -- the end


def test_a_thread_that_never_ran_is_dropped_without_running(host, log, console):
    tid = start(host, log.append, "ran")
    host.host_cleanup()
    assert log == []
    assert f"host thread(s) {tid} had not ended" in console[0]
    host.host_init()
    breathe(host)
    assert log == []


def test_a_thread_that_does_not_want_to_exit_is_given_up_and_reported(host, log, console):
    sem = host.sem_alloc(0)

    def stubborn() -> None:
        while len(log) < 100:
            try:
                host.sem_down(sem)
            except BaseException as exc:
                log.append(type(exc).__name__)

    tid = queue_up(host, sem, stubborn)
    host.host_cleanup()
    assert log == ["HostThreadExit"] * UNWIND_TRIES
    assert console[1] == f"host_cleanup: host thread(s) {tid} did not exit, and are left as they are\n"
    assert host.live().threads == 1


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


def test_a_thread_that_was_let_go_but_is_unwound_passes_the_semaphore_on(host, log):
    sem = host.sem_alloc(0)
    queue_up(host, sem, lambda: (host.sem_down(sem), log.append("ran")))
    host.sem_up(sem)
    host.host_cleanup()
    assert log == []
    assert sem.count == 1


def test_cleanup_in_a_greenlet_that_a_host_thread_made_is_refused(host):
    """It would be ended by the end of the thread that made it."""
    with pytest.raises(HostMisuse, match="called by a host thread"):
        in_host_thread(host, lambda: greenlet(host.host_cleanup).switch())


def test_cleanup_may_come_from_another_greenlet_than_init(log):
    host = GreenletHost()
    greenlet(host.host_init).switch()
    finish(host, start(host, log.append, "ran"))
    greenlet(host.host_cleanup).switch()
    assert log == ["ran"]


def test_leaving_the_interpreter_without_cleanup_is_quiet():
    script = """
        import threading
        from lkl_green.host.greenlets import GreenletHost
        host = GreenletHost()
        host.host_init()
        key = host.tls_alloc(lambda value: print("destructor", value))
        host.tls_set(key, 1)
        sem = host.sem_alloc(0)
        host.thread_create(lambda _: host.sem_down(sem), None)
        host.thread_join(host.thread_create(lambda _: None, None))
        host.timer_set_oneshot(host.timer_alloc(print, None), 10**13)
        print("end")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=30, check=True
    )
    assert (done.stdout, done.stderr) == ("end\n", "")


# -- greenlets of a host thread's own


def test_a_host_thread_blocks_in_a_greenlet_of_its_own_and_is_itself_there(host, log):
    def inner():
        log.append(host.thread_self() == tid)
        host.sem_down(sem)
        return "upped"

    sem = host.sem_alloc(0)
    tid = start(host, lambda: log.append(greenlet(inner).switch()))
    breathe(host)
    host.sem_up(sem)
    finish(host, tid)
    assert log == [True, "upped"]


@pytest.mark.parametrize("outcome", ["result", Interrupt("inner")])
def test_code_that_resumes_a_blocked_thread_is_told_so_and_the_thread_waits_on(host, log, outcome):
    def inner():
        getcurrent().parent.switch()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def blocked():
        shared.append(greenlet(inner))
        shared[0].switch()
        host.sem_down(sem)
        log.append("upped")

    def intruder():
        with pytest.raises(ForeignGreenlet, match="resumed a host thread that is blocked"):
            shared[0].switch()
        log.append("intruder goes on")
        host.sem_up(sem)

    shared = []
    sem = host.sem_alloc(0)
    tids = [start(host, blocked), start(host, intruder)]
    finish(host, *tids)
    assert log == ["intruder goes on", "upped"]
