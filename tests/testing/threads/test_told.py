"""What reports tell those who use `threading`: their queues, and no lost wake-ups where none can be lost."""

from __future__ import annotations

import queue
import threading

import pytest

from lkl_green.testing import Verdict, explore


def one_sentinel_for_two_workers() -> None:
    work: queue.Queue[object] = queue.Queue()
    threads = [threading.Thread(target=work.get, name=f"w{number}") for number in range(2)]
    for thread in threads:
        thread.start()
    work.put(None)
    for thread in threads:
        thread.join()


def test_a_queue_is_told_as_a_queue() -> None:
    failure = explore(one_sentinel_for_two_workers, threads=True).failure
    assert failure is not None
    assert failure.verdict is Verdict.DEADLOCK
    first, second = ("w0", "w1") if "w1 waits" in failure.detail else ("w1", "w0")
    assert f"{second} waits in Queue#1.get(): the queue is empty; {first} has taken the last item" in failure.detail
    assert "lost wake-up" not in failure.detail
    assert "Condition#" not in failure.detail.partition("\n    ")[0]


def test_a_full_queue_and_one_that_is_joined() -> None:
    def program() -> None:
        full: queue.Queue[int] = queue.Queue(1)
        threading.Thread(target=full.join).start()
        full.put(1)
        full.put(2)

    failure = explore(program, threads=True).failure
    assert failure is not None
    assert "main waits in Queue#1.put(): the queue is full, with 1 items" in failure.detail


@pytest.mark.parametrize("loops", [False, True])
def test_a_wake_up_is_lost_only_where_the_wait_does_not_look_again(loops: bool) -> None:
    def program() -> None:
        condition, ready = threading.Condition(), [False]

        def wait() -> None:
            with condition:
                if loops:
                    while not ready[0]:
                        condition.wait()
                else:
                    condition.wait()

        thread = threading.Thread(target=wait, name="waiter")
        thread.start()
        with condition:
            condition.notify()
        thread.join()

    failure = explore(program, threads=True).failure
    assert failure is not None
    assert ("lost wake-up?" in failure.detail) is not loops
