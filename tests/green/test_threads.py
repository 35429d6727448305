"""Ordinary threading programs, unmodified, as kernel threads in virtual time."""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import queue
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green import lkl_start_kernel
from lkl_green.errors import Deadlock, Escape, KernelBug, KernelHalted, ThreadsInstalled
from lkl_green.green import as_main, green_threads, run_threads
from lkl_green.linux import current, kthread_park, kthread_run, kthread_stop, msleep

if TYPE_CHECKING:
    from collections.abc import Callable

INHERITED = bool(getattr(sys.flags, "thread_inherit_context", False))  # -X thread_inherit_context=1

made_earlier = Lock()
made_earlier_too = threading.RLock()
local_made_earlier = threading.local()


@dataclass
class Account:
    lock: Any = field(default_factory=threading.Lock)
    balance: int = 0


def start(*functions: Callable[[], object], names: str = "") -> list[threading.Thread]:
    threads = [
        threading.Thread(target=function, name=name or None)
        for function, name in zip(functions, names.split() or [""] * len(functions), strict=True)
    ]
    for thread in threads:
        thread.start()
    return threads


def start_and_join(*functions: Callable[[], object]) -> None:
    for thread in start(*functions):
        thread.join()


# -- stories


def test_a_producer_and_a_consumer_meet_over_a_bounded_queue(log: list[Any]) -> None:
    def program() -> float:
        items: queue.Queue[int | None] = queue.Queue(maxsize=2)
        began = time.monotonic()

        def produce() -> None:
            for number in range(5):
                items.put(number)
                time.sleep(10)
            items.put(None)

        start(produce)
        while (item := items.get(timeout=60)) is not None:
            log.append(item)
        return time.monotonic() - began

    assert 50 <= run_threads(program) < 51
    assert log == [0, 1, 2, 3, 4]


def test_an_hour_passes_at_once_and_the_day_is_always_the_same() -> None:
    def program() -> tuple[int, int]:
        time.sleep(3600)
        return time.gmtime().tm_year, time.gmtime().tm_hour

    assert run_threads(program) == (2000, 1)


def test_what_completes_first_comes_first() -> None:
    def program() -> tuple[list[int], list[str]]:
        def work(seconds: int) -> int:
            time.sleep(seconds)
            return seconds

        with ThreadPoolExecutor(3) as pool:
            done = [future.result() for future in as_completed([pool.submit(work, n) for n in (9, 1, 4)])]
            with pytest.raises(TimeoutError):
                pool.submit(work, 50).result(timeout=5)
        return done, [thread.name for thread in threading.enumerate()]

    assert run_threads(program) == ([1, 4, 9], ["MainThread"])


def test_a_pool_that_nobody_shuts_down_is_no_deadlock() -> None:
    def program() -> int:
        return ThreadPoolExecutor(2).submit(lambda: 42).result()

    assert run_threads(program) == 42
    assert ThreadPoolExecutor(1).submit(lambda: 7).result() == 7  # and the next pool, outside, is none the wiser


def test_pools_that_nobody_shut_down_in_one_kernel_leave_the_next_one_its_pools() -> None:
    with green_threads():
        for _ in range(2):
            kernel = lkl_start_kernel(
                as_main(lambda: ThreadPoolExecutor(2).submit(lambda: 42).result()), clock="virtual"
            )
            assert kernel.run() == 42


def test_a_barrier_lets_all_through_when_the_last_has_come(log: list[Any]) -> None:
    def program() -> None:
        barrier = threading.Barrier(3, action=lambda: log.append("all here"))

        def runner(seconds: int) -> None:
            time.sleep(seconds)
            barrier.wait()
            log.append(round(time.monotonic()))

        start_and_join(lambda: runner(1), lambda: runner(2), lambda: runner(3))

    run_threads(program)
    assert log == ["all here", 3, 3, 3]


def test_a_timer_fires_on_the_kernels_clock_or_is_cancelled(log: list[Any]) -> None:
    def program() -> None:
        kept, cancelled = (threading.Timer(2.5, log.append, [name]) for name in ("fired", "cancelled"))
        kept.start()
        cancelled.start()
        cancelled.cancel()
        kept.join()
        log.append(round(time.monotonic(), 1))

    run_threads(program)
    assert log == ["fired", 2.5]


def test_each_thread_has_locals_and_context_of_its_own() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def program() -> list[Any]:
        class Counter(threading.local):
            def __init__(self, begin: int) -> None:
                self.number = begin

        seen: list[Any] = []
        counter = Counter(10)
        counter.number += 1
        variable.set("main")

        def look() -> None:
            counter.number += 5
            time.sleep(1)
            seen.append((counter.number, variable.get(), hasattr(local_made_earlier, "mine")))
            local_made_earlier.mine = True

        start_and_join(look, look)
        return [*seen, counter.number]

    first = "main" if INHERITED else "unset"
    assert run_threads(program) == [(15, first, False), (15, first, False), 11]


def test_the_main_thread_is_the_main_thread() -> None:
    def program() -> None:
        assert threading.current_thread() is threading.main_thread()
        idents = {threading.get_ident()}

        def me() -> None:
            assert threading.current_thread() is not threading.main_thread()
            idents.add(threading.get_ident())
            assert threading.active_count() == 2
            assert threading.current_thread() in threading.enumerate()

        thread = start(me)[0]
        thread.join()
        assert len(idents) == 2
        assert not thread.is_alive()
        assert thread.name == "Thread-1 (me)"

    run_threads(program)
    run_threads(program)  # names are counted anew in each kernel


def test_a_kernel_thread_that_is_none_of_the_programs_has_a_thread_object_of_its_own(log: list[Any]) -> None:
    def program() -> None:
        def look() -> None:
            me = threading.current_thread()
            msleep(1)
            with pytest.raises(RuntimeError, match="cannot join"):
                me.join()
            log.append((me.name, me is threading.current_thread(), me.ident == threading.get_ident(), me.is_alive()))

        kthread_run(look, name="flusher")
        kthread_run(look, name="reclaim")
        time.sleep(1)

    run_threads(program)
    assert log == [("flusher", True, True, True), ("reclaim", True, True, True)]


@pytest.mark.parametrize("call", [kthread_stop, kthread_park])
def test_kernel_code_cannot_stop_or_park_a_thread_and_is_told_what_to_do(call: Any) -> None:
    def program() -> None:
        task = []
        thread = threading.Thread(target=lambda: (task.append(current()), sleep(1)))
        thread.start()
        sleep(0.5)
        with pytest.raises(KernelBug, match="test a flag of your own, and join"):
            call(*task)
        thread.join()
        with pytest.raises(KernelBug, match="test a flag of your own, and join"):
            call(*task)

    run_threads(program)


# -- what CPython 3.14 brought


def test_a_thread_starts_with_no_context_variables_unless_they_are_inherited() -> None:
    number = contextvars.ContextVar("number", default=0)

    def program() -> list[int]:
        number.set(1)
        seen: list[int] = []
        start_and_join(lambda: (seen.append(number.get()), number.set(2)))
        return [*seen, number.get()]

    assert run_threads(program) == [int(INHERITED), 1]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="Thread(context=) is new in Python 3.14")
def test_a_thread_runs_in_the_context_it_is_given(log: list[Any]) -> None:
    number = contextvars.ContextVar("number", default=0)

    def program() -> None:
        context = contextvars.copy_context()
        context.run(number.set, 1)

        def count() -> None:
            number.set(number.get() + 1)
            time.sleep(1)
            log.append(number.get())

        def thread() -> threading.Thread:
            return threading.Thread(target=count, context=context)  # type: ignore[call-arg, unused-ignore]

        for one in (thread(), thread()):
            one.start()
            one.join()
        together = [thread(), thread()]
        threading.excepthook = lambda args: log.append(args.exc_type)
        for one in together:
            one.start()
        for one in together:
            one.join()
        log.append((context[number], number.get()))

    hook = threading.excepthook
    try:
        run_threads(program)
    finally:
        threading.excepthook = hook
    assert log == [2, 3, RuntimeError, 4, (4, 0)]


@pytest.mark.skipif(not hasattr(_thread, "set_name"), reason="new in Python 3.14, and not for every system")
def test_naming_a_thread_leaves_the_os_thread_that_runs_the_kernel_alone(log: list[Any]) -> None:
    name_of_os_thread: Any = vars(_thread).get("_get_name")
    before = name_of_os_thread()

    def program() -> None:
        def rename() -> None:
            threading.current_thread().name = "somebody else"
            log.append((threading.current_thread().name, name_of_os_thread()))

        start_and_join(rename)

    run_threads(program)
    assert log == [("somebody else", before)]


# -- asyncio


def test_asyncio_runs_in_a_kernel_thread_in_virtual_time() -> None:
    async def nap(seconds: int) -> int:
        await asyncio.sleep(seconds)
        return seconds

    async def main() -> Any:
        naps = await asyncio.gather(nap(300), nap(100), nap(200))
        in_thread = await asyncio.to_thread(lambda: (time.sleep(50), threading.current_thread().name)[1])
        async with asyncio.timeout(5):
            await nap(4)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(nap(1000), timeout=10)
        return naps, in_thread, round(time.monotonic())

    assert run_threads(lambda: asyncio.run(main())) == ([300, 100, 200], "asyncio_0", 364)


def test_two_event_loops_in_two_threads_do_not_mix(log: list[Any]) -> None:
    def program() -> None:
        mutex = threading.Lock()

        async def tick(name: str, seconds: float) -> None:
            me = asyncio.current_task()
            for _ in range(3):
                await asyncio.sleep(seconds)
                with mutex:  # a coroutine that blocks its thread in the middle of a step
                    time.sleep(0.1)
                    log.append((name, asyncio.current_task() is me, asyncio.get_running_loop().time() > 0))

        start_and_join(lambda: asyncio.run(tick("a", 1.0)), lambda: asyncio.run(tick("b", 1.05)))

    run_threads(program)
    assert sorted(log) == [("a", True, True)] * 3 + [("b", True, True)] * 3
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_another_thread_wakes_the_loop() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()

        def call_later() -> None:
            time.sleep(20)
            loop.call_soon_threadsafe(woken.set)

        threading.Thread(target=call_later).start()
        await woken.wait()
        return round(loop.time())

    assert run_threads(lambda: asyncio.run(main())) == 20


# -- names and objects that were there before


def test_names_and_locks_that_were_taken_before_are_replaced(log: list[Any]) -> None:
    account = Account()
    in_a_closure = threading.Condition()

    def program() -> None:
        assert type(made_earlier).__module__.startswith("lkl_green")
        assert type(Account().lock) is type(made_earlier)

        def hold(use_sleep: Callable[[float], None] = sleep) -> None:
            with made_earlier, made_earlier_too:
                log.append(round(monotonic()))
                use_sleep(10)

        start_and_join(hold, hold)

        def wait() -> None:
            with in_a_closure:
                assert in_a_closure.wait(60)
                log.append("notified")

        waiting = start(wait)
        time.sleep(1)
        with in_a_closure:
            in_a_closure.notify()
        waiting[0].join()
        assert account.balance == 0

    before = made_earlier, made_earlier_too, sleep, Lock, local_made_earlier
    run_threads(program)
    assert log == [0, 10, "notified"]
    after = made_earlier, made_earlier_too, sleep, Lock, local_made_earlier
    assert all(old is new for old, new in zip(before, after, strict=True))


def test_everything_is_put_back() -> None:
    import _thread
    import concurrent.futures.thread as pool
    import os
    import select
    import selectors
    import socket
    import subprocess

    def snapshot() -> dict[tuple[str, str], int]:
        owners = [_thread, threading, queue, time, selectors, select, socket, os, pool, subprocess.Popen]
        owners += [threading.Thread, threading.Event, threading.Condition, threading.Semaphore, socket.socket]
        return {(owner.__name__, name): id(value) for owner in owners for name, value in vars(owner).items()}

    before = snapshot()
    with green_threads():
        assert snapshot() != before
    assert snapshot() == before
    with pytest.raises(ZeroDivisionError), green_threads():
        raise ZeroDivisionError
    assert snapshot() == before


def test_one_installation_serves_many_kernels() -> None:
    def program() -> int:
        total: list[int] = []

        def add() -> None:
            with made_earlier:
                total.append(1)
                time.sleep(1)

        start_and_join(add, add, add)
        return len(total)

    with green_threads():
        for _ in range(3):
            kernel = lkl_start_kernel(as_main(program), clock="virtual", loglevel=0)
            assert kernel.run() == 3


def test_a_second_installation_is_refused() -> None:
    with green_threads(), pytest.raises(ThreadsInstalled, match="one installation serves"), green_threads():
        pass
    kernel = lkl_start_kernel(lambda: None, clock="virtual", loglevel=0)
    kernel.run()
    with pytest.raises(KernelHalted), green_threads(kernel):
        pass


def test_outside_kernels_everything_works_as_before() -> None:
    with green_threads():
        lock, event, items = threading.Lock(), threading.Event(), queue.SimpleQueue()
        lock.acquire()

        def other() -> None:
            with lock:
                items.put(threading.current_thread().name)
                event.set()

        thread = threading.Thread(target=other, name="native")
        thread.start()
        assert not event.wait(0.01)
        lock.release()
        assert event.wait(10)
        thread.join(10)
        assert items.get(timeout=10) == "native"
        assert not thread.is_alive()
        assert lock.acquire(timeout=0.01)
        assert not lock.acquire(timeout=0.01)
        lock.release()
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(abs, [-1, -2])) == [1, 2]


# -- trouble


def test_a_deadlock_names_who_holds_and_who_waits() -> None:
    def program() -> None:
        first, second = threading.Lock(), threading.Lock()

        def one() -> None:
            with first:
                time.sleep(1)
                with second:
                    pass

        def two() -> None:
            with second:
                time.sleep(1)
                with first:
                    pass

        for thread in start(one, two, names="one two"):
            thread.join()

    with pytest.raises(Deadlock) as caught:
        run_threads(program)
    report = str(caught.value)
    assert "task one-4: UNINTERRUPTIBLE, waiting for <locked Lock object held by two-5" in report
    assert "task two-5: UNINTERRUPTIBLE, waiting for <locked Lock object held by one-4" in report
    assert "with second:" in report


def test_threads_are_waited_for_at_the_end_and_daemons_are_not(log: list[Any]) -> None:
    def program() -> None:
        def work() -> None:
            time.sleep(5)
            log.append("worker")

        def for_ever() -> None:
            try:
                threading.Event().wait()
            finally:
                log.append("daemon ends")

        threading.Thread(target=for_ever, daemon=True).start()
        start(work)

    run_threads(program)
    assert log == ["worker", "daemon ends"]


def test_a_daemon_that_is_ended_releases_what_it_held(log: list[Any]) -> None:
    condition = threading.Condition()

    def program() -> None:
        def wait() -> None:
            with condition:
                try:
                    condition.wait()
                finally:
                    log.append("ended")

        for _ in range(2):
            threading.Thread(target=wait, daemon=True).start()
        time.sleep(1)

    run_threads(program)
    run_threads(program)
    assert log == ["ended"] * 4


def test_an_exception_in_a_thread_goes_to_the_hook_and_ends_only_the_thread(
    log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: log.append((args.thread.name, args.exc_type)))

    def program() -> str:
        def fail() -> None:
            raise ZeroDivisionError

        def leave() -> None:
            raise SystemExit

        for thread in start(fail, leave, names="failing leaving"):
            thread.join()
        return "went on"

    assert run_threads(program) == "went on"
    assert log == [("failing", ZeroDivisionError)] or log == [("failing", ZeroDivisionError), ("leaving", SystemExit)]


def test_an_exception_in_the_main_thread_leaves_after_the_others_have_ended(log: list[Any]) -> None:
    def program() -> None:
        start(lambda: (time.sleep(3), log.append("other")))
        raise ZeroDivisionError("main")

    with pytest.raises(ZeroDivisionError, match="main"):
        run_threads(program)
    assert log == ["other"]


def test_a_loop_that_only_looks_lets_the_others_run_and_time_pass() -> None:
    def program() -> tuple[int, bool]:
        done: list[str] = []
        mutex = threading.Lock()
        looks = 0

        def work() -> None:
            time.sleep(0.05)
            with mutex:
                done.append("slept")
            while len(done) < 2:
                mutex.acquire()
                mutex.release()

        thread = start(work)[0]
        while True:
            with mutex:
                looks += 1
                if done:
                    break
        done.append("seen")
        while thread.is_alive():
            pass
        return looks, time.monotonic() >= 0.05

    looks, time_has_passed = run_threads(program)
    assert looks > 1
    assert time_has_passed


def test_misuse_is_told_as_python_tells_it() -> None:
    def program() -> None:
        thread = threading.Thread(target=lambda: None)
        with pytest.raises(RuntimeError, match="before it is started"):
            thread.join()
        thread.start()
        with pytest.raises(RuntimeError, match="only be started once"):
            thread.start()
        with pytest.raises(RuntimeError, match="current thread"):
            threading.current_thread().join()
        with pytest.raises(RuntimeError, match="release unlocked lock"):
            threading.Lock().release()
        with pytest.raises(ValueError, match="non-negative"):
            time.sleep(-1)

    run_threads(program)


# -- what is the same whatever a thread is made of


def test_every_configuration_tells_the_same_story(configuration: dict[str, Any], log: list[Any]) -> None:
    def program() -> None:
        mutex, turns = threading.RLock(), threading.Semaphore(2)

        def work(name: str) -> None:
            for turn in range(3):
                with turns, mutex:
                    log.append((name, turn, round(time.monotonic(), 2)))
                    time.sleep(0.25)

        start_and_join(*(lambda name=name: work(name) for name in "abc"))

    run_threads(program)
    told, log[:] = list(log), []
    run_threads(program, **configuration)
    assert log == told
    assert [when for _, _, when in told] == [0.25 * number for number in range(9)]


# -- escapes


def test_what_would_stop_the_kernel_is_an_escape() -> None:
    import os
    import select
    import socket
    import subprocess

    def program() -> None:
        ours, theirs = socket.socketpair()
        try:
            for call in (
                lambda: ours.recv(1),
                lambda: socket.create_connection(("localhost", 9)),
                lambda: subprocess.run(["true"], check=False),
                lambda: os.system("true"),
                lambda: select.select([ours], [], []),
            ):
                with pytest.raises(Escape, match="stop the whole kernel"):
                    call()
            ours.setblocking(False)
            theirs.setblocking(False)
            assert theirs.send(b"x") == 1
            assert ours.recv(1) == b"x"
            assert select.select([ours], [], [], 0) == ([], [], [])
        finally:
            ours.close()
            theirs.close()

    run_threads(program)


def test_a_lock_held_outside_is_an_escape() -> None:
    with green_threads():
        lock = threading.Lock()
        lock.acquire()

        def program() -> None:
            assert not lock.acquire(blocking=False)
            with pytest.raises(Escape, match="held outside the kernel"):
                lock.acquire()

        lkl_start_kernel(program, clock="virtual", loglevel=0).run()
        lock.release()


def test_a_native_lock_that_blocks_is_an_escape_and_no_hang() -> None:
    hidden = [threading.Lock()]
    hidden[0].acquire()  # held, so that it is left as it is
    native_acquire = hidden[0].acquire

    def program() -> None:
        with pytest.raises(Escape, match=r"test_threads\.py"):
            native_acquire(timeout=20)

    run_threads(program, watch_s=0.1)


def test_an_os_thread_that_wakes_a_kernel_thread_is_an_escape() -> None:
    with green_threads():
        event = threading.Event()
        kernel = lkl_start_kernel(as_main(event.wait), clock="virtual", loglevel=0, open_ended=True)
        kernel.lkl_run()
        caught: list[BaseException] = []

        def wake() -> None:
            try:
                event.set()
            except Escape as error:
                caught.append(error)

        native = threading.Thread(target=wake)
        native.start()
        native.join(10)
        assert "start the other thread inside" in str(caught[0])
        event.clear()
        event.set()  # the application itself may, between two runs
        kernel.lkl_run()
        assert kernel.halted


def test_what_cannot_be_replaced_is_named() -> None:
    held = native_things.lock
    held.acquire()
    try:
        with green_threads() as replacements:
            assert any("is held" in text for text in replacements.unhandled)
    finally:
        held.release()


class Things:
    def __init__(self) -> None:
        self.lock = threading.Lock()


native_things = Things()
