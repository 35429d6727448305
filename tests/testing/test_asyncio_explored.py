"""asyncio explored: which task of an event loop goes on is a decision, and so is a cancellation where it waits."""

from __future__ import annotations

import asyncio
import json
import selectors
import subprocess
import sys
import threading

import pytest

from lkl_green.testing import Outcome, Schedule, Verdict, explore, replay
from lkl_green.testing.stray_loops import refusing_loops

Order = tuple[object, ...]


class Counter:
    """Something that tasks share."""

    def __init__(self) -> None:
        self.n = 0


# -- races


def lost_update() -> None:
    counter = Counter()

    async def add() -> None:
        seen = counter.n
        await asyncio.sleep(0)
        counter.n = seen + 1

    async def main() -> None:
        await asyncio.gather(add(), add())
        assert counter.n == 2

    asyncio.run(main())


def reads_before_it_is_set() -> None:
    """It never fails in a loop that is first in, first out."""
    counter = Counter()

    async def write() -> None:
        counter.n = 1

    async def read() -> None:
        assert counter.n == 1

    async def main() -> None:
        await asyncio.gather(asyncio.create_task(write(), name="writer"), asyncio.create_task(read(), name="reader"))

    asyncio.run(main())


def test_a_race_of_two_coroutines_is_found_by_default() -> None:
    failure = explore(lost_update).failure
    assert failure is not None
    assert failure.verdict is Verdict.FAILED
    assert replay(lost_update, failure.schedule) is not None


@pytest.mark.parametrize("policy", ["default", "pos", "pct", "random", "surw", "dfs", "preemption-bound", "portfolio"])
def test_a_race_that_needs_another_order_is_found(policy: str) -> None:
    failure = explore(reads_before_it_is_set, policy=policy, schedules=100).failure
    assert failure is not None
    again = replay(reads_before_it_is_set, Schedule.loads(failure.schedule.dumps()))
    assert again is not None
    assert again.headline() == failure.headline()


def test_the_report_has_a_column_for_each_task_and_says_that_the_order_is_not_that_of_call_soon() -> None:
    failure = explore(reads_before_it_is_set).failure
    assert failure is not None
    text = failure.text()
    head = next(line for line in text.splitlines() if line.startswith("step"))
    assert {"Task-1", "reader"} <= set(head.split())
    assert "base_events.py" not in text.partition("step ")[2]
    assert 'loop_order="fifo"' in text


def test_an_await_is_a_step_at_its_line() -> None:
    failure = explore(lost_update).failure
    assert failure is not None
    awaits = [step for step in failure.steps if step.op == "await" and step.where is not None]
    assert "await asyncio.sleep(0)" in [step.where.text for step in awaits if step.where is not None]


def test_a_loop_that_is_first_in_first_out_has_one_order() -> None:
    report = explore(reads_before_it_is_set, loop_order="fifo", policy="dfs")
    assert report.outcome is Outcome.EXHAUSTED
    assert report.schedules == 1


def test_an_older_schedule_file_replays_in_the_order_of_its_time() -> None:
    failure = explore(lost_update).failure
    assert failure is not None
    data = json.loads(failure.schedule.dumps())
    assert data["options"]["loop_order"] == "tasks"
    del data["options"]["loop_order"]
    assert Schedule.loads(json.dumps(data)).settings.loop_order == "fifo"


def test_a_loop_order_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="loop_order='lifo': use 'tasks' or 'fifo'"):
        explore(lost_update, loop_order="lifo")


# -- which orders there are


def orders_of(test: object, **options: object) -> set[Order]:
    """The orders that `test(seen)` appends to `seen`."""
    seen: set[Order] = set()
    report = explore(lambda: seen.add(tuple(test())), **options)  # type: ignore[operator, arg-type]
    assert report.passed, report.text()
    return seen


def puts_and_gets() -> list[int]:
    got: list[int] = []

    async def main() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def get_two() -> None:
            got.append(await queue.get())
            got.append(await queue.get())

        await asyncio.gather(queue.put(1), queue.put(2), get_two())

    asyncio.run(main())
    return got


def sleeps() -> list[int]:
    got: list[int] = []

    async def sleep(number: int) -> None:
        await asyncio.sleep(1)
        got.append(number)

    async def main() -> None:
        await asyncio.gather(sleep(1), sleep(2))

    asyncio.run(main())
    return got


def timers_of_one_moment() -> list[int]:
    got: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        when = loop.time() + 1
        loop.call_at(when, got.append, 1)
        loop.call_at(when, got.append, 2)
        loop.call_at(when + 1, got.append, 3)
        await asyncio.sleep(3)

    asyncio.run(main())
    return got


def completions_from_threads() -> list[int]:
    got: list[int] = []

    async def complete(number: int) -> None:
        await asyncio.to_thread(int)
        got.append(number)

    async def main() -> None:
        await asyncio.gather(complete(1), complete(2))

    asyncio.run(main())
    return got


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (puts_and_gets, {(1, 2), (2, 1)}),
        (sleeps, {(1, 2), (2, 1)}),
        (timers_of_one_moment, {(1, 2, 3), (2, 1, 3)}),
        (completions_from_threads, {(1, 2), (2, 1)}),
    ],
)
def test_each_order_comes(test: object, expected: set[Order]) -> None:
    assert orders_of(test, schedules=30, threads=True, points="sync") == expected


def ordered_callbacks() -> list[int]:
    got: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        for number in range(3):
            loop.call_soon(got.append, number)
        for number in range(3, 6):
            future.add_done_callback(lambda _future, number=number: got.append(number))
        future.set_result(None)
        await asyncio.sleep(1)

    asyncio.run(main())
    return got


def waiters_of_one_future() -> list[int]:
    got: list[int] = []

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()

        async def wait(number: int) -> None:
            await future
            got.append(number)

        first = asyncio.create_task(wait(1))
        await asyncio.sleep(0.5)
        second = asyncio.create_task(wait(2))
        await asyncio.sleep(0.5)
        future.set_result(None)
        await asyncio.gather(first, second)

    asyncio.run(main())
    return got


@pytest.mark.parametrize(
    ("test", "expected"), [(ordered_callbacks, {(0, 1, 2, 3, 4, 5)}), (waiters_of_one_future, {(1, 2)})]
)
def test_what_asyncio_is_built_on_stays_in_order(test: object, expected: set[Order]) -> None:
    assert orders_of(test, schedules=30, threads=True) == expected


def step_by_step() -> None:
    """Notes which task takes each step."""
    steps: list[int] = []

    async def take(number: int) -> None:
        for _ in range(3):
            steps.append(number)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(take(1), take(2), take(3))

    asyncio.run(main())
    interleavings.append(tuple(steps))


interleavings: list[Order] = []


def test_nearly_every_schedule_is_another_order() -> None:
    """Of 100 draws out of the 1680 orders that there are, few are equal."""
    interleavings.clear()
    assert explore(step_by_step, schedules=100, policy="pos", threads=True, points="sync").passed
    assert len(set(interleavings)) > 70


# -- correct programs


def synchronised() -> None:
    """Every primitive of asyncio, used as it should be."""

    async def main() -> None:
        condition, queue = asyncio.Condition(), asyncio.Queue[int](1)
        lock, event = asyncio.Lock(), asyncio.Event()
        counter, ready = Counter(), Counter()
        items: list[int] = []

        async def add() -> None:
            async with lock:
                seen = counter.n
                await asyncio.sleep(0)
                counter.n = seen + 1
            async with condition:
                ready.n += 1
                condition.notify_all()

        async def put() -> None:
            for number in range(3):
                await queue.put(number)
            event.set()

        async def get() -> None:
            while len(items) < 3:
                items.append(await queue.get())
            await event.wait()

        async with asyncio.TaskGroup() as group:
            for function in (add, add, put, get):
                group.create_task(function())
            async with condition:
                await condition.wait_for(lambda: ready.n == 2)
        assert (counter.n, items) == (2, [0, 1, 2])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(event.wait() if not event.is_set() else asyncio.sleep(10), 1)

    asyncio.run(main())


def test_a_correct_program_passes() -> None:
    report = explore(synchronised, schedules=100)
    assert report.passed, report.text()


def stream_echo() -> None:
    """A server and two clients, over loopback."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.readline():
                writer.write(data)
                await writer.drain()
            writer.close()

        async def ask(client: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for number in range(2):
                line = b"%d of %d\n" % (number, client)
                writer.write(line)
                await writer.drain()
                assert await reader.readline() == line
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await asyncio.gather(ask(1), ask(2))
        server.close()
        await asyncio.sleep(1)

    asyncio.run(main())


def test_a_stream_echo_passes() -> None:
    report = explore(stream_echo, schedules=20, points="sync", threads=True)
    assert report.passed, report.text()


# -- deadlocks


def crossed_locks() -> None:
    async def main() -> None:
        one, two = asyncio.Lock(), asyncio.Lock()

        async def take(first: asyncio.Lock, second: asyncio.Lock) -> None:
            async with first:
                await asyncio.sleep(0)
                async with second:
                    pass

        tasks = [
            asyncio.create_task(take(one, two), name="ann"),
            asyncio.create_task(take(two, one), name="ben"),
        ]
        await asyncio.wait(tasks)

    asyncio.run(main())


def test_a_deadlock_of_tasks_says_who_waits_for_what() -> None:
    failure = explore(crossed_locks).failure
    assert failure is not None
    assert failure.verdict is Verdict.DEADLOCK
    for name in ("ann", "ben"):
        line = next(line.strip() for line in failure.detail.splitlines() if line.strip().startswith(name))
        assert line.startswith(f"{name} waits for Lock.acquire(), at test_asyncio_explored.py:")
        assert line.endswith("async with second:")


# -- cancellation


class Bell:
    """As the `Condition` of asyncio before CPython mended it (gh-112202): each stroke wakes one waiter.

    Args:
        passes_on: a waiter that is cancelled after a stroke woke it, and before it goes on, wakes another one.
    """

    def __init__(self, passes_on: bool) -> None:
        self.passes_on = passes_on
        self.waiters: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if self.passes_on and waiter.done() and not waiter.cancelled():
                self.strike()
            raise
        finally:
            self.waiters.remove(waiter)

    def strike(self) -> None:
        waiter = next((waiter for waiter in self.waiters if not waiter.done()), None)
        if waiter is not None:
            waiter.set_result(None)


def a_stroke_serves_a_waiter(passes_on: bool) -> None:
    async def main() -> None:
        bell = Bell(passes_on)
        waiters = [asyncio.create_task(bell.wait(), name=f"waiter {number}") for number in range(2)]
        await asyncio.sleep(1)
        bell.strike()
        await asyncio.sleep(1)
        served = any(waiter.done() and not waiter.cancelled() for waiter in waiters)
        assert served or all(waiter.done() for waiter in waiters), "the stroke is lost"
        for waiter in waiters:
            waiter.cancel()

    asyncio.run(main())


def loses_a_stroke() -> None:
    a_stroke_serves_a_waiter(passes_on=False)


def passes_a_stroke_on() -> None:
    a_stroke_serves_a_waiter(passes_on=True)


def test_a_notification_that_a_cancellation_loses_is_found() -> None:
    assert explore(loses_a_stroke, schedules=30).passed
    failure = explore(loses_a_stroke, explore_cancel=True, schedules=200).failure
    assert failure is not None
    assert "the stroke is lost" in failure.error
    assert [step.actor.startswith("waiter") for step in failure.steps if step.op == "cancel"] == [True]
    assert replay(loses_a_stroke, Schedule.loads(failure.schedule.dumps())) is not None
    assert explore(passes_a_stroke_on, explore_cancel=True, schedules=100).passed


def lets_go_too_late() -> None:
    """The turn is given back by the last statement, which a cancelled task does not come to."""

    async def main() -> None:
        turn = asyncio.Semaphore(1)

        async def work() -> None:
            await turn.acquire()
            await asyncio.sleep(1)
            turn.release()

        await asyncio.wait([asyncio.create_task(work()) for _ in range(2)])
        await turn.acquire()

    asyncio.run(main())


@pytest.mark.parametrize("loop_order", ["tasks", "fifo"])
def test_a_program_that_a_cancellation_breaks_is_found(loop_order: str) -> None:
    assert explore(lets_go_too_late, schedules=20, loop_order=loop_order).passed
    failure = explore(lets_go_too_late, explore_cancel=True, schedules=50, loop_order=loop_order).failure
    assert failure is not None
    assert failure.verdict is Verdict.DEADLOCK


def survives_a_cancellation() -> None:
    async def main() -> None:
        turn = asyncio.Lock()

        async def work() -> None:
            async with turn:
                await asyncio.sleep(1)

        results = await asyncio.gather(*(work() for _ in range(3)), return_exceptions=True)
        cancelled.append(sum(isinstance(result, asyncio.CancelledError) for result in results))
        await turn.acquire()

    asyncio.run(main())


cancelled: list[int] = []


def test_at_most_one_task_is_cancelled_and_never_the_one_the_loop_is_run_for() -> None:
    cancelled.clear()
    assert explore(survives_a_cancellation, explore_cancel=True, schedules=40, points="sync", threads=True).passed
    assert set(cancelled) == {0, 1}


# -- names


def test_tasks_without_a_name_are_numbered_in_each_schedule() -> None:
    def names() -> list[str]:
        seen: list[str] = []

        async def tell() -> None:
            task = asyncio.current_task()
            assert task is not None
            seen.append(task.get_name())

        async def main() -> None:
            await asyncio.gather(tell(), asyncio.create_task(tell(), name="named"), tell())

        asyncio.run(main())
        return sorted(seen)

    assert len(orders_of(names, schedules=20, threads=True)) == 1


# -- with threads


def adds_in_threads() -> None:
    counter = Counter()

    def add() -> None:
        counter.n += 1

    async def main() -> None:
        await asyncio.gather(asyncio.to_thread(add), asyncio.to_thread(add))
        assert counter.n == 2

    asyncio.run(main())


def calls_a_loop_from_a_thread() -> None:
    got: list[int] = []

    async def say(number: int) -> None:
        got.append(number)
        await asyncio.sleep(0)
        got.append(-number)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=lambda: asyncio.run_coroutine_threadsafe(say(1), loop).result())
        thread.start()
        await say(2)
        await asyncio.to_thread(thread.join)
        assert got in ([1, -1, 2, -2], [2, -2, 1, -1])

    asyncio.run(main())


@pytest.mark.parametrize("test", [adds_in_threads, calls_a_loop_from_a_thread])
def test_threads_and_a_loop_are_explored_together(test: object) -> None:
    failure = explore(test, schedules=300).failure  # type: ignore[arg-type]
    assert failure is not None
    assert replay(test, failure.schedule) is not None  # type: ignore[arg-type]


# -- what cannot be explored


def test_a_loop_of_uvloop_is_refused_by_name() -> None:
    uvloop = pytest.importorskip("uvloop")

    def test() -> None:
        uvloop.new_event_loop()

    report = explore(test)
    assert report.failure is not None
    assert report.failure.verdict is Verdict.ESCAPED
    assert "uvloop.Loop()" in report.failure.error
    assert "use asyncio's own loop" in report.failure.error
    uvloop.new_event_loop().close()  # outside it works as before


@pytest.mark.parametrize("first", [0, 1])
def test_campaigns_in_several_os_threads_may_end_in_any_order(first: int) -> None:
    uvloop = pytest.importorskip("uvloop")
    before = selectors.DefaultSelector
    campaigns = [refusing_loops([]), refusing_loops([])]
    for campaign in campaigns:
        campaign.__enter__()
    for campaign in (campaigns[first], campaigns[1 - first]):
        campaign.__exit__(None, None, None)
    assert "__init__" not in vars(uvloop.Loop)
    assert selectors.DefaultSelector is before


def test_exploring_what_does_not_use_asyncio_does_not_import_it() -> None:
    program = "import sys; import lkl_green.testing; sys.exit('asyncio' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
