"""Producer and consumers with wait queues: a box with room for two items.

    lkl-green run examples/02_producer_consumer.py

`wait_event(queue, condition)` sleeps until the condition holds. Whoever makes a condition true wakes the queue. There
is no lock: only one kernel thread runs at a time, and between a test and the next line nobody else can run unless the
thread itself sleeps. The consumers wait exclusively, so that one new item wakes one of them, the one that has waited
longest.
"""

from __future__ import annotations

from collections import deque

from lkl_green.linux import WaitQueueHead, kthread_run, kthread_stop, msleep, printk, wait_event, wake_up

WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog")


class Box:
    """A bounded buffer."""

    def __init__(self, room: int) -> None:
        self.items: deque[str | None] = deque()
        self.room = room
        self.not_full = WaitQueueHead(name="not_full")
        self.not_empty = WaitQueueHead(name="not_empty")

    def put(self, item: str | None) -> None:
        """Add an item, once there is room."""
        wait_event(self.not_full, lambda: len(self.items) < self.room)
        self.items.append(item)
        wake_up(self.not_empty)

    def get(self) -> str | None:
        """Take the oldest item, once there is one."""
        self.not_empty.wait_event(lambda: self.items, exclusive=True)
        item = self.items.popleft()
        wake_up(self.not_full)
        return item


def produce(box: Box, consumers: int) -> None:
    for word in WORDS:
        box.put(word)
        printk(f"put {word!r}, {len(box.items)} in the box")
    for _ in range(consumers):
        box.put(None)


def consume(number: int, box: Box) -> int:
    eaten = 0
    while (word := box.get()) is not None:
        printk(f"consumer {number} takes {word!r}")
        msleep(10 * len(word))
        eaten += 1
    return eaten


def init(consumers: str = "2") -> None:
    box = Box(room=2)
    eaters = [kthread_run(consume, number, box, name="consume/%d") for number in range(int(consumers))]
    kthread_run(produce, box, len(eaters), name="produce")
    # kthread_stop() waits for each thread's end; these end by themselves.
    for number, eater in enumerate(eaters):
        printk(f"consumer {number} took {kthread_stop(eater)} words")
