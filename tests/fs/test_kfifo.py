"""KFifo: elements between kernel threads, handlers and watchers; a model that agrees."""

from __future__ import annotations

import errno
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkl_green import Deadlock, lkl_start_kernel
from lkl_green.linux import (
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    KFifo,
    allow_signal,
    current_kernel,
    kthread_run,
    ktime_get,
    msleep,
    request_irq,
    send_sig,
)


def test_elements_come_out_in_order_and_are_counted(run):
    def init():
        fifo = KFifo(3, name="jobs")
        for element in ("a", None, 3):
            fifo.put(element)
        assert fifo.is_full
        assert (len(fifo), fifo.nr_in, fifo.nr_out) == (3, 3, 0)
        assert fifo.peek() == "a"
        assert repr(fifo) == "<KFifo jobs 3 of 3>"
        assert [fifo.get(), fifo.get(), fifo.get()] == ["a", None, 3]
        assert fifo.is_empty
        assert fifo
        assert (len(fifo), fifo.nr_in, fifo.nr_out) == (0, 3, 3)

    run(init)


def test_producer_and_consumer_wait_for_each_other(run, log):
    def init():
        def producer():
            for number in range(6):
                fifo.put(number)
                log.append(f"put {number}")
            fifo.close()

        fifo = KFifo(2)
        kthread_run(producer)
        for number in fifo:
            log.append(f"got {number}")
        return log.index("got 0") < log.index("put 5")

    assert run(init) is True
    assert sorted(log) == sorted(f"{what} {number}" for what in ("put", "got") for number in range(6))


def test_several_getters_are_served_one_by_one(run, log):
    def init():
        def getter(name):
            for element in fifo:
                log.append((name, element))
            log.append((name, "end"))

        fifo = KFifo(10)
        for name in "abc":
            kthread_run(getter, name)
        msleep(1)
        for number in range(4):
            fifo.put(number)
        msleep(1)
        assert fifo.nr_out == 4
        fifo.close()
        msleep(1)
        assert log[4:] == [("a", "end"), ("b", "end"), ("c", "end")]

    run(init)
    # The last one came when everybody had been served: it is a's, who is the first to come back.
    assert log[:4] == [("a", 0), ("a", 3), ("b", 1), ("c", 2)]


def test_a_full_fifo_wakes_as_many_putters_as_there_are_places(run, log):
    def init():
        fifo = KFifo(2)
        for number in range(6):
            kthread_run(lambda number=number: (fifo.put(number), log.append(number)))
        msleep(1)
        assert log == [0, 1]
        assert [fifo.get(), fifo.get()] == [0, 1]
        msleep(1)
        assert log == [0, 1, 2, 3]
        assert [fifo.get() for _ in range(4)] == [2, 3, 4, 5]

    run(init)


def test_without_sleeping(run):
    def init():
        fifo = KFifo(1)
        with pytest.raises(BlockingIOError):
            fifo.try_get()
        with pytest.raises(BlockingIOError):
            fifo.peek()
        assert fifo.try_put(1) is True
        assert fifo.try_put(2) is False
        assert fifo.try_get() == 1

    run(init)


def test_timeouts(run):
    def init():
        fifo = KFifo(1)
        start = ktime_get()
        with pytest.raises(TimeoutError) as caught:
            fifo.get(timeout_ns=5_000_000)
        assert caught.value.errno == errno.ETIME
        fifo.put(1, timeout_ns=1)
        with pytest.raises(TimeoutError):
            fifo.put(2, timeout_ns=5_000_000)
        with pytest.raises(TimeoutError):
            fifo.put(2, timeout_ns=0)
        assert fifo.get(timeout_ns=0) == 1
        return ktime_get() - start

    assert 10_000_000 <= run(init) < 11_000_000


def test_a_closed_fifo_can_be_emptied(run, log):
    def init():
        def putter():
            with pytest.raises(BrokenPipeError):
                fifo.put("too late")
            log.append("refused")

        fifo = KFifo(2)
        fifo.put(1)
        fifo.put(2)
        kthread_run(putter)
        msleep(1)
        fifo.close()
        fifo.close()
        msleep(1)
        with pytest.raises(BrokenPipeError):
            fifo.try_put(3)
        assert [*fifo] == [1, 2]
        with pytest.raises(EOFError):
            fifo.get()
        with pytest.raises(EOFError):
            fifo.try_get()

    run(init)
    assert log == ["refused"]


def test_an_interrupt_handler_puts(run):
    def init():
        fifo = KFifo(4)
        request_irq(3, fifo.try_put, "device")
        kernel = current_kernel()
        taken = []
        kthread_run(lambda: taken.append(fifo.get()))
        msleep(1)
        kernel.lkl_trigger_irq(3)
        msleep(1)
        return taken

    assert run(init) == [3]


def test_an_element_for_somebody_who_is_killed_is_the_next_ones(boot):
    """The halting kernel kills a getter that was served and has not run since."""

    def init():
        def getter():
            fifo.get()

        fifo = KFifo(1)
        fifos.append(fifo)
        kthread_run(getter)
        msleep(1)
        fifo.put("for the getter")
        assert (fifo.nr_out, len(fifo)) == (1, 0)

    fifos: list[KFifo[str]] = []
    boot(init).run()
    assert (fifos[0].nr_out, fifos[0].peek()) == (0, "for the getter")


def test_a_signal_ends_the_wait(run, log):
    def init():
        def getter():
            allow_signal(10)
            with pytest.raises(InterruptedError):
                fifo.get()
            log.append("interrupted")

        fifo = KFifo(1)
        task = kthread_run(getter)
        msleep(1)
        send_sig(10, task)
        msleep(1)
        fifo.put("is nobody's yet")
        return fifo.get()

    assert run(init) == "is nobody's yet"
    assert log == ["interrupted"]


def test_who_must_not_sleep_watches(run):
    class Watcher:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def file_changed(self, events: int) -> None:
            self.seen.append(events)

        def file_released(self) -> None:
            raise AssertionError("a fifo is never released")

    def init():
        fifo, watcher = KFifo(1), Watcher()
        fifo.f_wq.add_watcher(watcher)
        polls = [fifo.poll()]
        for change in (lambda: fifo.put(1), fifo.get, fifo.close):
            change()
            polls.append(fifo.poll())
        return watcher.seen, polls

    assert run(init) == (
        [EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT | EPOLLHUP],
        [EPOLLOUT, EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLHUP],
    )


def test_nobody_puts_is_a_deadlock_with_a_name(boot):
    with pytest.raises(Deadlock, match="getters of <KFifo jobs 0 of 1>"):
        boot(lambda: KFifo(1, name="jobs").get()).run()


def test_a_size_that_is_none(run):
    def init():
        with pytest.raises(ValueError, match="at least one"):
            KFifo(0)

    run(init)


def test_a_fan_out_has_the_same_trace_everywhere(parity):
    def init():
        def worker():
            for job in jobs:
                results.put(job * job)

        jobs, results = KFifo(2), KFifo(2)
        for number in range(3):
            kthread_run(worker, name=f"worker/{number}")

        def feeder():
            for job in range(12):
                jobs.put(job)
            jobs.close()

        kthread_run(feeder)
        assert sorted(results.get() for _ in range(12)) == [job * job for job in range(12)]

    parity(init)


class Model:
    """Elements, and who would wait: `happens` is what the waiting threads will say."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.elements: deque[int] = deque()
        self.putters: deque[int] = deque()
        self.getters = 0
        self.closed = False
        self.happens: list[object] = []

    def put(self, element: int) -> None:
        if self.closed:
            self.happens.append(("refused", element))
        elif self.getters:
            self.getters -= 1
            self.happens.append(("got", element))
        else:
            (self.elements if len(self.elements) < self.size else self.putters).append(element)

    def get(self) -> None:
        if self.elements:
            self.happens.append(("got", self.elements.popleft()))
            if self.putters:
                self.elements.append(self.putters.popleft())
        elif self.closed:
            self.happens.append("end")
        else:
            self.getters += 1

    def close(self) -> None:
        self.closed = True
        self.happens += ["end"] * self.getters + [("refused", element) for element in self.putters]
        self.getters = 0
        self.putters.clear()


def put_and_say(fifo, element, said):
    try:
        fifo.put(element)
    except BrokenPipeError:
        said.append(("refused", element))


def get_and_say(fifo, said):
    try:
        said.append(("got", fifo.get()))
    except EOFError:
        said.append("end")


@settings(max_examples=150, deadline=None)
@given(size=st.integers(1, 4), steps=st.lists(st.sampled_from(["put", "get", "close"]), max_size=30))
def test_a_fifo_follows_the_model(size, steps):
    def init():
        fifo, model, said = KFifo(size), Model(size), []
        for number, step in enumerate(steps):
            if step == "put":
                kthread_run(put_and_say, fifo, number, said)
                model.put(number)
            elif step == "get":
                kthread_run(get_and_say, fifo, said)
                model.get()
            else:
                fifo.close()
                model.close()
            msleep(1)
            assert said == model.happens, step
            assert len(fifo) == len(model.elements) == fifo.nr_in - fifo.nr_out
            if model.elements:
                assert fifo.peek() == model.elements[0]
        fifo.close()

    lkl_start_kernel(init, clock="virtual", loglevel=0).run()
