"""The block device inside asyncio: kernel threads read and checksum, tasks of the loop take the results.

    python examples/20_asyncio.py [FILE [BLOCK_SIZE [WORKERS]]]

    asyncio                                   kernel
    async for number, data in fifo   <-----   worker/N: read a block, put it into the fifo
    hash in order                             worker/N: to_host_thread(pread) ---> OS thread of the loop's pool

The workers are straight-line code that sleeps: in `to_host_thread()` until an OS thread has read the block, in `put()`
while the fifo is full. The loop runs on meanwhile, which a ticking task proves. Only `main()` knows that the loop
is asyncio's; example 21 runs it on trio.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import zlib
from itertools import count

import anyio

from lkl_green import lkl_start_kernel
from lkl_green.embed import Embedded, running, to_host_thread
from lkl_green.linux import KFifo, Mutex, kthread_run


def worker(fd: int, size: int, numbers: count[int], blocks: KFifo, lock: Mutex) -> None:
    """Thread function: read the next block until there is none."""
    while True:
        with lock:
            number = next(numbers)
        data = to_host_thread(os.pread, fd, size, number * size)
        blocks.put((number, data))
        if not data:
            return


def start_workers(fd: int, size: int, workers: int) -> KFifo:
    """In a kernel thread: start the others."""
    numbers, blocks, lock = count(), KFifo(4, name="blocks"), Mutex(name="numbers")
    for number in range(workers):
        kthread_run(worker, fd, size, numbers, blocks, lock, name=f"worker/{number}")
    return blocks


async def checksum(k: Embedded, path: str, size: int, workers: int) -> None:
    """Hash what the workers read, in the order of the file."""
    fd = os.open(path, os.O_RDONLY)
    digest, ready, wanted, ended = hashlib.sha256(), {}, 0, 0
    try:
        async for number, data in k.iterate(await k.call(start_workers, fd, size, workers)):
            ready[number] = data
            while ready.get(wanted):
                block = ready.pop(wanted)
                print(f"block {wanted}: {len(block)} bytes, CRC-32 {zlib.crc32(block):08x}")
                digest.update(block)
                wanted += 1
            ended += not data
            if ended == workers:
                break
    finally:
        os.close(fd)
    print(f"{digest.hexdigest()}  {path}")


async def tick(ticks: list[float]) -> None:
    """Something else that the loop does."""
    while True:
        ticks.append(anyio.current_time())
        await anyio.sleep(0)


async def program(path: str = "examples/data/tide.txt", size: str = "512", workers: str = "3") -> None:
    """Run the kernel and the other task side by side."""
    ticks: list[float] = []
    async with running(lkl_start_kernel()) as k, anyio.create_task_group() as group:
        group.start_soon(tick, ticks)
        await checksum(k, path, int(size), int(workers))
        group.cancel_scope.cancel()
    print("meanwhile the loop has done other things" if len(ticks) > 3 else "the loop was blocked")


def main() -> None:
    asyncio.run(program(*sys.argv[1:]))


if __name__ == "__main__":
    main()
