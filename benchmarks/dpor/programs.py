"""The programs, each with its size and its number of traces under sequential consistency.

In each one the main thread initialises, starts the others, and joins them all. To take a lock is one operation; to give
it back, to start and to join are none.

`source` says by what a count is confirmed: "published": by published figures of other tools; "counted": by another
checker; "brute force": by this project, which counts the traces of all schedules (tests/testing/policies/test_dpor.py).
"""

from __future__ import annotations

from math import factorial
from typing import TYPE_CHECKING, NamedTuple

from lkl_green.linux import Mutex
from lkl_green.testing import Shared, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Row(NamedTuple):
    """A program with a known count.

    Attributes:
        name: of the program.
        size: what its maker takes.
        count: how many traces it has.
        program: the test that `explore()` runs.
        source: by what the count is confirmed.
        deadlocks: how many of the traces end in a deadlock.
    """

    name: str
    size: tuple[int, ...]
    count: int
    program: Callable[[], object]
    source: str
    deadlocks: int = 0

    def __str__(self) -> str:
        return "-".join([self.name, *map(str, self.size)])


def run(*functions: Callable[[], object]) -> None:
    """Run functions in a thread each, and wait for all."""
    for thread in [spawn(function, name="t") for function in functions]:
        thread.join()


# -- reads and writes


def readers(n: int) -> Callable[[], None]:
    """One thread writes, n read."""

    def program() -> None:
        x = Shared(0, "x")

        def write() -> None:
            x.value = 1

        run(write, *[lambda: x.value] * n)

    return program


def lastzero(n: int) -> Callable[[], None]:
    """Each of n threads makes its cell one more than the one before; a reader looks for the last that is 0."""

    def program() -> None:
        cells = [Shared(0, f"a{number}") for number in range(n + 1)]

        def look() -> None:
            at = n
            while cells[at].value:
                at -= 1

        def write(at: int) -> None:
            cells[at].value = cells[at - 1].value + 1

        run(look, *[lambda at=at: write(at) for at in range(1, n + 1)])  # type: ignore[misc]

    return program


def lastwrite(n: int, readers: int = 0) -> Callable[[], None]:
    """n threads write to one cell."""

    def program() -> None:
        x = Shared(0, "x")

        def write(number: int) -> None:
            x.value = number

        run(*[lambda number=number: write(number) for number in range(n)], *[lambda: x.value] * readers)  # type: ignore[misc]

    return program


def lost_update(n: int, times: int = 1) -> Callable[[], None]:
    """n threads read a cell and write one more to it."""

    def program() -> None:
        x = Shared(0, "x")

        def add() -> None:
            for _ in range(times):
                x.value += 1

        run(*[add] * n)

    return program


def store_buffer() -> None:
    """Two threads write their own cell and read the other's."""
    x, y = Shared(0, "x"), Shared(0, "y")

    def one(mine: Shared[int], other: Shared[int]) -> None:
        mine.value = 1
        _ = other.value

    run(lambda: one(x, y), lambda: one(y, x))


def message_passing() -> None:
    """One thread writes data, then a flag; the other reads the flag, then the data."""
    data, flag = Shared(0, "data"), Shared(0, "flag")

    def send() -> None:
        data.value = 1
        flag.value = 1

    def receive() -> None:
        if flag.value:
            _ = data.value

    run(send, receive)


def iriw() -> None:
    """Independent reads of independent writes."""
    x, y = Shared(0, "x"), Shared(0, "y")

    def write(cell: Shared[int]) -> None:
        cell.value = 1

    def read(first: Shared[int], second: Shared[int]) -> None:
        _ = first.value
        _ = second.value

    run(lambda: write(x), lambda: write(y), lambda: read(x, y), lambda: read(y, x))


def dekker() -> None:
    """Who sees the other's flag down writes and reads a cell."""
    flags, cell = (Shared(0, "f0"), Shared(0, "f1")), Shared(0, "c")

    def one(me: int) -> None:
        flags[me].value = 1
        if not flags[1 - me].value:
            cell.value = me
            _ = cell.value

    run(lambda: one(0), lambda: one(1))


# -- atomic operations


def increments(n: int, cells: int = 1) -> Callable[[], None]:
    """n threads add to each of some cells, in one operation."""

    def program() -> None:
        shared = [Shared(0, f"x{number}") for number in range(cells)]

        def add() -> None:
            for cell in shared:
                cell.fetch_add(1)

        run(*[add] * n)

    return program


def cas(n: int) -> Callable[[], None]:
    """n threads exchange 0 for their own value."""

    def program() -> None:
        x = Shared(0, "x")
        run(*[lambda me=me: x.compare_exchange(0, me) for me in range(1, n + 1)])  # type: ignore[misc]

    return program


def casw(n: int) -> Callable[[], None]:
    """n threads exchange 0 for 1, and then write their own value."""

    def program() -> None:
        x = Shared(0, "x")

        def one(me: int) -> None:
            x.compare_exchange(0, 1)
            x.value = me

        run(*[lambda me=me: one(me) for me in range(2, n + 2)])  # type: ignore[misc]

    return program


def indexer(n: int) -> Callable[[], None]:
    """n threads insert four values each into a hash table of 128 cells, with linear probing."""

    def program() -> None:
        table = [Shared(0, f"table{number}") for number in range(128)]

        def insert(me: int) -> None:
            for nth in range(4):
                value = 11 * nth + me
                at = 7 * value % 128
                while not table[at].compare_exchange(0, value + 1):
                    at = (at + 1) % 128

        run(*[lambda me=me: insert(me) for me in range(n)])  # type: ignore[misc]

    return program


# -- locks


def lock_counter(n: int, sections: int = 1) -> Callable[[], None]:
    """n threads add to a counter under a lock."""

    def program() -> None:
        lock, x = Mutex(), Shared(0, "x")

        def add() -> None:
            for _ in range(sections):
                with lock:
                    x.value += 1

        run(*[add] * n)

    return program


def filesystem(n: int) -> Callable[[], None]:
    """n threads take an inode each, and the first free block from one on for it."""

    def program() -> None:
        inodes, blocks = [Shared(0) for _ in range(32)], [Shared(False) for _ in range(26)]
        inode_locks, block_locks = [Mutex() for _ in inodes], [Mutex() for _ in blocks]

        def create(me: int) -> None:
            inode = me % 32
            with inode_locks[inode]:
                if not inodes[inode].value:
                    block = inode * 2 % 26
                    while not take(block, inode):
                        block = (block + 1) % 26

        def take(block: int, inode: int) -> bool:
            with block_locks[block]:
                if blocks[block].value:
                    return False
                blocks[block].value = True
                inodes[inode].value = block + 1
                return True

        run(*[lambda me=me: create(me) for me in range(n)])  # type: ignore[misc]

    return program


def philosophers(n: int) -> Callable[[], None]:
    """n philosophers take the left fork, then the right one."""

    def program() -> None:
        forks = [Mutex() for _ in range(n)]

        def eat(me: int) -> None:
            with forks[me], forks[(me + 1) % n]:
                pass

        run(*[lambda me=me: eat(me) for me in range(n)])  # type: ignore[misc]

    return program


def lazy01() -> None:
    """Two threads add under a lock, a third one looks."""
    lock, data = Mutex(), Shared(0, "data")

    def add(number: int) -> None:
        with lock:
            data.value += number

    def look() -> None:
        with lock:
            _ = data.value

    run(lambda: add(1), lambda: add(2), look)


def stateful01() -> None:
    """Two threads in two sections of two locks each."""
    locks, data = (Mutex(), Mutex()), (Shared(10, "d0"), Shared(10, "d1"))

    def one(first: int, second: int) -> None:
        with locks[0]:
            data[0].value += first
        with locks[1]:
            data[1].value += second

    run(lambda: one(1, 1), lambda: one(5, -6))


def deadlock01() -> None:
    """Two threads take two locks in contradicting orders."""
    locks, counter = (Mutex(), Mutex()), Shared(0, "counter")

    def one(first: int, second: int) -> None:
        with locks[first], locks[second]:
            counter.value += 1

    run(lambda: one(0, 1), lambda: one(1, 0))


def rows() -> Iterable[Row]:
    """All of them, from small to large within each program."""
    for n in (2, 3, 4, 8, 10, 13):
        yield Row("readers", (n,), 2**n, readers(n), "published" if n in (2, 4, 8, 13) else "counted")
    for n in (2, 3, 4, 5, 6, 7, 8, 10, 12):
        yield Row("lastzero", (n,), (n + 3) * 2**n // 4, lastzero(n), "published" if n in (5, 10) else "counted")
    for n in (2, 3, 4, 5, 6):
        yield Row("lastwrite", (n,), factorial(n), lastwrite(n), "counted")
        yield Row("lastwrite", (n, 1), factorial(n + 1), lastwrite(n, 1), "published")
        yield Row("increments", (n,), factorial(n), increments(n), "published")
        yield Row("cas", (n,), n, cas(n), "published")
        yield Row("lock_counter", (n,), factorial(n), lock_counter(n), "published")
    for n, count in ((2, 4), (3, 36), (4, 576)):
        yield Row("lost_update", (n,), count, lost_update(n), "published")
        yield Row("increments", (n, 2), count, increments(n, 2), "published")
    yield Row("lost_update", (2, 2), 34, lost_update(2, 2), "counted")
    yield Row("lost_update", (2, 3), 328, lost_update(2, 3), "counted")
    yield Row("lock_counter", (2, 2), 6, lock_counter(2, 2), "counted")
    for n, count in ((2, 6), (3, 66), (4, 1200)):
        yield Row("casw", (n,), count, casw(n), "published")
    for n in (10, 11, 12, 13, 15):
        yield Row("indexer", (n,), max(8 ** (n - 11), 1), indexer(n), "published")
    for n in (13, 14, 16, 18, 19):
        yield Row("filesystem", (n,), 2 ** (n - 13), filesystem(n), "published" if n == 19 else "counted")
    for n in (2, 3, 4, 5, 8):
        yield Row("philosophers", (n,), 2**n - 1, philosophers(n), "counted", deadlocks=1)
    yield Row("store_buffer", (), 3, store_buffer, "counted")
    yield Row("message_passing", (), 2, message_passing, "counted")
    yield Row("iriw", (), 15, iriw, "counted")
    yield Row("dekker", (), 3, dekker, "counted")
    yield Row("lazy01", (), 6, lazy01, "counted")
    yield Row("stateful01", (), 4, stateful01, "counted")
    yield Row("deadlock01", (), 3, deadlock01, "published", deadlocks=1)
