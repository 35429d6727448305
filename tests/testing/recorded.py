"""Programs of which failing schedules are kept in schedules/*.json: recorded once, replayed on each Python version."""

from __future__ import annotations

import threading

from lkl_green.kernel.current import current_kernel
from lkl_green.linux import (
    Completion,
    Mutex,
    Semaphore,
    SpinLock,
    Timer,
    WaitQueueHead,
    Work,
    kthread_run,
    msleep,
    schedule_work,
)
from lkl_green.testing import Shared, fault_point, random, spawn


def run_all(*functions):
    for thread in [spawn(function) for function in functions]:
        thread.join()


def lost_update():
    counter = Shared(0, "counter")

    def increment():
        counter.value += 1

    run_all(increment, increment)
    assert counter.peek() == 2


def abba():
    a, b = Mutex(name="a"), Mutex(name="b")

    def forwards():
        with a, b:
            pass

    def backwards():
        with b, a:
            pass

    run_all(forwards, backwards)


def threads():
    """An unlocked read, and a write under the lock."""
    counter = Shared(0, "counter")
    lock = threading.Lock()

    def increment():
        value = counter.value
        with lock:
            counter.value = value + 1

    started = [threading.Thread(target=increment) for _ in range(2)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert counter.peek() == 2


def fault_and_draw():
    """Fails on one draw of six, and then only if the disk fails."""
    dice = random.randrange(6)
    if fault_point("disk"):
        assert dice != 3, "the disk fails on a three"


def interrupt():
    """The handler sees what the thread has not finished."""
    kernel = current_kernel()
    head, tail = Shared(0, "head"), Shared(0, "tail")
    seen = []
    irq = kernel.lkl_get_free_irq("device")
    kernel.irq.request_irq(irq, lambda _irq: seen.append((head.peek(), tail.peek())), "device")
    try:
        kernel.lkl_trigger_irq(irq)
        head.value = 1
        tail.value = 1
        msleep(1)
    finally:
        kernel.irq.free_irq(irq, "device")
        kernel.lkl_put_irq(irq, "device")
    assert (1, 0) not in seen


def timers():
    """Two timers that are due at one moment, in either order."""
    order = []
    ended = Completion(name="ended")

    def expires(timer):
        order.append(timer.name)
        if len(order) == 2:
            ended.complete()

    due_ns = current_kernel().clock.peek_ns() + 5_000_000
    for name in ("first", "second"):
        Timer(expires, name=name).add_timer(due_ns)
    ended.wait_for_completion()
    assert order == ["first", "second"]


def kthreads_and_work():
    """A work item and a kthread, each with half of an update."""
    counter = Shared(0, "counter")
    ended = [Completion(name="work"), Completion(name="kthread")]

    def increment(which):
        counter.value += 1
        ended[which].complete()

    work = Work(lambda _work: increment(0))
    schedule_work(work)
    kthread_run(increment, 1, name="half/1")
    for completion in ended:
        completion.wait_for_completion()
    msleep(1)
    assert counter.peek() == 2


def renamed():
    """All operations whose kind had another name when renamed.json was recorded."""
    counter = Shared(0, "counter")
    room, go = threading.Semaphore(4), threading.Event()
    tokens, queue, spin = Semaphore(2, name="tokens"), WaitQueueHead(name="queue"), SpinLock(name="spin")

    def increment():
        with room:
            room.acquire(blocking=False)
            go.wait()
            queue.wait_event(go.is_set)
            tokens.down_trylock()
            if spin.trylock():
                spin.unlock()
            counter.value += 1

    go.set()
    started = [threading.Thread(target=increment) for _ in range(2)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert counter.peek() == 2


# What is recorded of each, besides the program: the options of explore().
PROGRAMS = {
    "lost_update": (lost_update, {}),
    "abba": (abba, {}),
    "threads": (threads, {"threads": True}),
    "fault_and_draw": (fault_and_draw, {}),
    "interrupt": (interrupt, {}),
    "timers": (timers, {}),
    "kthreads_and_work": (kthreads_and_work, {}),
    "sleeping": (lost_update, {"explore_time": True, "policy": "random"}),
}
