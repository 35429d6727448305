"""WorkStealQueue (THE queue): a push may overwrite a slot that is being stolen from."""

from __future__ import annotations

from benchmarks.schedules.program import Program
from benchmarks.schedules.programs.shared import array, join
from lkl_green.linux import Mutex
from lkl_green.testing import Shared, spawn

INITIAL_SIZE = 2
MAX = 1024 * 1024
ITEMS = 4
STEALS = 2


class Item:
    """Something that is to be taken exactly once."""

    def __init__(self, number: int) -> None:
        self.field = Shared(0, f"item {number}")

    def take(self) -> None:
        self.field.value += 1


class WorkStealQueue:
    """The owner pushes and pops at the tail, thieves steal at the head."""

    def __init__(self) -> None:
        self._lock = Mutex(name="cs")
        self._head, self._tail = Shared(0, "head"), Shared(0, "tail")
        self._mask = Shared(INITIAL_SIZE - 1, "mask")
        self._elements: list[Shared[Item | None]] = array("elems", [None] * INITIAL_SIZE)

    def push(self, item: Item) -> None:
        tail = self._tail.value
        # The bug: one slot too many. It should be `tail < head + mask`.
        if tail < self._head.value + self._mask.value + 1 and tail < MAX:
            self._elements[tail & self._mask.value].value = item
            self._tail.value = tail + 1
        else:
            self._sync_push(item)

    def pop(self) -> Item | None:
        tail = self._tail.value - 1
        self._tail.value = tail
        if self._head.value <= tail:
            return self._elements[tail & self._mask.value].value
        self._tail.value = tail + 1
        return self._sync_pop()

    def steal(self) -> Item | None:
        with self._lock:
            head = self._head.value
            self._head.value = head + 1
            if head < self._tail.value:
                return self._elements[head & self._mask.value].value
            self._head.value = head
            return None

    def _sync_pop(self) -> Item | None:
        with self._lock:
            found = None
            tail = self._tail.value - 1
            self._tail.value = tail
            if self._head.value <= tail:
                found = self._elements[tail & self._mask.value].value
            else:
                self._tail.value = tail + 1
            if self._head.value > tail:
                self._head.value = 0
                self._tail.value = 0
                found = None
            return found

    def _sync_push(self, item: Item) -> None:
        with self._lock:
            head = self._head.value
            count = self._tail.value - head
            head &= self._mask.value
            self._head.value = head
            self._tail.value = head + count
            if count >= self._mask.value:
                self._grow(head, count)
            assert count < self._mask.value
            tail = self._tail.value
            self._elements[tail & self._mask.value].value = item
            self._tail.value = tail + 1

    def _grow(self, head: int, count: int) -> None:
        mask = self._mask.value
        grown: list[Shared[Item | None]] = array("elems", [None] * (2 * (mask + 1)))
        for index in range(count):
            grown[index].value = self._elements[(head + index) & mask].value
        self._elements = grown
        self._mask.value = 2 * mask + 1
        self._head.value = 0
        self._tail.value = count


def work_steal_queue() -> None:
    queue = WorkStealQueue()
    items = [Item(number) for number in range(ITEMS)]

    def steal() -> None:
        for _ in range(STEALS):
            stolen = queue.steal()
            if stolen is not None:
                stolen.take()

    def pop() -> None:
        popped = queue.pop()
        if popped is not None:
            popped.take()

    stealer = spawn(steal)
    for number in range(0, ITEMS, 2):
        queue.push(items[number])
        queue.push(items[number + 1])
        pop()
    for _ in range(ITEMS // 2):
        pop()
    join([stealer])
    for item in items:
        assert item.field.value == 1


PROGRAMS = (Program("WorkStealQueue", "WorkStealQueue", work_steal_queue),)
